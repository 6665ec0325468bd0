"""An estate of instances with numbers, in a real Consul.

Each has an address of its own; its service is its number modulo `services`, its node one of ten.
"""

from collections.abc import Iterable

from tests.testbed.consul_api import ConsulApi

Endpoint = tuple[str, str]  # host, address


def host(service: str) -> str:
    """Return the host of a service."""
    return f"{service}.mesh.internal"


def endpoint(number: int, services: int = 20) -> Endpoint:
    """Return where an instance must be found."""
    return host(f"svc-{number % services}"), f"10.0.0.{number + 1}"


def endpoints(numbers: Iterable[int], services: int = 20) -> set[Endpoint]:
    """Return where instances must be found."""
    return {endpoint(number, services) for number in numbers}


def node_of(number: int) -> str:
    """Return the node of an instance: there are ten."""
    return f"node-{number % 10}"


def fill(
    consul: ConsulApi,
    numbers: Iterable[int],
    *,
    services: int = 20,
    node: str = "",
    status: str = "passing",
) -> None:
    """Register instances, on one node or on those that are theirs."""
    for number in numbers:
        service, address = f"svc-{number % services}", f"10.0.0.{number + 1}"
        consul.register(service, f"i-{number}", address=address, port=8080, node=node or node_of(number), status=status)


def take(consul: ConsulApi, numbers: Iterable[int], node: str = "") -> None:
    """Deregister instances, one after another."""
    for number in numbers:
        consul.deregister(f"i-{number}", node=node or node_of(number))


def take_together(consul: ConsulApi, numbers: Iterable[int], *, services: int = 20) -> None:
    """Deregister instances in one step, so that no reading shows a part of it."""
    gone = [
        {
            "Verb": "delete",
            "Node": node_of(number),
            "Service": {"ID": f"i-{number}", "Service": f"svc-{number % services}"},
        }
        for number in numbers
    ]
    consul.request("PUT", "/v1/txn", [{"Service": one} for one in gone])


def flip_together(consul: ConsulApi, numbers: Iterable[int], status: str, *, services: int = 20) -> None:
    """Set the checks of instances in one step, so that no reading shows a part of it."""
    checks = [
        {
            "Node": node_of(number),
            "CheckID": f"service:i-{number}",
            "Name": f"service:i-{number}",
            "Status": status,
            "ServiceID": f"i-{number}",
            "ServiceName": f"svc-{number % services}",
        }
        for number in numbers
    ]
    consul.request("PUT", "/v1/txn", [{"Check": {"Verb": "set", "Check": check}} for check in checks])
