"""From a host to the Istio objects that one cluster should hold for it.

Every endpoint is one WorkloadEntry, named by the endpoint; the ServiceEntry is
named by the host, selects them by label, and depends on the host alone. What is
invalid is named in ``rejected`` and stops nothing else. An alias is one more
ServiceEntry that selects the same.
"""

from dataclasses import dataclass
from functools import lru_cache
from json import JSONEncoder

from agent.clusters.objects import content_digest
from agent.merge import Endpoint, Host
from agent.naming import host_label, host_problem, service_label, workload_entry_name
from agent.validity import (
    account_problem,
    address_problem,
    export_problem,
    is_reserved,
    label_problem,
    locality_problem,
    namespace_problem,
    port_problem,
    protocol_problem,
    weight_problem,
)
from state.model import (
    AUTHOR,
    DIGEST,
    HOST_LABEL,
    MANAGED_BY,
    OWNER_LABEL,
    PRODUCT,
    SERVICE_ENTRY,
    SOURCE,
    WORKLOAD_ENTRY,
    Resource,
    ResourceKey,
)

PORT_NAME = "main"  # one constant name: an endpoint that lacks a port's name is served at the wrong number
CANONICAL_NAME = "service.istio.io/canonical-name"
CANONICAL_REVISION = "service.istio.io/canonical-revision"
TLS_MODE = "security.istio.io/tlsMode"
ISTIO_LABELS = (CANONICAL_NAME, CANONICAL_REVISION, TLS_MODE)  # of a WorkloadEntry of ours: nobody else's to set
_source = JSONEncoder(separators=(",", ":")).encode
LARGEST_SOURCE = 255 * 1024  # Kubernetes takes 256 KiB of annotations


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """The objects of one host, WorkloadEntries before their ServiceEntry, and what had to be left out."""

    resources: tuple[Resource, ...] = ()
    rejected: tuple[str, ...] = ()


def translate(host: Host, *, owner: str, cluster: str, namespace: str) -> Translation:
    """Return the objects of a host in a cluster; ``namespace`` is the cluster's own."""
    if host.clusters is not None and cluster not in host.clusters:
        return Translation()
    name = host.key.host
    namespace = host.key.namespace or namespace
    problem = host_problem(name) or namespace_problem(namespace) or _owner_problem(owner)
    if problem:
        return Translation(rejected=(f"host {name!r}: {problem}",))
    resources: list[Resource] = []
    rejected: list[str] = []
    for endpoint in host.endpoints:
        if endpoint.clusters is None or cluster in endpoint.clusters:
            entry, problems = _workload_entry(name, endpoint, owner, namespace)
            resources.extend(entry)
            if problems:
                rejected.extend(f"{_where(name, endpoint)}: {problem}" for problem in problems)
    entries, problems = _service_entries(host, owner, namespace)
    resources.extend(entries)
    for labels in dict.fromkeys(endpoint.labels for endpoint in host.endpoints):
        problems.extend(_ruled_labels(labels)[1])
    rejected.extend(f"host {name}: {problem}" for problem in dict.fromkeys(problems))
    return Translation(resources=tuple(resources), rejected=tuple(rejected))


def _workload_entry(host: str, endpoint: Endpoint, owner: str, namespace: str) -> tuple[list[Resource], list[str]]:
    """Return an endpoint's object, if it can have one, and what is wrong with the endpoint."""
    source = _source(endpoint.sources)
    fatal = address_problem(endpoint.address) or port_problem(endpoint.port)
    if not fatal and len(source) > LARGEST_SOURCE:
        fatal = f"its {len(endpoint.sources)} registrations do not fit into an annotation"
    if fatal:
        return [], [fatal]
    labels, problems = _labels(host, endpoint, owner)
    account, problem = _account(endpoint)
    if problem:
        problems.append(problem)
    spec: dict[str, object] = {"address": endpoint.address, "ports": {PORT_NAME: endpoint.port}}
    if endpoint.locality:
        if problem := locality_problem(endpoint.locality):
            problems.append(problem)
        else:
            spec["locality"] = endpoint.locality
    spec["weight"] = endpoint.weight
    if problem := weight_problem(endpoint.weight):
        problems.append(problem)
        spec["weight"] = 1
    if account:
        spec["serviceAccount"] = account
    digest = content_digest(labels, source, spec)
    entry = Resource(
        key=ResourceKey(WORKLOAD_ENTRY, namespace, workload_entry_name(host, endpoint.address, endpoint.port)),
        labels=labels,
        annotations={SOURCE: source, DIGEST: digest},
        spec=spec,
        kept=endpoint.kept,
    )
    return [entry], problems


def _labels(host: str, endpoint: Endpoint, owner: str) -> tuple[dict[str, str], list[str]]:
    problems: list[str] = []
    labels = {
        **dict(_ruled_labels(endpoint.labels)[0]),
        MANAGED_BY: PRODUCT,
        HOST_LABEL: host_label(host),
        OWNER_LABEL: owner,
        CANONICAL_NAME: service_label(endpoint.service),
        # A registry cannot grant an identity: without a rule's, a client must not expect one.
        TLS_MODE: endpoint.identity.tls if endpoint.identity and _account(endpoint)[0] else "disabled",
    }
    if endpoint.version:
        if problem := label_problem(CANONICAL_REVISION, endpoint.version):
            problems.append(problem)
        else:
            labels[CANONICAL_REVISION] = endpoint.version
    return labels, problems


@lru_cache(maxsize=4096)
def _ruled_labels(labels: tuple[tuple[str, str], ...]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return those of a rule's labels that it may set, and what is wrong with the others."""
    usable: list[tuple[str, str]] = []
    problems: list[str] = []
    for key, value in labels:
        if is_reserved(key):
            problems.append(f"label {key}: {value!r} is not for a rule to set")
        elif problem := label_problem(key, value):
            problems.append(problem)
        else:
            usable.append((key, value))
    return tuple(usable), tuple(problems)


def _account(endpoint: Endpoint) -> tuple[str, str]:
    """Return the service account that a rule grants to an endpoint, "" for none, and what is wrong with it."""
    if endpoint.identity is None:
        return "", ""
    account = endpoint.identity.service_account
    problem = account_problem(account)
    return ("", f"{problem}: it gets no identity") if problem else (account, "")


def _service_entries(host: Host, owner: str, namespace: str) -> tuple[list[Resource], list[str]]:
    """Return the objects of a host and its aliases, if it can have them, and what is wrong with the host."""
    name = host.key.host
    number = int(host.port.value)
    if problem := port_problem(number):
        return [], [f"{problem} ({host.port.source})"]
    problems: list[str] = []
    port: dict[str, object] = {"name": PORT_NAME, "number": number}
    if host.protocol is not None:
        protocol = str(host.protocol.value)
        if problem := protocol_problem(protocol):
            problems.append(f"{problem} ({host.protocol.source})")
        else:
            port["protocol"] = protocol
    names, unusable = _aliases(host)
    exported, unfit = _exported(host.export_to, namespace)
    spec: dict[str, object] = {
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [port],
        "workloadSelector": {"labels": {HOST_LABEL: host_label(name)}},
        **({"exportTo": exported} if exported else {}),
    }
    entries = [
        Resource(
            key=ResourceKey(SERVICE_ENTRY, namespace, one),
            labels={MANAGED_BY: PRODUCT},
            annotations={AUTHOR: owner},
            spec={"hosts": [one], **spec},
            kept=host.kept,
        )
        for one in (name, *names)
    ]
    return entries, [*problems, *unusable, *unfit]


def _aliases(host: Host) -> tuple[list[str], list[str]]:
    """Return the aliases that can be hosts, and what is wrong with the others."""
    usable: list[str] = []
    problems: list[str] = []
    for alias in host.aliases:
        if problem := "it is the host itself" if alias == host.key.host else host_problem(alias):
            problems.append(f"alias {alias!r}: {problem}")
        else:
            usable.append(alias)
    return usable, problems


def _exported(namespaces: tuple[str, ...] | None, own: str) -> tuple[list[str], list[str]]:
    """Return the namespaces as Istio takes them (none twice, ``*`` alone), and what is wrong with the others.

    Where none is left, the host is seen in its own namespace only: a mistake must show it to nobody else.
    """
    if namespaces is None:
        return [], []
    problems = [problem for one in namespaces if (problem := export_problem(one))]
    if "*" in namespaces:
        return ["*"], problems
    usable = {one for one in namespaces if not export_problem(one)}
    if own in usable:
        usable.discard(".")
    return sorted(usable) or ["."], problems


def _owner_problem(owner: str) -> str:
    return label_problem(OWNER_LABEL, owner) if owner else "the owner is empty"


def _where(host: str, endpoint: Endpoint) -> str:
    source = "/".join(endpoint.sources[0]) if endpoint.sources else "no registration"
    more = f" and {len(endpoint.sources) - 1} more" if len(endpoint.sources) > 1 else ""
    return f"{host} at {endpoint.address}, port {endpoint.port} ({source}{more})"
