"""ServiceEntries that nobody needs: they linger, since their automatic VIP goes with them."""

from collections.abc import Iterable
from dataclasses import replace

from agent.alarms import Alarms
from state.checkpoint import Applied
from state.model import ResourceKey

RECHECK = 60.0  # seconds after which one whose time is over is looked at again, if it is still there


class Lingering:
    """For how long each ServiceEntry of ours had neither a need nor a WorkloadEntry; monotonic seconds."""

    def __init__(self, grace: float, applied: Iterable[Applied], now: float) -> None:
        self._grace = grace
        self._since = {row.key: now - row.unneeded for row in applied if row.unneeded is not None}
        self._alarms: Alarms[ResourceKey] = Alarms()
        for key, since in self._since.items():
            self._alarms.set(key, since + grace)

    def needed(self, key: ResourceKey) -> bool:
        """Note that one is needed, or gone; tell whether it had lingered."""
        self._alarms.drop(key)
        return self._since.pop(key, None) is not None

    def unneeded(self, key: ResourceKey, now: float) -> None:
        """Note that one is not needed now."""
        self._since.setdefault(key, now)
        if key not in self._alarms:
            self._alarms.set(key, now + self._grace)

    def over(self, key: ResourceKey, now: float) -> bool:
        """Tell whether one has lingered long enough."""
        return key in self._since and now - self._since[key] >= self._grace

    def due(self, now: float) -> list[ResourceKey]:
        """Return those whose time is over; each is returned once in a while."""
        due = self._alarms.due(now)
        for key in due:
            self._alarms.set(key, now + RECHECK)
        return due

    def next(self) -> float | None:
        """Return when ``due`` will return something, if ever."""
        return self._alarms.next()

    def rows(self, applied: dict[ResourceKey, Applied], now: float) -> list[Applied]:
        """Return what to remember: for how long each has lingered."""
        rows = ((applied.get(key), at) for key, at in dict(self._since).items())
        return [replace(row, unneeded=now - at) for row, at in rows if row]
