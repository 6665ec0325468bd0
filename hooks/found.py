"""How changes were found, and how long that took: what the parked queries and the lists are worth."""

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """What made a service be read.

    PARKED: its own parked query. STATUS: the sets of critical and warning checks.
    LIST: the list of services (new and gone names) or of nodes. HINT: a call of a
    watch handler. REREAD: its index, asked for when the catalogue had moved. DELTA:
    a delta of Eureka. FULL: a full read of Eureka that something called for. SWEEP:
    nothing; it was read because everything was, and should have been found before.
    """

    PARKED = "parked"
    STATUS = "status"
    LIST = "list"
    HINT = "hint"
    REREAD = "reread"
    DELTA = "delta"
    FULL = "full"
    SWEEP = "sweep"


CONSUL_SOURCES = (Source.PARKED, Source.STATUS, Source.LIST, Source.HINT, Source.REREAD, Source.SWEEP)
EUREKA_SOURCES = (Source.DELTA, Source.FULL, Source.SWEEP)


@dataclass(frozen=True, slots=True)
class Found:
    """What one source has found.

    ``wakeups`` counts the services that it was the first to mark dirty (SWEEP: the
    sweeps), ``changes`` those whose content had changed when they were read.
    ``seconds``, summed over the changes, and ``longest`` are from the first sign to
    the delivery; for a sweep, from when the service was last read.
    """

    wakeups: int = 0
    changes: int = 0
    seconds: float = 0.0
    longest: float = 0.0


class Tally:
    """Counts for each source what it found; for any thread."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._lock = threading.Lock()
        self._found = dict.fromkeys(sources, Found())

    def woke(self, source: Source, services: int = 1) -> None:
        """Count services that a source has marked dirty."""
        with self._lock:
            one = self._found[source]
            self._found[source] = Found(one.wakeups + services, one.changes, one.seconds, one.longest)

    def changed(self, source: Source, services: int, since: float) -> None:
        """Count services whose change was delivered just now; ``since`` is when its first sign was, monotonic."""
        if services:
            seconds = time.monotonic() - since
            with self._lock:
                one = self._found[source]
                spent, longest = one.seconds + services * seconds, max(one.longest, seconds)
                self._found[source] = Found(one.wakeups, one.changes + services, spent, longest)

    def report(self) -> Mapping[Source, Found]:
        """Return what every source has found so far."""
        with self._lock:
            return dict(self._found)
