"""Repairs of drift, and the objects over which somebody fights."""

import logging
from collections.abc import Set as AbstractSet

from agent.plan import Change
from agent.retry import content_digest
from state.checkpoint import Applied
from state.model import ResourceKey

logger = logging.getLogger(__name__)

MOST = 3  # repairs of one object within limits.fight; the next one would be a fight


class Repairs:
    """Counts how often each object had to be put back as it was applied."""

    def __init__(self, fight: float) -> None:
        """``fight`` is the time, in seconds, within which a fourth repair is not made."""
        self._fight = fight
        self._under_way: set[ResourceKey] = set()
        self._made: dict[ResourceKey, list[float]] = {}
        self._left: dict[ResourceKey, str] = {}
        self._new: list[ResourceKey] = []
        self.count = 0

    def judge(self, change: Change, applied: Applied | None, now: float) -> float | None:
        """Return until when an object is to be left alone, None if it may be changed.

        A change is a repair when just this was applied before.
        """
        key = change.key
        self._under_way.discard(key)
        left = self._left.pop(key, None)
        if applied is None or applied.digest != content_digest(change.resource):
            return None
        made = [at for at in self._made.get(key, ()) if now - at < self._fight]
        if len(made) >= MOST:
            if left is None:
                left = f"repaired {MOST} times, and changed again ({change.why}): left alone"
                self._new.append(key)
            self._left[key] = left
            return made[0] + self._fight
        self._under_way.add(key)
        return None

    def unneeded(self, keys: AbstractSet[ResourceKey]) -> None:
        """Note that objects are as they should be: nobody fights over them now."""
        for key in self._left.keys() & keys:
            del self._left[key]

    def is_repair(self, key: ResourceKey) -> bool:
        """Tell whether the change of an object that is under way is a repair."""
        return key in self._under_way

    def made(self, key: ResourceKey, now: float) -> None:
        """Note that a change of an object was carried out."""
        if key not in self._under_way:
            return
        self._under_way.discard(key)
        self.count += 1
        self._made[key] = [*self._made.pop(key, ()), now][-MOST:]  # at the end: the key repaired longest ago is first
        for other in list(self._made):
            if now - self._made[other][-1] < self._fight:
                break
            del self._made[other]

    def newly_left(self) -> list[ResourceKey]:
        """Return the objects that were left alone since the last call."""
        new, self._new = self._new, []
        return new

    def blame(self, key: ResourceKey, writers: tuple[str, ...]) -> None:
        """Add who else writes an object that is left alone; may be called from any thread."""
        left = self._left.get(key)
        if left is not None:
            self._left[key] = f"{left}; other writers: {', '.join(writers) or 'unknown'}"
            logger.warning("%s: %s", key, self._left[key])

    def left_alone(self) -> tuple[tuple[ResourceKey, str], ...]:
        """Return the objects that are left alone because somebody keeps changing them."""
        return tuple(sorted(dict(self._left).items()))
