"""ServiceEntries that are of no use to somebody: for how long, as far as that was seen.

What nobody needs lingers, since its automatic VIP goes with it. What its author
has left, somebody else will take. Neither counts the time in which the cluster
could not be seen: there can have been WorkloadEntries meanwhile.
"""

import threading
from collections.abc import Iterable
from dataclasses import replace

from agent.alarms import Alarms
from state.checkpoint import Applied, Forsaken
from state.model import Held, ResourceKey

RECHECK = 60.0  # seconds after which one whose time is over is looked at again, if it is still there


class SeenTime:
    """A clock that stands still while a cluster is not seen; monotonic seconds, less those."""

    def __init__(self, now: float) -> None:
        self._lock = threading.Lock()
        self._lost: float | None = now
        self._shown = False  # since it was lost
        self._blind = 0.0

    def show(self) -> None:
        """Note that the cluster was read; it counts as seen when that is taken."""
        self._shown = True

    def lose(self, now: float) -> None:
        """Note that the cluster is not seen; may be called from any thread."""
        with self._lock:
            self._shown = False
            if self._lost is None:
                self._lost = now

    def regain(self, now: float) -> None:
        """Note that what was read was taken; if the cluster was not lost meanwhile, it is seen from now on."""
        with self._lock:
            if self._lost is not None and self._shown:
                self._blind += now - self._lost
                self._lost = None

    @property
    def sees(self) -> bool:
        """Tell whether the cluster is seen."""
        return self._lost is None

    def __call__(self, now: float) -> float:
        """Return what the clock shows."""
        with self._lock:
            return (now if self._lost is None else self._lost) - self._blind


class Counts:
    """For how long something has been so with each of many ServiceEntries."""

    def __init__(self, grace: float, seen: SeenTime) -> None:
        """``grace`` is for how many seconds it must have been so."""
        self._grace = grace
        self._seen = seen
        self._since: dict[ResourceKey, float] = {}  # by the clock that counts seen time
        self._alarms: Alarms[ResourceKey] = Alarms()

    def begin(self, key: ResourceKey, now: float, elapsed: float = 0.0) -> bool:
        """Note that it is so now; tell whether that is new."""
        if key not in self._since:
            self._since[key] = self._seen(now) - elapsed
            self._alarms.set(key, now + self._grace - elapsed)
            return True
        if key not in self._alarms:
            self._alarms.set(key, now + self._grace)
        return False

    def end(self, key: ResourceKey) -> bool:
        """Note that it is not so; tell whether it was."""
        self._alarms.drop(key)
        return self._since.pop(key, None) is not None

    def over(self, key: ResourceKey, now: float) -> bool:
        """Tell whether it has been so for long enough, in a cluster that is seen."""
        return key in self._since and self._seen.sees and self._seen(now) - self._since[key] >= self._grace

    def due(self, now: float) -> list[ResourceKey]:
        """Return those whose time is over; each is returned once in a while."""
        found = []
        for key in self._alarms.due(now):
            left = self._grace - (self._seen(now) - self._since[key])
            if left <= 0:
                found.append(key)
            self._alarms.set(key, now + (left if left > 0 else RECHECK))
        return found

    def next(self) -> float | None:
        """Return when ``due`` may return something, if ever."""
        return self._alarms.next()

    def elapsed(self, now: float) -> dict[ResourceKey, float]:
        """Return for how long it has been so with each; may be called from any thread."""
        shown = self._seen(now)
        return {key: max(0.0, shown - since) for key, since in dict(self._since).items()}


class Lingering(Counts):
    """For how long each ServiceEntry of ours had neither a need nor a WorkloadEntry."""

    def __init__(self, grace: float, applied: Iterable[Applied], seen: SeenTime, now: float) -> None:
        super().__init__(grace, seen)
        for row in applied:
            if row.unneeded is not None:
                self.begin(row.key, now, row.unneeded)

    def rows(self, applied: dict[ResourceKey, Applied], now: float) -> list[Applied]:
        """Return what to remember: for how long each has lingered."""
        rows = ((applied.get(key), seconds) for key, seconds in self.elapsed(now).items())
        return [replace(row, unneeded=seconds) for row, seconds in rows if row]


class Abandonment(Counts):
    """For how long each ServiceEntry of another owner that we need had no WorkloadEntry of its author.

    Another author, or another object of that name, begins anew.
    """

    def __init__(self, grace: float, remembered: Iterable[Forsaken], seen: SeenTime, now: float) -> None:
        super().__init__(grace, seen)
        self._whose: dict[ResourceKey, tuple[str, str]] = {}  # uid, author
        self._stored = self._ended = False
        for row in remembered:
            self._whose[row.key] = row.uid, row.author
            self._stored |= self.begin(row.key, now, row.seconds)

    def left(self, held: Held, now: float) -> None:
        """Note that the author of one has nothing there."""
        if self._whose.get(held.key) != (held.uid, held.owner):
            self.stays(held.key)
            self._whose[held.key] = held.uid, held.owner
        self.begin(held.key, now)

    def stays(self, key: ResourceKey) -> None:
        """Note that the author of one has something there, or that it is no concern of ours."""
        self._whose.pop(key, None)
        self._ended |= self.end(key) and self._stored

    def has_ended(self) -> bool:
        """Tell, once, whether something ended that may be remembered: it must not go on after a restart."""
        ended, self._ended = self._ended, False
        return ended

    def rows(self, now: float) -> list[Forsaken]:
        """Return what to remember; may be called from any thread."""
        whose = dict(self._whose)
        rows = [Forsaken(key, *whose[key], s) for key, s in self.elapsed(now).items() if key in whose]
        self._stored = self._stored or bool(rows)
        return rows
