"""A seeded random history of a Consul registry, in which removals stay under the shares that the guard lets pass."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.testbed.consul import Consul

RULES: tuple[dict[str, Any], ...] = (
    {"match": {"service": "batch-*"}, "skip": True},
    {
        "match": {"service": "pay-*"},
        "host": "pay.shop.internal",
        "port": 8443,
        "protocol": "https",
        "labels": {"team": "pay"},
    },
    {"match": {"service": "local-*"}, "clusters": ["east"]},
    {"match": {"service": "strict-*"}, "warning": "exclude"},
    {"match": {"tag": "canary*"}, "labels": {"track": "canary"}},
    {"match": {"service": "pay-b", "metadata": {"tier": "g*"}}, "labels": {"team": "pay-gold"}},
)
LONG = "an-uncommonly-" + 6 * "long-name-" + "x"
ODD = ("My_Svc", "billing.v2", "pay-a", "pay-b", "strict-a", "local-a", "batch-a", LONG)
SERVICES = ODD + tuple(f"svc-{number:02}" for number in range(20 - len(ODD)))
NODES = 24
GONE = 12  # fewer instances than at first, at most: more than 5 % take a second pass, more than 30 % would be held
DARK = 20  # instances out of service, at most: with half of them it would be panic

DECK = (
    *4 * ("fail", "recover", "deregister", "register", "move_port", "move_address", "change_weights"),
    *3 * ("warn", "change_version", "change_zone", "change_tags"),
    *2 * ("toggle_maintenance", "toggle_node_maintenance", "toggle_node", "reuse", "replace", "change_protocol"),
    *2 * ("register", "recover"),
    *("change_service_port", "move_node", "begin_service", "end_service", "drop_node", "hollow"),
)
MAKE_ROOM = ("register", "register", "recover", "toggle_maintenance", "toggle_node_maintenance", "toggle_node")


@dataclass(slots=True)
class Placed:
    """One registration, as the history has made it."""

    service: str
    id: str
    node: str
    address: str
    port: int
    tags: list[str] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)
    weights: tuple[int, int] = (10, 1)
    status: str = "passing"
    maintained: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """One call to Consul, answered `at`; `hinted` when a set of statuses shows it, so that no pass needs to find it."""

    what: str
    hinted: bool
    at: float = field(default_factory=time.monotonic)


class History:
    """Fills a Consul and plays with it, in a way that the seed alone decides."""

    def __init__(self, consul: Consul, seed: int) -> None:
        self.consul = consul
        self.placed: list[Placed] = []
        self.nodes = {f"node-{number:02}": f"10.255.1.{number + 1}" for number in range(NODES)}
        self.critical: set[str] = set()
        self.maintained: set[str] = set()
        self._random = random.Random(seed)
        self._numbers = count(1)
        self._first = 0
        self._deck: list[str] = []
        self.unplayed = set(DECK)
        self._hollow_there = True

    def fill(self) -> None:
        """Register 20 services with 3 to 5 instances each, and two that can never be endpoints."""
        for service in SERVICES:
            for _ in range(self._random.choice((3, 3, 4, 5))):
                self._add(service)
        self._first = len(self.placed)
        self.consul.register("svc-00", "loopback", address="127.0.0.1", port=80, node="node-00")
        self.consul.register("hollow", "portless", address="10.9.9.9", port=0, node="node-01")

    def play(self) -> Iterator[Move]:
        """Make one move after the other, each one call to Consul, for as long as anybody asks for more."""
        while True:
            if not self._deck:
                # What could not be played yet comes next, after what makes room for it.
                cards = (*sorted(self.unplayed), *MAKE_ROOM) if len(self.unplayed) < len(set(DECK)) else DECK
                self._deck = self._random.sample(cards, len(cards))
            kind = self._deck.pop()
            play: Callable[[], Iterator[Move]] = getattr(self, f"_{kind}")
            moves = 0
            for move in play():
                yield move
                moves += 1
            if moves:
                self.unplayed.discard(kind)  # now that it was played to its end

    # What is there

    def _is_up(self, one: Placed) -> bool:
        return (
            one.status != "critical"
            and not one.maintained
            and one.node not in self.critical | self.maintained
            and one.weights[one.status == "warning"] > 0
        )

    def _gone(self) -> int:
        return self._first - sum(one.node not in self.critical for one in self.placed)

    def _may_lose(self, number: int, *, for_good: bool = False) -> bool:
        dark = self._first - sum(self._is_up(one) for one in self.placed)
        return dark + number <= DARK and (not for_good or self._gone() + number <= GONE)

    def _some(self, true: Callable[[Placed], bool] = lambda _: True) -> Placed | None:
        found = [one for one in self.placed if true(one)]
        return self._random.choice(found) if found else None

    def _on(self, node: str) -> list[Placed]:
        return [one for one in self.placed if one.node == node]

    def _siblings(self, one: Placed) -> int:
        return sum(other.service == one.service for other in self.placed)

    def _a_node(self, most: int) -> str | None:
        nodes = [node for node in self.nodes if node not in self.critical | self.maintained]
        nodes = [node for node in nodes if 0 < len(self._on(node)) <= most]
        return self._random.choice(nodes) if nodes else None

    def _address(self) -> str:
        number = next(self._numbers)
        if number % 7 == 0:
            return f"2001:DB8::{number:x}"
        return f"10.{number // 200}.{number % 200}.{self._random.randint(1, 254)}"

    # Registering

    def _add(self, service: str, **fields: Any) -> Placed:
        number = next(self._numbers)
        nodes = [node for node in self.nodes if node not in self.critical | self.maintained]
        values: dict[str, Any] = {
            "node": min(nodes, key=lambda node: (len(self._on(node)), self._random.random())),
            "address": self._address() if number % 9 else "",
            "port": 8000 + number,
            "meta": {"version": f"v{number % 4}"} if number % 2 else {},
        }
        one = Placed(service=service, id=f"{service}-{number}", **{**values, **fields})
        self.placed.append(one)
        self._put(one)
        return one

    def _put(self, one: Placed) -> None:
        self.consul.register(
            one.service,
            one.id,
            address=one.address,
            port=one.port,
            node=one.node,
            node_address=self.nodes[one.node],
            tags=one.tags,
            meta=one.meta,
            weights=one.weights,
            status=one.status,
        )

    def _change(self, what: str, one: Placed | None, **fields: Any) -> Iterator[Move]:
        if one is not None:
            for name, value in fields.items():
                setattr(one, name, value)
            self._put(one)
            yield Move(f"{what} of {one.id} on {one.node}: {fields}", hinted=False)

    # Moves

    def _flip(self, one: Placed | None, status: str) -> Iterator[Move]:
        if one is not None:
            one.status = status
            self.consul.set_status(one.id, status, one.node)
            yield Move(f"{one.id} on {one.node} is {status}", hinted=True)

    def _fail(self) -> Iterator[Move]:
        if self._may_lose(1):
            yield from self._flip(self._some(self._is_up), "critical")

    def _warn(self) -> Iterator[Move]:
        if self._may_lose(1):
            yield from self._flip(self._some(lambda one: one.status == "passing"), "warning")

    def _recover(self) -> Iterator[Move]:
        yield from self._flip(self._some(lambda one: one.status != "passing"), "passing")

    def _toggle_maintenance(self) -> Iterator[Move]:
        one = self._some(lambda one: one.maintained) or (self._some() if self._may_lose(1) else None)
        if one is not None:
            one.maintained = not one.maintained
            self.consul.maintenance(one.id, one.node, on=one.maintained)
            yield Move(f"maintenance of {one.id} on {one.node}: {one.maintained}", hinted=True)

    def _toggle_node_maintenance(self) -> Iterator[Move]:
        on = not self.maintained
        node = self._a_node(4) if on and self._may_lose(4) else min(self.maintained, default=None)
        if node is not None:
            self.maintained ^= {node}
            self.consul.maintenance(node=node, on=on)
            yield Move(f"maintenance of {node}: {on}", hinted=True)

    def _toggle_node(self) -> Iterator[Move]:
        if self.critical:
            yield from self._set_node(min(self.critical), "passing")
        elif self._may_lose(4, for_good=True) and (node := self._a_node(4)):
            yield from self._set_node(node, "critical")

    def _set_node(self, node: str, status: str) -> Iterator[Move]:
        self.critical = self.critical | {node} if status == "critical" else self.critical - {node}
        # Not serfHealth: within a minute Consul removes a node that has that check and is no member of its cluster.
        self.consul.node_status(node, status, "reachable")
        # Beyond a few, nodes are believed to be lost only when a pass shows it again.
        yield Move(f"{node} is {status}", hinted=status == "passing" or self._gone() <= 3)

    def _register(self) -> Iterator[Move]:
        one = self._add(self._random.choice(SERVICES), weights=(self._random.randint(1, 9), 1))
        yield Move(f"{one.id} on {one.node} is new", hinted=False)

    def _deregister(self) -> Iterator[Move]:
        one = self._some(lambda one: self._siblings(one) > 1)
        if one is not None and self._may_lose(1, for_good=True):
            yield self._take_out(one)

    def _take_out(self, one: Placed) -> Move:
        self.placed.remove(one)
        self.consul.deregister(one.id, one.node)
        return Move(f"{one.id} on {one.node} is no more", hinted=False)

    def _drop_node(self) -> Iterator[Move]:
        node = self._a_node(3)
        if node is not None and self._may_lose(3, for_good=True):
            self.placed = [one for one in self.placed if one.node != node]
            self.consul.deregister_node(node)
            yield Move(f"{node} is no more", hinted=False)

    def _begin_service(self) -> Iterator[Move]:
        one = self._add(f"late-{next(self._numbers)}")
        yield Move(f"{one.service} is new, with {one.id} on {one.node}", hinted=False)

    def _end_service(self) -> Iterator[Move]:
        one = self._some(lambda one: one.service.startswith("late-") and self._siblings(one) == 1)
        if one is None:
            yield from self._begin_service()
            one = self.placed[-1]
        if self._may_lose(1, for_good=True):
            yield self._take_out(one)

    def _hollow(self) -> Iterator[Move]:
        """End the one service that has no endpoint, so that its ServiceEntry must go."""
        if self._hollow_there:
            self._hollow_there = False
            self.consul.deregister("portless", "node-01")
            yield Move("the last instance of hollow is no more", hinted=False)

    def _move_port(self) -> Iterator[Move]:
        yield from self._change("port", self._some(), port=20000 + next(self._numbers))

    def _move_address(self) -> Iterator[Move]:
        yield from self._change("address", self._some(), address=self._address())

    def _move_node(self) -> Iterator[Move]:
        """Change the address of a node, which is that of its instances that have none of their own."""
        one = self._some(lambda one: not one.address)
        if one is not None:
            address = self.nodes[one.node] = f"10.254.{next(self._numbers) % 250}.7"
            self.consul.request("PUT", "/v1/catalog/register", {"Node": one.node, "Address": address})
            yield Move(f"{one.node} is at {address}", hinted=False)

    def _change_weights(self) -> Iterator[Move]:
        if self._may_lose(1):
            weights = (self._random.choice((1, 5, 20, 50)), self._random.choice((0, 2, 3)))
            yield from self._change("weights", self._some(), weights=weights)

    def _change_meta(self, key: str, value: str) -> Iterator[Move]:
        one = self._some()
        yield from self._change("metadata", one, meta={**(one.meta if one else {}), key: value})

    def _change_version(self) -> Iterator[Move]:
        yield from self._change_meta("version", f"v{next(self._numbers)}")

    def _change_zone(self) -> Iterator[Move]:
        yield from self._change_meta("zone", self._random.choice(("a", "b", "b/rack-1")))

    def _change_protocol(self) -> Iterator[Move]:
        yield from self._change_meta("protocol", self._random.choice(("http", "grpc", "tcp")))

    def _change_service_port(self) -> Iterator[Move]:
        yield from self._change_meta("port", self._random.choice(("8080", "9090")))

    def _change_tags(self) -> Iterator[Move]:
        tags = self._random.choice((["canary-2"], ["blue"], ["port=7070", "blue"], []))
        yield from self._change("tags", self._some(), tags=tags)

    def _reuse(self) -> Iterator[Move]:
        """Let another node register the address and port of an instance whose node is critical, and come back."""
        one = self._some(lambda one: bool(one.address) and one.node not in self.critical | self.maintained)
        if one is None or self.critical or len(self._on(one.node)) > 4 or not self._may_lose(4, for_good=True):
            return
        yield from self._set_node(one.node, "critical")
        heir = self._add(one.service, address=one.address, port=one.port)
        yield Move(f"{heir.id} on {heir.node} has the endpoint of {one.id}", hinted=False)
        yield from self._set_node(one.node, "passing")
        yield from self._set_node(heir.node, "critical")  # the last registered, but now it says nothing
        yield from self._set_node(heir.node, "passing")
        yield self._take_out(one)

    def _replace(self) -> Iterator[Move]:
        """Let another node register the address and port of an instance that still serves, which then goes."""
        one = self._some(lambda one: bool(one.address) and self._is_up(one))
        if one is None or len(self._on(one.node)) > 4 or not self._may_lose(4, for_good=True):
            return
        heir = self._add(one.service, address=one.address, port=one.port, weights=(7, 1))
        yield Move(f"{heir.id} on {heir.node} shares the endpoint of {one.id}", hinted=False)
        if not self.critical:
            yield from self._set_node(one.node, "critical")
        yield self._take_out(one)
