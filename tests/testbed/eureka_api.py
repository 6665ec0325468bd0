"""What tests do to a Eureka server, as its clients would, and how they read back what it really has.

A registration that nobody renews stays: with so few renewals the server preserves itself. Clients that renew are in
`tests.integration.eureka_estate`.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

MY_OWN = {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Registered:
    """One instance as a server shows it; `updated` is the server's time in milliseconds, `action` is a delta's."""

    app: str
    id: str
    ip: str
    hostname: str
    status: str
    port: int
    port_enabled: bool
    secure_port: int
    secure_port_enabled: bool
    metadata: tuple[tuple[str, str], ...]
    updated: int
    action: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What `apps` or `apps/delta` said."""

    version: int
    hashcode: str
    instances: tuple[Registered, ...]


def amazon(zone: str, instance_id: str, address: str) -> dict[str, object]:
    """What an instance on EC2 says of its data center."""
    metadata = {"availability-zone": zone, "instance-id": instance_id, "local-ipv4": address}
    return {"@class": "com.netflix.appinfo.AmazonInfo", "name": "Amazon", "metadata": metadata}


def described(
    app: str,
    id: str,
    ip: str,
    port: int = 8080,
    *,
    status: str = "UP",
    metadata: Mapping[str, str] | None = None,
    secure_port: int | None = None,
    port_enabled: bool = True,
    hostname: str | None = None,
    data_center: Mapping[str, object] | None = None,
    lease: int = 90,
    **fields: object,
) -> dict[str, object]:
    """Say what a client tells of itself: `lease` is in seconds, further `fields` are sent as they are."""
    enabled = {True: "true", False: "false"}
    return {
        "instanceId": id,
        "hostName": ip if hostname is None else hostname,
        "app": app,
        "ipAddr": ip,
        "status": status,
        "overriddenStatus": "UNKNOWN",
        "port": {"$": port, "@enabled": enabled[port_enabled]},
        "securePort": {"$": secure_port or 443, "@enabled": enabled[secure_port is not None]},
        "countryId": 1,
        "dataCenterInfo": data_center or MY_OWN,
        "leaseInfo": {"renewalIntervalInSecs": max(1, lease // 3), "durationInSecs": lease},
        "metadata": dict(metadata or {}),
        "vipAddress": app.lower(),
        "secureVipAddress": app.lower(),
        "isCoordinatingDiscoveryServer": "false",
    } | fields


def registered(instance: Mapping[str, Any]) -> Registered:
    """Read one instance out of JSON, as the server of the test bed writes it."""
    metadata = {key: value for key, value in instance["metadata"].items() if key != "@class"}
    return Registered(
        app=instance["app"],
        id=instance["instanceId"],
        ip=instance["ipAddr"],
        hostname=instance["hostName"],
        status=instance["status"],
        port=instance["port"]["$"],
        port_enabled=instance["port"]["@enabled"] == "true",
        secure_port=instance["securePort"]["$"],
        secure_port_enabled=instance["securePort"]["@enabled"] == "true",
        metadata=tuple(sorted(metadata.items())),
        updated=int(instance["lastUpdatedTimestamp"]),
        action=instance.get("actionType", ""),
    )


class EurekaApi:
    """The HTTP API of one Eureka server."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self._dirty = 0
        self._registered: set[tuple[str, str]] = set()

    def response(
        self, method: str, path: str, body: object = None, parameters: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Call the API at a path below `/eureka/` and return the answer, or raise when it says that the call failed."""
        headers = {"Accept": "application/json"}
        response = self.client.request(method, path, json=body, params=parameters, headers=headers)
        if not response.is_success:
            text = f"{method} {path}: {response.status_code} {response.text.strip()[:500]}"
            raise httpx.HTTPStatusError(text, request=response.request, response=response)
        return response

    def request(self, method: str, path: str, body: object = None, parameters: Mapping[str, str] | None = None) -> Any:
        """Call the API and return the JSON of its answer, if it is JSON."""
        response = self.response(method, path, body, parameters)
        return response.json() if "json" in response.headers.get("Content-Type", "") else response.text

    def _next_dirty(self) -> int:
        # A server ignores a registration whose time is older than the one that it has.
        self._dirty = max(self._dirty + 1, int(time.time() * 1000))
        return self._dirty

    def register(self, app: str, id: str, ip: str, port: int = 8080, **told: Any) -> None:
        """Register an instance or change it, as its client does; what else may be told is in `described`."""
        instance = described(app, id, ip, port, **told) | {"lastDirtyTimestamp": str(self._next_dirty())}
        self.request("POST", f"apps/{quote(app, safe='')}", {"instance": instance})
        self._registered.add((app.upper(), id))

    def register_many(self, instances: Iterable[Mapping[str, Any]], batch: int = 250) -> None:
        """Register many instances of `described` in few calls, as a peer does; the server forwards none of them."""
        rest = list(instances)
        while rest:
            dirty, now, rest = self._next_dirty(), rest[:batch], rest[batch:]
            told = [
                {
                    "appName": one["app"],
                    "id": one["instanceId"],
                    "lastDirtyTimestamp": dirty,
                    "status": one["status"],
                    "instanceInfo": {**one, "lastDirtyTimestamp": str(dirty)},
                    "action": "Register",
                }
                for one in now
            ]
            answers = self.request("POST", "peerreplication/batch/", {"replicationList": told})["responseList"]
            if refused := {answer["statusCode"] for answer in answers} - {httpx.codes.OK}:
                raise ValueError(f"the server refused registrations of a batch with {refused}")

    def renew(self, app: str, id: str) -> bool:
        """Renew a lease; False when the server does not know it: its client then registers anew."""
        try:
            self.request("PUT", _path(app, id))
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return False
        return True

    def cancel(self, app: str, id: str) -> None:
        """Take an instance out, as a client that shuts down."""
        self.request("DELETE", _path(app, id))

    def cancel_all(self) -> None:
        """Take out every instance that is there: what the cache shows, and what was registered here."""
        for app, id in self._registered | {(one.app, one.id) for one in self.apps().instances}:
            if self.instance(app, id) is not None:
                self.cancel(app, id)
        self._registered.clear()

    def set_status(self, app: str, id: str, status: str) -> None:
        """Override the status of an instance, as an operator."""
        self.request("PUT", f"{_path(app, id)}/status", parameters={"value": status})

    def clear_status(self, app: str, id: str, status: str = "UP") -> None:
        """Take the override back; the status is this one until the client says another."""
        self.request("DELETE", f"{_path(app, id)}/status", parameters={"value": status})

    def put_metadata(self, app: str, id: str, **metadata: str) -> None:
        """Change metadata of an instance, as an operator."""
        self.request("PUT", f"{_path(app, id)}/metadata", parameters=metadata)

    def instance(self, app: str, id: str) -> Registered | None:
        """Read one instance, from the registry itself and no cache; None when it is not there."""
        try:
            return registered(self.request("GET", _path(app, id))["instance"])
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return None

    def names(self) -> list[str]:
        """The applications, as the cache says."""
        return sorted({one.app for one in self.apps().instances})

    def application(self, app: str) -> list[Registered]:
        """The instances of one application, as the cache says."""
        try:
            found = self.request("GET", f"apps/{quote(app, safe='')}")["application"]["instance"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return []
        return [registered(one) for one in found]

    def apps(self) -> Answer:
        """The full read, as the cache says."""
        return _answer(self.request("GET", "apps/"))

    def delta(self) -> Answer:
        """The delta, as the cache says."""
        return _answer(self.request("GET", "apps/delta"))


def _path(app: str, id: str) -> str:
    return f"apps/{quote(app, safe='')}/{quote(id, safe='')}"


def _answer(body: Any) -> Answer:
    applications = body["applications"]
    instances = (registered(one) for app in applications["application"] for one in app["instance"])
    return Answer(int(applications["versions__delta"]), applications["apps__hashcode"], tuple(instances))
