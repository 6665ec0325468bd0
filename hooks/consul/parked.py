"""Parked queries: one blocking query for each of some services, which tells that it changed, and no more.

All of them wait in one thread. What has changed is then read in full, by another.
"""

import asyncio
import logging
import resource
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hooks.consul.answers import ClosedError, RefusedError, WireError
from hooks.consul.asking import Question
from hooks.consul.budget import Budget
from hooks.consul.client import unaskable
from hooks.consul.door import Door
from hooks.consul.peeking import Peeks, Round
from hooks.consul.route import Route, SourceError, UnreachableError
from hooks.consul.settings import ConsulSettings
from hooks.consul.sources import A_SOURCE, Sources
from hooks.consul.waiting import Waiting
from hooks.pulse import Pulse
from hooks.secret import read_token
from state.errors import RegistryError
from state.limits import Limits

logger = logging.getLogger(__name__)

SHARED = 80  # connections from an address that others have as well, twice at a restart; Consul allows 200
FEW = 16  # where we were not let have one of our own
BEAT = 1.0  # seconds
PATIENCE = 1.0  # seconds for comparing indexes; whoever asks reads what was not told by then

Wake = Callable[[str, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedReport:
    """How many services are waited for, of how many at most; ``shrunk`` is why that is fewer than configured."""

    parked: int
    budget: int
    wakeups: int
    reconnects: int
    shrunk: str


class Parked:
    """Waits for services one by one, and compares the indexes of others."""

    def __init__(self, settings: ConsulSettings, limits: Limits, wake: Wake) -> None:
        """``wake`` is told a service and its index, by our thread: a new one, or that of a new connection."""
        self.settings = settings
        self.limits = limits
        self.question = Question(settings)
        self.route = Route(settings)
        self.sources = Sources(settings)
        self._wake = wake
        self._budget = _budget(settings, limits, self.sources)
        self._wanted: tuple[str, ...] = ()
        self._waiting: dict[str, Waiting] = {}
        self._wakeups = self._reconnects = 0
        self._lock = threading.Lock()
        self._footing: dict[str, int] = {}
        self._running = False
        self._is_behind = False  # with what is wanted
        self._round: Round | None = None
        self._peeking = threading.Lock()
        self._pulse = Pulse(f"{settings.name} parked", limits.deadline + BEAT)
        self._thread = threading.Thread(target=self._run, name=f"{settings.name} parked", daemon=True)

    # For other threads

    def start(self) -> None:
        """Start the thread."""
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_log)
        self._door = Door(self.loop, self.route, self.limits)
        self._peeks = Peeks(self.loop, self.route, self.question, self.sources, self.limits)
        self._running = True
        self._thread.start()
        self._post(self._arrange)

    def stop(self) -> None:
        """End every query, and the thread."""
        if self._thread.is_alive():
            self._post(self.loop.stop)
            self._thread.join(self.limits.stop)

    def want(self, services: Sequence[str]) -> None:
        """Park these services, the first ones first, as far as the budget goes; end what is parked besides."""
        self._wanted = tuple(dict.fromkeys(service for service in services if not unaskable(service)))
        self._post(self._arrange)

    def parked(self) -> Mapping[str, int]:
        """Return which services wait, with the index in hand: whatever changes after that will be heard."""
        with self._lock:
            return dict(self._footing)

    def peek(self, services: Mapping[str, int]) -> frozenset[str]:
        """Return which of these services have exactly this index still; what cannot be told is not among them."""
        asked = {service: index for service, index in services.items() if not unaskable(service)}
        try:
            a_round = Round(asked, read_token(self.settings.token_file))
        except RegistryError as error:
            logger.debug("registry %s: %s", self.settings.name, error)
            return frozenset()
        with self._peeking:
            with self._lock:
                self._round = a_round
                begun = self._running
            if not begun or not asked or not self._post(lambda: self._peeks.begin(a_round)):
                return frozenset()
            if not a_round.done.wait(min(PATIENCE, self.limits.read_timeout)):
                self._post(lambda: self._peeks.end(a_round))
            return frozenset(a_round.same)

    def stuck(self, now: float) -> str:
        """Return what has been at one step for too long, or nothing."""
        return self._pulse.stuck(now)

    def report(self) -> ParkedReport:
        """Return how many services are parked, and why not more."""
        return ParkedReport(
            parked=len(self.parked()),
            budget=self._budget.allowed,
            wakeups=self._wakeups,
            reconnects=self._reconnects,
            shrunk=self._budget.why or (self._door.trouble if self._running else ""),
        )

    def _post(self, act: Callable[[], object]) -> bool:
        """Have something done by our thread; tells whether there is one."""
        with self._lock:
            if self._running:
                self.loop.call_soon_threadsafe(act)
            return self._running

    # The thread

    def _run(self) -> None:
        try:
            self.loop.call_soon(self._beat)
            self.loop.run_forever()
        finally:
            self._drop(tuple(self._waiting))
            self._peeks.close()
            with self._lock:
                self._running = False
                if self._round is not None:
                    self._round.done.set()
            self.loop.close()
            self._pulse.rest()

    def _beat(self) -> None:
        self._pulse.step()
        self.loop.call_later(BEAT, self._beat)
        if self._budget.grow(time.monotonic()) or self._is_behind or self.sources.given_up:
            self._arrange()

    def _arrange(self) -> None:
        """Let those services be parked that are wanted, as far as the budget goes.

        What is abandoned lingers. So what is not wanted any more stays parked as long
        as nothing may take its place.
        """
        if self.sources.given_up:
            self._budget.cap(FEW, self.sources.given_up)
        allowed, waiting = self._budget.allowed, self._waiting
        self.sources.share = min(A_SOURCE, self._budget.ceiling)
        wanted = dict.fromkeys(self._wanted[:allowed])
        unwanted = [service for service in waiting if service not in wanted]
        missing = [service for service in wanted if service not in waiting]
        may_linger = allowed if self.sources.own else max(1, allowed // 4)
        room = max(0, allowed + may_linger - len(waiting) - self.sources.lingering)
        self._is_behind = room < len(missing)
        self._drop(unwanted[: max(len(waiting) - allowed, len(unwanted) - len(missing[room:]))])
        for service in missing[: min(room, allowed - len(waiting))]:
            waiting[service] = one = Waiting(service, self)
            self._door.queue(one)

    def _drop(self, services: Sequence[str]) -> None:
        dropped = [self._waiting.pop(service) for service in services]
        for waiting in dropped:
            waiting.end()
        self._door.leave(*dropped)

    # What waits tells

    def answered(self, waiting: Waiting) -> None:
        """Note that something was answered on its connection."""
        if not self._door.has_let_in(waiting):
            self._reconnects += waiting.is_returning
            self._door.answered(waiting)

    def footing(self, service: str, index: int) -> None:
        """Note with which index in hand its query waits, 0 for none."""
        with self._lock:
            if index:
                self._footing[service] = index
            else:
                self._footing.pop(service, None)

    def told(self, service: str, index: int, before: int) -> None:
        """Hand over an index that is not the one before; there was none when that is 0."""
        self._wakeups += before > 0
        self._wake(service, index)

    def lost(self, waiting: Waiting, error: WireError, asked: float) -> None:
        """Note that its connection was lost, with the query of that time; another is made after a pause."""
        logger.debug("registry %s: parked %s: %s", self.settings.name, waiting.service, error)
        new = not self._door.has_let_in(waiting)
        others = self._door.served - (not new)
        if isinstance(error, UnreachableError):
            self.route.doubt()
        if isinstance(error, SourceError):
            self.sources.give_up(str(error))
            self._arrange()
        elif isinstance(error, RefusedError) or (isinstance(error, ClosedError) and others):
            self._refused(asked, others, str(error))
        elif new:
            self._door.shut(str(error))
        self._door.leave(waiting)
        self.loop.call_later(waiting.pause(), self._return, waiting)

    def _refused(self, asked: float, served: int, why: str) -> None:
        before = self._budget.allowed
        self._budget.refuse(asked, time.monotonic(), served, why)
        if self._budget.allowed < before:
            text = "registry %s: %d services are parked instead of %d: %s"
            logger.warning(text, self.settings.name, self._budget.allowed, before, why)
            self._arrange()

    def _return(self, waiting: Waiting) -> None:
        if self._waiting.get(waiting.service) is waiting:
            self._door.queue(waiting)


def _budget(settings: ConsulSettings, limits: Limits, sources: Sources) -> Budget:
    budget = Budget(settings.parked, limits.wait)
    if not sources.own:
        budget.cap(SHARED, "its clients on this machine share one address")
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY:
        budget.cap(files // 2, f"no more than {files} files may be open")
    return budget


def _log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001 - as asyncio calls it
    logger.error("parked queries: %s", context["message"], exc_info=context.get("exception"))
