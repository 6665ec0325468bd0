"""Services in a real Consul, and queries that are parked there."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

from hooks.consul.parked import Parked
from hooks.consul.settings import ConsulSettings
from state.limits import Limits
from tests.testbed.consul import Consul
from tests.testbed.processes import wait_until

LIMITS = Limits(wait=5.0, retry=(0.1, 0.2, 0.5), read_timeout=5.0)
SERVICES = tuple(f"svc-{number:02}" for number in range(30))
Make = Callable[..., tuple[Parked, list[tuple[str, int]]]]


def parkings() -> Iterator[Make]:
    """Start parked queries of a Consul; what they told is in the list. To be used as a fixture."""
    with ExitStack() as running:

        def make(
            consul: Consul, parked: int = 50, limits: Limits = LIMITS, **settings: object
        ) -> tuple[Parked, list[tuple[str, int]]]:
            woken: list[tuple[str, int]] = []
            fields: Mapping[str, object] = {"name": "dc1", "url": consul.url, "parked": parked, **settings}
            found = Parked(ConsulSettings(**fields), limits, lambda *told: woken.append(told))  # type: ignore[arg-type]
            found.start()
            running.callback(found.stop)
            return found, woken

        yield make


def fill(consul: Consul, per_service: int = 2) -> None:
    for number, service in enumerate(SERVICES):
        for one in range(per_service):
            put(consul, service, one, 8000 + number)


def put(consul: Consul, service: str, one: int, port: int, meta: Mapping[str, str] | None = None) -> None:
    address = f"10.0.{SERVICES.index(service)}.{one + 1}"
    consul.register(
        service, f"{service}-{one}", port=port, node=f"node-{one}", address=address, status="passing", meta=meta
    )


def wait_for(parked: Parked, number: int) -> None:
    wait_until(lambda: len(parked.parked()) == number, f"{number} services are parked", 20)


def take(consul: Consul, service: str) -> None:
    for one in (0, 1):
        consul.deregister(f"{service}-{one}", f"node-{one}")


def changes_of(consul: Consul, service: str) -> Mapping[str, Callable[[], None]]:
    return {
        "a port": lambda: put(consul, service, 0, 9999),
        "metadata": lambda: put(consul, service, 0, 9999, meta={"version": "v2"}),
        "a check": lambda: consul.set_status(f"{service}-0", "critical", "node-0"),
        "a new instance": lambda: consul.register(service, "new", port=1, node="node-1", address="10.9.9.9"),
        "a deregistration": lambda: consul.deregister("new", "node-1"),
        "its end": lambda: take(consul, service),
        "its return": lambda: put(consul, service, 0, 9999),
    }
