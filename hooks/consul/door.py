"""When the next connections may be made: few at a time, and one alone while nothing answers."""

import asyncio
import random
import time
from typing import Protocol

from hooks.consul.route import Route
from state.limits import Limits

AT_ONCE = 8  # connections being made


class Comer(Protocol):
    """Whoever wants a connection."""

    def enter(self) -> None:
        """Begin to make it."""


class Door:
    """Lets as many connections be made at once as are served already, but at least one.

    So a server that has come back is not stormed, and one that is not there is asked
    by one connection at a time, with growing pauses. For the event loop's thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, route: Route, limits: Limits) -> None:
        self._loop = loop
        self._route = route
        self._retry = limits.retry
        self._queue: dict[Comer, None] = {}
        self._opening: set[Comer] = set()
        self._inside: set[Comer] = set()
        self._failures = 0
        self._shut_until = 0.0
        self._preparing = False
        self.trouble = ""  # why no connection can be made now

    @property
    def served(self) -> int:
        """Return on how many connections something has been answered."""
        return len(self._inside)

    def has_let_in(self, comer: Comer) -> bool:
        """Tell whether something was answered on its connection."""
        return comer in self._inside

    def queue(self, comer: Comer) -> None:
        """Let it enter as soon as it is its turn."""
        self._queue[comer] = None
        self._open()

    def answered(self, comer: Comer) -> None:
        """Note that something was answered on its connection."""
        self._opening.discard(comer)
        self._inside.add(comer)
        self._failures, self._shut_until, self.trouble = 0, 0.0, ""
        self._open()

    def leave(self, *comers: Comer) -> None:
        """Note that they have no connection, and want none."""
        for comer in comers:
            self._queue.pop(comer, None)
        self._opening.difference_update(comers)
        self._inside.difference_update(comers)
        self._open()

    def shut(self, why: str) -> None:
        """Note that a connection was not answered; nothing enters for a while."""
        pause = self._retry[min(self._failures, len(self._retry) - 1)] * (0.5 + random.random())
        self._failures += 1
        self._shut_until, self.trouble = time.monotonic() + pause, why
        self._loop.call_later(pause, self._open)

    def _open(self) -> None:
        if self._queue and not self._preparing and time.monotonic() >= self._shut_until:
            self._preparing = True
            self._route.prepare(self._loop.call_soon_threadsafe, self._let_in)

    def _let_in(self) -> None:
        self._preparing = False
        while self._queue and len(self._opening) < min(AT_ONCE, max(1, self.served)):
            if time.monotonic() < self._shut_until:
                return
            comer = next(iter(self._queue))
            del self._queue[comer]
            self._opening.add(comer)
            comer.enter()
