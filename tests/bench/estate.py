"""The registry of a bench: services of equal size on nodes without agents, and one service more for the floor.

Instance 7 of service 12 is `svc-0012-7`, at an address that no other has; the floor's service is out of isthmus' scope.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.bench.wire import Server, Wire, pack

SCOPE = ("svc-*", "consul")  # Consul itself is never published; it is what is probed, as with a scope of everything
FLOOR = "floor"
PORT = 8443
FRESH = 1000  # from this number on instances are those that a bench adds
AT_ONCE = 120  # operations in one transaction; Consul takes 128
Operation = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Instance:
    """One registration, by numbers."""

    service: str
    number: int

    @property
    def id(self) -> str:
        """The service ID."""
        return f"{self.service}-{self.number}"

    @property
    def check(self) -> str:
        """The ID of its one check."""
        return f"service:{self.id}"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a registry is."""

    services: int
    instances: int
    nodes: int

    @property
    def each(self) -> int:
        """How many instances each service has."""
        return self.instances // self.services


class Estate:
    """What is registered, and how a bench changes it: each change returns once Consul has acknowledged it."""

    def __init__(self, consul: Server, size: Size) -> None:
        self.size = size
        self._wire = Wire(consul)
        self._fresh = FRESH

    @property
    def services(self) -> list[str]:
        """The names of the services that isthmus sees."""
        return [service(number) for number in range(self.size.services)]

    def fill(self) -> None:
        """Register everything, many at a time."""
        nodes = [
            {
                "Node": {
                    "Verb": "set",
                    "Node": {"Node": _node(number), "Address": f"10.255.{number // 250}.{number % 250}"},
                }
            }
            for number in range(self.size.nodes)
        ]
        self._transact(nodes)
        self._transact(
            operation
            for name in [*self.services, FLOOR]
            for number in range(self.size.each)
            for operation in self._operations(Instance(name, number))
        )

    def _transact(self, operations: Iterable[Operation]) -> None:
        waiting: list[Operation] = []
        for operation in operations:
            waiting.append(operation)
            if len(waiting) == AT_ONCE:
                self._wire.ask("PUT", "/v1/txn", pack(waiting))
                waiting = []
        if waiting:
            self._wire.ask("PUT", "/v1/txn", pack(waiting))

    def _operations(self, one: Instance) -> Iterator[Operation]:
        body = self.body(one)
        yield {"Service": {"Verb": "set", "Node": body["Node"], "Service": body["Service"]}}
        yield {"Check": {"Verb": "set", "Check": body["Check"]}}

    def fresh(self, name: str) -> Instance:
        """Return an instance that was never registered."""
        self._fresh += 1
        return Instance(name, self._fresh)

    def address(self, one: Instance) -> str:
        """Return the address of an instance, which no other has."""
        if one.number >= FRESH:  # such numbers are given once
            return f"100.64.{one.number // 250 % 250}.{one.number % 250 + 1}"
        where = 0 if one.service == FLOOR else 1 + int(one.service.rpartition("-")[2])
        return f"10.{where // 250}.{where % 250}.{one.number + 1}"

    def body(self, one: Instance, *, port: int = PORT, status: str = "passing") -> dict[str, Any]:
        """Return the registration of an instance as Consul takes it."""
        node = _node((sum(map(ord, one.service)) + one.number) % self.size.nodes)
        return {
            "Node": node,
            "SkipNodeUpdate": True,
            "Service": {
                "ID": one.id,
                "Service": one.service,
                "Address": self.address(one),
                "Port": port,
                "Meta": {"version": "v1", "protocol": "http", "port": "80"},
                "Weights": {"Passing": 1, "Warning": 1},
            },
            "Check": {
                "Node": node,
                "CheckID": one.check,
                "Name": one.check,
                "Status": status,
                "ServiceID": one.id,
                "ServiceName": one.service,
            },
        }

    # Changes

    def register(self, one: Instance, port: int = PORT) -> None:
        """Register an instance, or move it to another port."""
        self._wire.ask("PUT", "/v1/catalog/register", pack(self.body(one, port=port)))

    def deregister(self, one: Instance) -> None:
        """Take an instance out."""
        body = {"Node": self.body(one)["Node"], "ServiceID": one.id}
        self._wire.ask("PUT", "/v1/catalog/deregister", pack(body))

    def set_status(self, one: Instance, status: str) -> None:
        """Flip the check of an instance."""
        body = self.body(one, status=status)
        del body["Service"]
        self._wire.ask("PUT", "/v1/catalog/register", pack(body))

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()


def service(number: int) -> str:
    """Return the name of a service."""
    return f"svc-{number:04}"


def _node(number: int) -> str:
    return f"node-{number:03}"
