"""One service that is waited for, on a connection of its own."""

import asyncio
import logging
import random
import time
from typing import Protocol

from hooks.consul.answers import Head, WireError
from hooks.consul.asking import Question, UnfitError, index_of
from hooks.consul.route import Route
from hooks.consul.settings import ConsulSettings
from hooks.consul.sources import Sources
from hooks.consul.wire import Wire
from hooks.secret import read_token
from state.errors import RegistryError
from state.limits import Limits

logger = logging.getLogger(__name__)

JITTER = 0.25  # of a wait, so that not all queries end together
STRETCHED = 17 / 16  # times the wait that was asked for, at most: what Consul adds
SPACING = 0.02  # seconds between two wake-ups of one service while it is busy


class Place(Protocol):
    """Where services are waited for."""

    loop: asyncio.AbstractEventLoop
    settings: ConsulSettings
    limits: Limits
    route: Route
    sources: Sources
    question: Question

    def answered(self, waiting: "Waiting") -> None:
        """Note that something was answered on its connection."""

    def footing(self, service: str, index: int) -> None:
        """Note with which index in hand its query waits, 0 for none."""

    def told(self, service: str, index: int, before: int) -> None:
        """Hand over an index that is not the one before; there was none when that is 0."""

    def lost(self, waiting: "Waiting", error: WireError, asked: float) -> None:
        """Note that its connection was lost, with the query of that time."""


class Waiting:
    """Asks for one service again and again. For the event loop's thread."""

    __slots__ = (
        "_answer_due",
        "_asked",
        "_failures",
        "_index",
        "_pause",
        "_place",
        "_source",
        "_told",
        "_wire",
        "is_returning",
        "service",
    )

    def __init__(self, service: str, place: Place) -> None:
        self.service = service
        self.is_returning = False  # its connection was lost, and no other has been answered yet
        self._source = ""
        self._place = place
        self._wire: Wire | None = None
        self._index = 0  # that the query has in hand
        self._asked = 0.0
        self._answer_due = 0.0  # by then Consul has ended the wait
        self._told = 0.0
        self._failures = 0
        self._pause: asyncio.TimerHandle | None = None

    def enter(self) -> None:
        """Connect, and ask."""
        place = self._place
        self._index = 0  # so the answer comes at once, and shows whether something was missed
        self._source = place.sources.take()
        self._wire = Wire(place.loop, place.route, place.limits, self._source, hear=self._hear, lose=self._lose)
        self._ask()

    def end(self) -> None:
        """Wait no more."""
        if self._wire is not None:
            self._wire.close()
        self._forget_wire(self._answer_due)

    def _forget_wire(self, until: float = 0.0) -> None:
        if self._pause is not None:
            self._pause.cancel()
        if self._wire is not None:
            self._wire = None
            self._place.sources.give_back(self._source, until)
        self._place.footing(self.service, 0)

    def pause(self) -> float:
        """Return how long to rest after another failure."""
        retry = self._place.limits.retry
        self._failures += 1
        return retry[min(self._failures, len(retry)) - 1] * (0.5 + random.random())

    def _ask(self) -> None:
        place, wire = self._place, self._wire
        if wire is None:
            return
        wait = place.limits.wait * (1 - JITTER * random.random()) if self._index else 0.0
        try:
            token = read_token(place.settings.token_file)
        except RegistryError as error:
            self._rest(error)
            return
        self._asked = time.monotonic()
        request = place.question.request(self.service, token, self._index, wait)
        place.footing(self.service, self._index)
        self._answer_due = self._asked + wait * STRETCHED
        wire.send(request, wait * STRETCHED + place.limits.read_timeout)

    def _ask_later(self, pause: float) -> None:
        self._pause = self._place.loop.call_later(pause, self._ask)

    def _rest(self, error: Exception) -> None:
        """Ask again after a while, without an index: nothing that was not believed may be built upon."""
        logger.debug("registry %s: parked %s: %s", self._place.settings.name, self.service, error)
        self._index = 0
        self._place.footing(self.service, 0)
        self._ask_later(self.pause())

    def _hear(self, head: Head) -> None:
        self._answer_due = 0.0
        self._place.answered(self)
        self.is_returning = False
        try:
            index = index_of(head)
        except UnfitError as error:
            self._rest(error)
            return
        before, now = self._index, time.monotonic()
        if index == before and now - self._asked < self._place.limits.wait / 2:
            # Consul does so when a snapshot was restored, and would now wait until the old index comes again;
            # whoever always does so is asked less and less.
            self._rest(UnfitError("answered at once that nothing has changed"))
            return
        # If it went back, this is another life of the registry's data, of which nothing is known.
        self._index = 0 if index < before else index
        if before:
            self._failures = 0
        if index == before:
            self._ask()
            return
        pause = self._told + SPACING - now if before else 0.0
        self._told = now
        self._place.told(self.service, index, before)
        if pause > 0:
            self._ask_later(pause)
        else:
            self._ask()

    def _lose(self, error: WireError) -> None:
        self._forget_wire()
        self._place.lost(self, error, self._asked)
        self.is_returning = True
