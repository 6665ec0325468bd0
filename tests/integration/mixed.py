"""A seeded random history of one Consul and one Eureka that list the same services, and what clusters must hold then.

What a registry lists is what this history has put there: nobody else does, and Eureka's own answers may be late.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

from tests.integration.oracle import MANAGED, Picture, service_label
from tests.testbed.consul import Consul

CONSUL, EUREKA = "consul-dc1", "eureka-dc1"  # in the order of the configuration
SERVICES = tuple(f"svc-{number:02}" for number in range(8))
GONE = 4  # fewer instances in one registry than at first, at most, beyond what moves: a third of them would be held
DARK = 5
NODE = "node-1"

DECK = (
    *4 * ("begin", "end", "fail", "recover", "move_over"),
    *2 * ("hop", "version", "out_of_service", "restart"),
    *("move_service", "share", "begin", "recover"),
)


class Eureka(Protocol):
    """What the history needs of a Eureka server, or of several that are each other's peers."""

    def register(self, app: str, id: str, ip: str, port: int, *, metadata: Mapping[str, str]) -> None:
        """Register an instance."""

    def cancel(self, app: str, id: str) -> None:
        """Cancel an instance's lease."""

    def set_status(self, app: str, id: str, status: str) -> None:
        """Override an instance's status."""


@dataclass(frozen=True, slots=True)
class Place:
    """One registration in one registry; ``status`` is in the registry's own words."""

    version: str
    status: str
    number: int


@dataclass(slots=True)
class Instance:
    """One endpoint, and where it is registered."""

    service: str
    address: str
    port: int
    at: dict[str, Place] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The ID of its registrations."""
        return f"{self.service}-{self.address}"

    def is_up(self, registry: str) -> bool:
        """Tell whether a registry says that it carries traffic."""
        return registry in self.at and self.at[registry].status in ("passing", "UP")


@dataclass(frozen=True, slots=True)
class Move:
    """One call to a registry, answered ``at``."""

    what: str
    registry: str
    at: float = field(default_factory=time.monotonic)


class Mixed:
    """Fills both registries and plays with them, in a way that the seed alone decides."""

    def __init__(self, consul: Consul, eureka: Eureka, seed: int) -> None:
        self.consul = consul
        self.eureka = eureka
        self.instances: list[Instance] = []
        self.unplayed = set(DECK)
        self._random = random.Random(seed)
        self._numbers = count(1)
        self._deck: list[str] = []
        self._first = 0

    def fill(self) -> None:
        """Register three to five instances of each service: in Consul, in Eureka, or some in each and one in both."""
        for number, service in enumerate(SERVICES):
            for nth in range(self._random.choice((3, 4, 5))):
                one = self._new(service)
                both = (CONSUL, EUREKA) if nth == 0 else ((CONSUL, EUREKA)[nth % 2],)
                for registry in ((CONSUL,), (EUREKA,), both)[number % 3]:
                    self._put(one, registry)
        self._first = len(self.instances)

    def play(self) -> Iterator[Move]:
        """Make one move after the other, each one call to a registry, for as long as anybody asks for more."""
        while True:
            if not self._deck:
                cards = (
                    sorted(self.unplayed) * 2 + ["begin", "recover"] if len(self.unplayed) < len(set(DECK)) else DECK
                )
                self._deck = self._random.sample(list(cards), len(cards))
            kind = self._deck.pop()
            play: Callable[[], Iterator[Move]] = getattr(self, f"_{kind}")
            moves = 0
            for move in play():
                yield move
                moves += 1
            if moves:
                self.unplayed.discard(kind)

    def hand_over(self, service: str, registry: str) -> None:
        """Let one registry alone list a service, all of it in service."""
        for one in [one for one in self.instances if one.service == service]:
            if registry in one.at:
                if not one.is_up(registry):
                    self._set(one, registry, "passing" if registry == CONSUL else "UP")
            else:
                self._put(one, registry)
        for one in [one for one in self.instances if one.service == service]:
            for other in one.at.keys() - {registry}:
                self._take(one, other)

    # Calls

    def _new(self, service: str) -> Instance:
        number = next(self._numbers)
        one = Instance(service, f"10.3.{number // 200}.{number % 200 + 1}", 8000 + number % 50)
        self.instances.append(one)
        return one

    def _put(self, one: Instance, registry: str, version: str = "v1") -> Move:
        one.at[registry] = Place(version, "passing" if registry == CONSUL else "UP", next(self._numbers))
        meta = {"version": version}
        if registry == CONSUL:
            self.consul.register(one.service, one.id, address=one.address, port=one.port, node=NODE, meta=meta)
        else:
            self.eureka.register(one.service.upper(), one.id, one.address, one.port, metadata=meta)
        return Move(f"{one.id} is in {registry} as {version}", registry)

    def _take(self, one: Instance, registry: str) -> Move:
        del one.at[registry]
        if not one.at:
            self.instances.remove(one)
        if registry == CONSUL:
            self.consul.deregister(one.id, NODE)
        else:
            self.eureka.cancel(one.service.upper(), one.id)
        return Move(f"{one.id} is no more in {registry}", registry)

    def _set(self, one: Instance, registry: str, status: str) -> Move:
        one.at[registry] = replace(one.at[registry], status=status)
        if registry == CONSUL:
            self.consul.set_status(one.id, status, NODE)
        else:
            self.eureka.set_status(one.service.upper(), one.id, status)
        return Move(f"{one.id} is {status} in {registry}", registry)

    # What there is

    def _some(self, true: Callable[[Instance], bool] = lambda _: True) -> Instance | None:
        found = [one for one in self.instances if true(one)]
        return self._random.choice(found) if found else None

    def _has_sibling(self, one: Instance) -> bool:
        return any(
            other.service == one.service and other is not one and self._is_in_service(other) for other in self.instances
        )

    def _is_in_service(self, one: Instance) -> bool:
        return all(one.is_up(registry) for registry in one.at)

    def _may_darken(self) -> bool:
        return sum(not self._is_in_service(one) for one in self.instances) < DARK

    def _may_lose(self) -> bool:
        return self._first - len(self.instances) < GONE

    def _registry(self, one: Instance) -> str:
        return self._random.choice(sorted(one.at))

    # Moves

    def _begin(self) -> Iterator[Move]:
        yield self._put(self._new(self._random.choice(SERVICES)), self._random.choice((CONSUL, EUREKA)))

    def _end(self) -> Iterator[Move]:
        one = self._some(lambda one: len(one.at) == 1 and self._has_sibling(one))
        if one is not None and self._may_lose():
            yield self._take(one, self._registry(one))

    def _fail(self) -> Iterator[Move]:
        if self._may_darken() and (one := self._some(self._is_in_service)):
            registry = self._registry(one)
            yield self._set(one, registry, "critical" if registry == CONSUL else "DOWN")

    def _out_of_service(self) -> Iterator[Move]:
        if self._may_darken() and (one := self._some(lambda one: one.is_up(EUREKA))):
            yield self._set(one, EUREKA, "OUT_OF_SERVICE")

    def _recover(self) -> Iterator[Move]:
        if one := self._some(lambda one: not self._is_in_service(one)):
            for registry in sorted(one.at):
                if not one.is_up(registry):
                    yield self._set(one, registry, "passing" if registry == CONSUL else "UP")

    def _version(self) -> Iterator[Move]:
        if one := self._some(self._is_in_service):
            yield self._put(one, self._registry(one), f"v{next(self._numbers)}")

    def _restart(self) -> Iterator[Move]:
        """Leave and come back under the same ID, sooner than a cache of 30 s shows it."""
        if one := self._some(lambda one: list(one.at) == [EUREKA] and self._has_sibling(one)):
            yield self._take(one, EUREKA)
            self.instances.append(one)
            yield self._put(one, EUREKA)

    def _share(self) -> Iterator[Move]:
        """Let the other registry list an endpoint too, and later no more."""
        if one := self._some(lambda one: len(one.at) == 1 and self._is_in_service(one)):
            other = EUREKA if CONSUL in one.at else CONSUL
            yield self._put(one, other, "v9")
            yield self._take(one, other)

    def _move_over(self) -> Iterator[Move]:
        """Let one registry take over an endpoint from the other: it must never be missing."""
        if one := self._some(lambda one: len(one.at) == 1 and self._is_in_service(one)):
            yield from self._over(one)

    def _over(self, one: Instance) -> Iterator[Move]:
        (old,) = one.at
        yield self._put(one, EUREKA if old == CONSUL else CONSUL)
        yield self._take(one, old)

    def _hop(self) -> Iterator[Move]:
        """Let an endpoint leave one registry before it is in the other."""
        if one := self._some(lambda one: len(one.at) == 1 and self._has_sibling(one)):
            (old,) = one.at
            yield self._take(one, old)
            self.instances.append(one)
            yield self._put(one, EUREKA if old == CONSUL else CONSUL)

    def _move_service(self) -> Iterator[Move]:
        """Let all of a service move from one registry to the other, one instance after the other."""
        service = self._random.choice(SERVICES)
        for one in [one for one in self.instances if one.service == service]:
            if len(one.at) == 1 and self._is_in_service(one):
                yield from self._over(one)


def picture(mixed: Mixed, owner: str = "dc1") -> Picture:
    """Say what every cluster must hold, when one agent hears both registries."""
    found: Picture = {}
    for service in {one.service for one in mixed.instances}:
        host = f"{service}.mesh.internal"
        listed = [one for one in mixed.instances if one.service == service]
        # Only Eureka's word says what is spoken on a port, and all must say it.
        protocol = {"protocol": "HTTP"} if all(list(one.at) == [EUREKA] for one in listed) else {}
        found["ServiceEntry", host] = {
            "labels": MANAGED,
            "author": owner,
            "spec": {
                "hosts": [host],
                "location": "MESH_INTERNAL",
                "resolution": "STATIC",
                "ports": [{"name": "main", "number": 80} | protocol],
                "workloadSelector": {"labels": {"isthmus.mesh/host": host}},
            },
        }
    for one in mixed.instances:
        if all(one.is_up(registry) for registry in one.at):
            found |= _workload_entry(one, owner)
    return found


def _workload_entry(one: Instance, owner: str) -> Picture:
    host = f"{one.service}.mesh.internal"
    first = CONSUL if CONSUL in one.at else EUREKA
    sources = {CONSUL: [CONSUL, one.service, NODE, one.id], EUREKA: [EUREKA, one.service.upper(), "", one.id]}
    locality = {"locality": "dc1"} if first == CONSUL else {}
    return {
        ("WorkloadEntry", name_of(one)): {
            "labels": {
                **MANAGED,
                "isthmus.mesh/host": host,
                "isthmus.mesh/owner": owner,
                "service.istio.io/canonical-name": service_label(one.service),
                "service.istio.io/canonical-revision": one.at[first].version,
                "security.istio.io/tlsMode": "disabled",
            },
            "source": sorted(sources[registry] for registry in one.at),
            "spec": {"address": one.address, "ports": {"main": one.port}, "weight": 1} | locality,
        }
    }


def name_of(one: Instance) -> str:
    """Return the name of an endpoint's WorkloadEntry."""
    digest = hashlib.sha256(f"{one.service}.mesh.internal|{one.address}|{one.port}".encode()).hexdigest()[:8]
    return f"{one.service}-{one.address}-{one.port}-{digest}"
