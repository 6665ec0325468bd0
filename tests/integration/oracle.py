"""What a cluster must hold, computed from Consul's catalogue alone: independent of isthmus, and simple.

It follows the words of the design, not its code: it reads other endpoints than isthmus does, knows nothing of
what was there before, and is as slow as it likes. It expects a registry in which nothing waits.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Any

from tests.testbed.consul_api import Registration

Listed = Sequence[tuple[Registration, dict[str, Any]]]  # with what the rules say
Picture = dict[tuple[str, str], dict[str, Any]]  # (kind, name) -> labels, spec, and whose it is

MANAGED = {"app.kubernetes.io/managed-by": "isthmus"}
PROTOCOLS = ("HTTP", "HTTP2", "GRPC", "HTTPS", "TCP", "TLS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """Whom it speaks for; ``rules`` are as they stand in the configuration, without their namespaces."""

    owner: str = "dc1"
    registry: str = "consul-dc1"
    domain: str = "mesh.internal"
    rules: Sequence[Mapping[str, Any]] = ()

    def picture(self, catalog: Iterable[Registration], cluster: str) -> Picture:
        """Say what a cluster must hold."""
        hosts: dict[str, list[tuple[Registration, dict[str, Any]]]] = {}
        for one in catalog:
            ruling = self._ruling(one)
            if not ruling.get("skip") and one.kind == "":
                hosts.setdefault(self._host(one, ruling), []).append((one, ruling))
        picture: Picture = {}
        for host, listed in hosts.items():
            wanted = [ruling.get("clusters") for _, ruling in listed]
            if not any(names is None or cluster in names for names in wanted):
                continue
            picture["ServiceEntry", host] = self._service_entry(host, listed)
            picture |= self._workload_entries(host, listed, cluster)
        return picture

    def _ruling(self, one: Registration) -> dict[str, Any]:
        """Let later rules win field by field; labels merge."""
        found: dict[str, Any] = {"labels": {}}
        for rule in self.rules:
            match = rule.get("match", {})
            meta = dict(one.meta)
            if (
                fnmatchcase(one.service, match.get("service", "*"))
                and ("tag" not in match or any(fnmatchcase(tag, match["tag"]) for tag in one.tags))
                and all(fnmatchcase(meta.get(key, "\0"), glob) for key, glob in match.get("metadata", {}).items())
            ):
                labels = {**found["labels"], **rule.get("labels", {})}
                found = {**found, **rule, "labels": labels}
        return found

    def _host(self, one: Registration, ruling: Mapping[str, Any]) -> str:
        template = str(ruling.get("host", "{service}.{domain}"))
        return template.replace("{service}", service_label(one.service)).replace("{domain}", self.domain)

    def _service_entry(self, host: str, listed: Listed) -> dict[str, Any]:
        number = _most([_port(one, ruling) for one, ruling in listed])
        protocol = _most([_protocol(one, ruling) for one, ruling in listed])
        return {
            "labels": MANAGED,
            "author": self.owner,
            "spec": {
                "hosts": [host],
                "location": "MESH_INTERNAL",
                "resolution": "STATIC",
                "ports": [{"name": "main", "number": number} | ({"protocol": protocol} if protocol else {})],
                "workloadSelector": {"labels": {"isthmus.mesh/host": _cut(host)}},
            },
        }

    def _workload_entries(self, host: str, listed: Listed, cluster: str) -> Picture:
        endpoints: dict[tuple[str, int], list[tuple[Registration, dict[str, Any]]]] = {}
        for one, ruling in listed:
            address = usable(one.address)
            if address and 0 < one.port < 65536:
                endpoints.setdefault((address, one.port), []).append((one, ruling))
        picture: Picture = {}
        for (address, port), sharing in endpoints.items():
            # A critical node says nothing if another registration exists; else the last registered counts.
            speaking = [pair for pair in sharing if not _node_is_critical(pair[0])] or sharing
            one, ruling = max(speaking, key=lambda pair: pair[0].created)
            if _carries(one, ruling) and cluster in ruling.get("clusters", [cluster]):
                sources = sorted([self.registry, each.service, each.node, each.id] for each, _ in sharing)
                name = f"{host.split('.')[0]}-{address.replace(':', '-')}-{port}-{_hex(f'{host}|{address}|{port}')}"
                labels = self._labels(host, one, ruling)
                spec = {"address": address, "ports": {"main": port}, "locality": _locality(one), "weight": _weight(one)}
                picture["WorkloadEntry", name] = {"labels": labels, "source": sources, "spec": spec}
        return picture

    def _labels(self, host: str, one: Registration, ruling: Mapping[str, Any]) -> dict[str, str]:
        version = dict(one.meta).get("version", "")
        return {
            **ruling["labels"],
            **MANAGED,
            "isthmus.mesh/host": _cut(host),
            "isthmus.mesh/owner": self.owner,
            "service.istio.io/canonical-name": service_label(one.service),
            "security.istio.io/tlsMode": "disabled",
            **({"service.istio.io/canonical-revision": version} if version else {}),
        }


def service_label(service: str) -> str:
    """Write a service's name as one label of a host."""
    lower = service.lower()
    if len(lower) <= 63 and all(sign in "abcdefghijklmnopqrstuvwxyz0123456789-" for sign in lower):
        return lower
    readable = "".join(sign if sign.isalnum() else "-" for sign in lower)[:54].rstrip("-")
    return f"{readable}-{_hex(lower)}"


def usable(address: str) -> str:
    """Write an address canonically, or return nothing when other machines cannot reach it."""
    try:
        ip = ip_address(address)
    except ValueError:
        return ""
    return "" if ip.is_loopback or ip.is_link_local or ip.is_unspecified else str(ip)


def written(objects: Iterable[Mapping[str, Any]]) -> Picture:
    """Take from objects what the oracle speaks of."""
    return {(found["kind"], found["metadata"]["name"]): ours(found) for found in objects}


def ours(found: Mapping[str, Any]) -> dict[str, Any]:
    """Take from one object what the oracle speaks of."""
    notes = found["metadata"].get("annotations", {})
    picture: dict[str, Any] = {"labels": found["metadata"].get("labels", {}), "spec": found["spec"]}
    if "isthmus.mesh/author" in notes:
        picture["author"] = notes["isthmus.mesh/author"]
    if "isthmus.mesh/source" in notes:
        picture["source"] = sorted(json.loads(notes["isthmus.mesh/source"]))
    return picture


def difference(wanted: Picture, found: Picture) -> list[str]:
    """Say, object by object, how what is found differs from what is wanted."""
    lines = []
    for key in sorted(wanted.keys() | found.keys()):
        if key not in found:
            lines.append(f"- {key} is missing: {wanted[key]}")
        elif key not in wanted:
            lines.append(f"- {key} is too much: {found[key]}")
        elif wanted[key] != found[key]:
            lines.append(f"- {key} is {found[key]}\n    but should be {wanted[key]}")
    return lines


def _carries(one: Registration, ruling: Mapping[str, Any]) -> bool:
    if one.status == "critical" or _weight(one) == 0:
        return False
    return one.status != "warning" or ruling.get("warning") != "exclude"


def _node_is_critical(one: Registration) -> bool:
    return any(
        check.status == "critical" and not check.service_id and check.id != "_node_maintenance" for check in one.checks
    )


def _weight(one: Registration) -> int:
    return one.weights[one.status == "warning"]


def _locality(one: Registration) -> str:
    zone = dict(one.meta).get("zone", "")
    return f"{one.datacenter}/{zone}" if zone else one.datacenter


def _port(one: Registration, ruling: Mapping[str, Any]) -> int:
    named = [tag.removeprefix("port=") for tag in one.tags if tag.startswith("port=")]
    port = ruling.get("port") or dict(one.meta).get("port") or min(named, default=80, key=int)
    return one.port if port == "instance" else int(port)


def _protocol(one: Registration, ruling: Mapping[str, Any]) -> str:
    word = str(ruling.get("protocol") or dict(one.meta).get("protocol", "")).upper()
    return word if word in PROTOCOLS else ""


def _most(votes: Iterable[Any]) -> Any:
    counted = Counter(votes)
    return min(counted, key=lambda vote: (-counted[vote], vote))


def _cut(host: str) -> str:
    return host if len(host) <= 63 else f"{host[:54]}-{_hex(host)}"


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
