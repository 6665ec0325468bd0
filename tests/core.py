"""Short ways to the values of the pure core, with what a test does not care about filled in."""

from typing import Any

from agent.clusters.objects import spec_of
from agent.merge import Endpoint, Host, HostKey, Registration
from agent.rules import Choice, Ruling
from state.model import Held, Instance, InstanceKey, Reason, Resource, digest_of

HOST = "orders.mesh.internal"
KEY = HostKey("", HOST)


def instance(
    id: str = "orders-1",
    *,
    service: str = "orders",
    node: str = "node-1",
    address: str = "10.1.2.3",
    port: int = 8443,
    **fields: Any,
) -> Instance:
    return Instance(key=InstanceKey(service, node, id), address=address, port=port, **fields)


def ruling(host: str = HOST, **fields: Any) -> Ruling:
    return Ruling(host=Choice(host, "default"), **fields)


RULING = ruling()


def registration(
    id: str = "orders-1",
    *,
    registry: str = "dc1",
    ruling: Ruling = RULING,
    waits: Reason | None = None,
    **fields: Any,
) -> Registration:
    return Registration(registry=registry, instance=instance(id, **fields), ruling=ruling, waits=waits)


def endpoint(address: str = "10.1.2.3", port: int = 8443, **fields: Any) -> Endpoint:
    values: dict[str, Any] = {
        "locality": "",
        "weight": 1,
        "version": "",
        "service": "orders",
        "labels": (),
        "identity": None,
        "clusters": None,
        "sources": (("dc1", "orders", "node-1", "orders-1"),),
        "kept": False,
    }
    return Endpoint(address=address, port=port, **{**values, **fields})


def host(*endpoints: Endpoint, key: HostKey = KEY, **fields: Any) -> Host:
    values: dict[str, Any] = {"port": Choice(80, "default"), "protocol": None, "clusters": None}
    return Host(key=key, endpoints=endpoints, **{**values, **fields})


def held(resource: Resource, **fields: Any) -> Held:
    """Return an object as a cluster holds it right after it was written."""
    values: dict[str, Any] = {
        "uid": "7c9e",
        "resource_version": "41",
        "labels": dict(resource.labels),
        "annotations": dict(resource.annotations),
        "spec_digest": digest_of(resource.spec),
        "own_labels": tuple(sorted(resource.labels)),
        "spec": spec_of(resource.key.kind, resource.spec),
    }
    return Held(key=resource.key, **{**values, **fields})
