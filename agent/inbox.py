"""What other threads tell a lane, until its own thread takes it."""

import threading
from collections import deque
from collections.abc import Collection, Container, Mapping
from typing import NamedTuple

from agent.hosts import Place
from agent.writes import Done
from state.model import Held, ResourceKey


class News(NamedTuple):
    """What was told since the last time.

    ``everywhere`` asks to plan every place, ``accepted`` to carry out the deletions that are held.
    """

    whole: Mapping[ResourceKey, Held] | None
    delivered: Mapping[ResourceKey, Held | None]
    done: tuple[Done, ...]
    everywhere: bool
    accepted: bool


class Inbox:
    """Dirty places and news of one lane; ``settled`` is set while its lane has nothing to do."""

    def __init__(self) -> None:
        self.wake = threading.Condition()
        self.settled = threading.Event()
        self.dirty: dict[Place, float] = {}  # since when, in monotonic seconds
        self._whole: Mapping[ResourceKey, Held] | None = None
        self._delivered: dict[ResourceKey, Held | None] = {}
        self._done: deque[Done] = deque()
        self._everywhere = self._accepted = False

    def _notify(self) -> None:
        self.settled.clear()
        self.wake.notify_all()

    def mark(self, places: Collection[Place], heard: float) -> None:
        """Note that places may have changed."""
        with self.wake:
            for place in places:
                self.dirty.setdefault(place, heard)
            self._notify()

    def mark_everywhere(self) -> None:
        """Note that anything may have changed, also where no host is known."""
        with self.wake:
            self._everywhere = True
            self._notify()

    def see_whole(self, objects: Mapping[ResourceKey, Held]) -> None:
        """Note a whole picture of the cluster; what was delivered before is in it."""
        with self.wake:
            self._whole = objects
            self._delivered.clear()
            self._notify()

    def see_one(self, key: ResourceKey, held: Held | None) -> None:
        """Note what became of one object."""
        with self.wake:
            self._delivered[key] = held
            self._notify()

    def finish(self, done: Done) -> None:
        """Note how a write ended."""
        with self.wake:
            self._done.append(done)
            self._notify()

    def accept(self) -> None:
        """Note that deletions which are held are to be carried out."""
        with self.wake:
            self._accepted = True
            self._notify()

    def nudge(self) -> None:
        """Let the lane see what changed beside this."""
        with self.wake:
            self.wake.notify_all()

    def has_news(self) -> bool:
        """Tell whether anything but dirty places is there; for a caller that has ``wake``."""
        return bool(self._done or self._delivered or self._whole is not None or self._everywhere or self._accepted)

    def take_news(self) -> News:
        """Take everything but the dirty places; for a caller that has ``wake``."""
        news = News(self._whole, self._delivered, tuple(self._done), self._everywhere, self._accepted)
        self._whole, self._delivered, self._everywhere, self._accepted = None, {}, False, False
        self._done.clear()
        return news

    def take_dirty(self, busy: Container[Place]) -> dict[Place, float]:
        """Take the dirty places that are not busy."""
        with self.wake:
            return {place: self.dirty.pop(place) for place in tuple(self.dirty) if place not in busy}
