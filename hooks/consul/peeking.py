"""Asking for the indexes of many services at once, on a few connections that are kept for a while."""

import asyncio
import threading
import time
from collections.abc import Mapping
from functools import partial

from hooks.consul.answers import Head, WireError
from hooks.consul.asking import Question, UnfitError, index_of
from hooks.consul.route import Route, SourceError, UnreachableError
from hooks.consul.sources import Sources
from hooks.consul.wire import Wire
from state.limits import Limits

OWN, SHARED = 4, 2  # connections, from an address of our own and from everybody's
A_WIRE = 8  # services for which one connection is enough
IDLE = 10.0  # seconds after which connections that nobody needs are closed


class Round:
    """One look at many indexes; whoever asks waits for ``done``."""

    def __init__(self, services: Mapping[str, int], token: str) -> None:
        self.services = services
        self.token = token
        self.same: set[str] = set()
        self.done = threading.Event()


class Peeks:
    """Sends all questions of a round ahead of the answers. One round at a time, for the event loop's thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, route: Route, question: Question, sources: Sources, limits: Limits
    ) -> None:
        self._loop = loop
        self._route = route
        self._question = question
        self._sources = sources
        self._limits = limits
        self._round: Round | None = None
        self._wires: dict[int, Wire] = {}
        self._names: dict[int, list[str]] = {}  # whose answers a wire still owes, the next one last
        self._number = 0
        self._quiet_until = 0.0
        self._idle: asyncio.TimerHandle | None = None

    def begin(self, a_round: Round) -> None:
        """Begin a round, as soon as it is known where the server is."""
        if self._idle is not None:
            self._idle.cancel()
        self._round = a_round
        self._route.prepare(self._loop.call_soon_threadsafe, partial(self._ask, a_round))

    def end(self, a_round: Round) -> None:
        """Leave open what is not answered yet, and keep no connection that still owes something."""
        if a_round is not self._round:
            return
        late = [number for number, names in self._names.items() if names]
        for number in late:
            self._drop(number)
        if late:
            self._quiet_until = time.monotonic() + self._limits.retry[-1]
        self._round = None
        a_round.done.set()
        self._idle = self._loop.call_later(IDLE, self.close)

    def close(self) -> None:
        """End all connections."""
        for number in tuple(self._wires):
            self._drop(number)

    def _ask(self, a_round: Round) -> None:
        if a_round is not self._round:  # it took too long to learn where the server is
            return
        names = list(a_round.services)
        most = OWN if self._sources.own else SHARED
        self._connect(min(most, -(-len(names) // A_WIRE)))
        wires = tuple(self._wires.items())
        shares = {number: names[turn :: len(wires)] for turn, (number, _) in enumerate(wires)}
        self._names = {number: share[::-1] for number, share in shares.items()}
        for number, wire in wires:
            if share := shares[number]:
                asked = (self._question.request(name, a_round.token) for name in share)
                wire.send(b"".join(asked), self._limits.read_timeout, len(share))
        self._look_whether_over()

    def _connect(self, count: int) -> None:
        if time.monotonic() < self._quiet_until:
            return
        while len(self._wires) < count:
            self._number += 1
            self._wires[self._number] = self._wire(self._number)

    def _wire(self, number: int) -> Wire:
        return Wire(
            self._loop,
            self._route,
            self._limits,
            self._sources.peeking,
            hear=lambda head: self._hear(number, head),
            lose=lambda error: self._lose(number, error),
        )

    def _hear(self, number: int, head: Head) -> None:
        name = self._names[number].pop()
        if self._round is not None:
            try:
                if index_of(head) == self._round.services[name]:
                    self._round.same.add(name)
            except UnfitError:
                pass  # it is read in full
        self._look_whether_over()

    def _lose(self, number: int, error: WireError) -> None:
        if isinstance(error, SourceError):
            self._sources.give_up(str(error))
        elif not self._wires[number].answered:
            self._quiet_until = time.monotonic() + self._limits.retry[-1]
        if isinstance(error, UnreachableError):
            self._route.doubt()
        self._drop(number)
        self._look_whether_over()

    def _drop(self, number: int) -> None:
        self._names.pop(number, None)
        self._wires.pop(number).close()

    def _look_whether_over(self) -> None:
        if self._round is not None and not any(self._names.values()):
            self.end(self._round)
