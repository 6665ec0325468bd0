"""What tests do to a Consul catalogue, and how they read it back by other endpoints than isthmus uses.

Instances belong to the server's own node, where a check keeps them and anti-entropy would undo a direct write; or, with
`node=`, to a node without an agent, which holds exactly what it was told: the way to many nodes and any status.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

TTL = "24h"
NODE_ADDRESS = "10.255.0.1"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Check:
    """One check, of an instance or (without a service ID) of its node."""

    node: str
    id: str
    service_id: str
    status: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Registration:
    """One instance as the catalogue has it, with its own checks and those of its node; `created` orders them."""

    datacenter: str
    node: str
    service: str
    id: str
    address: str
    port: int
    node_address: str
    tags: tuple[str, ...]
    meta: tuple[tuple[str, str], ...]
    weights: tuple[int, int]
    kind: str
    checks: tuple[Check, ...]
    created: int

    @property
    def status(self) -> str:
        """The worst status of all checks, which is what counts."""
        found = {check.status for check in self.checks}
        return next((status for status in ("critical", "warning") if status in found), "passing")


class ConsulApi:
    """The HTTP API of one Consul: registering, flipping, reading, and handing out tokens."""

    def __init__(self, client: httpx.Client, token: str = "") -> None:
        self.client = client
        self.token = token

    def response(self, method: str, path: str, body: object = None, token: str | None = None) -> httpx.Response:
        """Call the API and return the whole response, or raise when its status says that the call failed."""
        headers = {"X-Consul-Token": self.token if token is None else token}
        response = self.client.request(method, path, json=body, headers=headers if any(headers.values()) else {})
        if response.is_error:
            text = f"{method} {path}: {response.status_code} {response.text.strip()}"
            raise httpx.HTTPStatusError(text, request=response.request, response=response)
        return response

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Call the API and return the JSON of its answer, if it is JSON."""
        response = self.response(method, path, body)
        return response.json() if "json" in response.headers.get("Content-Type", "") else response.text

    def index(self, path: str = "/v1/catalog/services") -> int:
        """The index under which the server answers."""
        return int(self.response("GET", path).headers["X-Consul-Index"])

    def create_token(self, rules: str) -> str:
        """Make a token that may do what these rules allow, and nothing else."""
        name = f"policy-{uuid.uuid4()}"
        self.request("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        token = self.request("PUT", "/v1/acl/token", {"Description": name, "Policies": [{"Name": name}]})
        return str(token["SecretID"])

    def set_rules(self, token: str, rules: str) -> None:
        """Replace what a token of `create_token` may do, while it is in use."""
        held = self.response("GET", "/v1/acl/token/self", token=token).json()["Policies"][0]
        policy = {"ID": held["ID"], "Name": held["Name"], "Rules": rules}
        self.request("PUT", f"/v1/acl/policy/{held['ID']}", policy)

    def register(
        self,
        service: str,
        instance: str = "",
        *,
        address: str = "",
        port: int = 0,
        node: str = "",
        node_address: str = NODE_ADDRESS,
        tags: Iterable[str] = (),
        meta: Mapping[str, str] | None = None,
        weights: tuple[int, int] = (1, 1),
        status: str | None = "passing",
        more: Mapping[str, object] | None = None,
    ) -> None:
        """Register an instance, or replace it; `status` gives it a check, `more` any further field of the API."""
        identity = instance or service
        entry: dict[str, object] = {
            "ID": identity,
            "Address": address,
            "Port": port,
            "Tags": list(tags),
            "Meta": dict(meta or {}),
            "Weights": {"Passing": weights[0], "Warning": weights[1]},
            **(more or {}),
        }
        check = f"service:{identity}"
        if node:
            checks = [_check(node, check, status, identity)] if status else []
            body = {"Node": node, "Address": node_address, "Service": {"Service": service, **entry}, "Checks": checks}
            self.request("PUT", "/v1/catalog/register", body)
        else:
            ttl = {"Check": {"CheckID": check, "TTL": TTL, "Status": status}} if status else {}
            self.request(
                "PUT", "/v1/agent/service/register?replace-existing-checks=true", {"Name": service, **entry, **ttl}
            )

    def deregister(self, instance: str, node: str = "") -> None:
        """Take an instance out of the catalogue."""
        if node:
            self.request("PUT", "/v1/catalog/deregister", {"Node": node, "ServiceID": instance})
        else:
            self.request("PUT", f"/v1/agent/service/deregister/{quote(instance, safe='')}")

    def deregister_node(self, node: str) -> None:
        """Take a node out of the catalogue, with every instance on it."""
        self.request("PUT", "/v1/catalog/deregister", {"Node": node})

    def set_status(self, instance: str, status: str, node: str = "") -> None:
        """Flip the check that `register` made."""
        check = f"service:{instance}"
        if node:
            self._put_check(node, _check(node, check, status, instance))
        else:
            self.request("PUT", f"/v1/agent/check/update/{quote(check, safe='')}", {"Status": status})

    def node_status(self, node: str, status: str, check: str = "serfHealth") -> None:
        """Set a check of a whole node; the one that stands for its agent, unless told otherwise."""
        self._put_check(node, _check(node, check, status))

    def maintenance(self, instance: str = "", node: str = "", on: bool = True) -> None:
        """Put an instance, or without one its whole node, into maintenance, or take it out."""
        if not node:
            path = f"/v1/agent/service/maintenance/{quote(instance, safe='')}" if instance else "/v1/agent/maintenance"
            self.request("PUT", f"{path}?enable={'true' if on else 'false'}&reason=test")
            return
        check = f"_service_maintenance:{instance}" if instance else "_node_maintenance"
        if on:
            self._put_check(node, _check(node, check, "critical", instance))
        else:
            self.request("PUT", "/v1/catalog/deregister", {"Node": node, "CheckID": check})

    def _put_check(self, node: str, check: Mapping[str, str]) -> None:
        # The node's address stays what it was.
        self.request("PUT", "/v1/catalog/register", {"Node": node, "SkipNodeUpdate": True, "Check": check})

    def checks(self) -> list[Check]:
        """Every check of the datacenter."""
        return sorted(
            Check(
                node=found["Node"],
                id=found["CheckID"],
                service_id=found["ServiceID"],
                status=found["Status"],
                type=found["Type"],
            )
            for found in self.request("GET", "/v1/health/state/any?consistent")
        )

    def catalog(self, *, consul: bool = False) -> list[Registration]:
        """Every instance of the datacenter, sorted; Consul itself only when asked for."""
        checks = self.checks()
        names = self.request("GET", "/v1/catalog/services?consistent")
        return sorted(
            _registration(entry, checks)
            for name in names
            if consul or name != "consul"
            for entry in self.request("GET", f"/v1/catalog/service/{quote(name, safe='')}?consistent")
        )


def _check(node: str, check: str, status: str, service: str = "") -> dict[str, str]:
    kind = "ttl" if service else ""
    return {"Node": node, "CheckID": check, "Name": check, "Status": status, "ServiceID": service, "Type": kind}


def _registration(entry: Mapping[str, Any], checks: Iterable[Check]) -> Registration:
    return Registration(
        datacenter=entry["Datacenter"],
        node=entry["Node"],
        service=entry["ServiceName"],
        id=entry["ServiceID"],
        address=entry["ServiceAddress"] or entry["Address"],
        port=entry["ServicePort"],
        node_address=entry["Address"],
        tags=tuple(entry["ServiceTags"] or ()),
        meta=tuple(sorted((entry["ServiceMeta"] or {}).items())),
        weights=(entry["ServiceWeights"]["Passing"], entry["ServiceWeights"]["Warning"]),
        kind=entry["ServiceKind"],
        checks=tuple(
            check for check in checks if check.node == entry["Node"] and check.service_id in ("", entry["ServiceID"])
        ),
        created=entry["CreateIndex"],
    )
