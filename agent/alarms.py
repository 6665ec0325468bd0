"""When each of many things is due, in monotonic seconds."""

import heapq
from typing import Generic, TypeVar

K = TypeVar("K", bound=tuple[str, ...])


class Alarms(Generic[K]):
    """One time for each key; what is next costs no look at all of them."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, K]] = []  # may hold times that were changed since: they are passed over

    def __contains__(self, key: object) -> bool:
        return key in self._at

    def set(self, key: K, at: float) -> None:
        """Let a key be due at a time, whatever was set before."""
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._heap)

    def set_earlier(self, key: K, at: float) -> None:
        """Let a key be due at a time, unless it is due before."""
        if at < self._at.get(key, float("inf")):
            self.set(key, at)

    def drop(self, key: K) -> None:
        """Let a key be due never."""
        self._at.pop(key, None)

    def due(self, now: float) -> list[K]:
        """Return the keys whose time has come; each is returned once."""
        found: list[K] = []
        while (at := self.next()) is not None and at <= now:
            key = heapq.heappop(self._heap)[1]
            del self._at[key]
            found.append(key)
        return found

    def next(self) -> float | None:
        """Return when a key will be due, if any will."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
