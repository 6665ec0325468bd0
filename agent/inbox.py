"""What other threads tell a lane, until its own thread takes it."""

import threading
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from agent.hosts import Place
from agent.jobs import Done, Job
from agent.serving import Heard
from state.model import Held, ResourceKey

MANY = 16  # writes that have ended, for which a lane is woken though more of the same are under way


class News(NamedTuple):
    """What was told since the last time.

    ``passed`` tells that a registry had its first pass, ``accepted`` asks to carry out the deletions that are held.
    """

    whole: Mapping[ResourceKey, Held] | None
    delivered: Mapping[ResourceKey, Held | None]
    done: Sequence[Done]
    passed: bool
    accepted: bool


class Inbox:
    """Dirty places and news of one lane; ``settled`` is set while its lane has nothing to do.

    A lane is woken for whatever it must act upon. Writes that end while others of
    their phase are under way wait for those.
    """

    def __init__(self) -> None:
        self.wake = threading.Condition()
        self.settled = threading.Event()
        self.dirty: dict[Place, Heard] = {}
        self.called = False  # there is news that does not wait
        self._whole: Mapping[ResourceKey, Held] | None = None
        self._delivered: dict[ResourceKey, Held | None] = {}
        self._done: list[Done] = []
        self._passed = self._accepted = False

    def _call(self) -> None:
        self.called = True
        self.nudge()

    def call(self) -> None:
        """Let the lane act upon what changed beside this, before it is settled again."""
        with self.wake:
            self._call()

    def nudge(self) -> None:
        """Let the lane see what changed beside this."""
        with self.wake:
            if self.settled.is_set():
                self.settled.clear()
            self.wake.notify_all()

    def mark(self, places: Iterable[Place], heard: Heard) -> None:
        """Note that places may have changed; the oldest word of a registry about each counts."""
        with self.wake:
            for place in places:
                known = self.dirty.get(place)
                if known is None or (not heard.registry, heard.at) < (not known.registry, known.at):
                    self.dirty[place] = heard
            self.nudge()

    def next_dirty(self, busy: Container[Place]) -> tuple[Place, Heard] | None:
        """Take the dirty place that is first among those that are not busy, if there is any."""
        with self.wake:
            place = next((place for place in self.dirty if place not in busy), None)
            return None if place is None else (place, self.dirty.pop(place))

    def note_pass(self) -> None:
        """Note that a registry had its first pass."""
        with self.wake:
            self._passed = True
            self._call()

    def see_whole(self, objects: Mapping[ResourceKey, Held]) -> None:
        """Note a whole picture of the cluster; what was delivered before is in it."""
        with self.wake:
            self._whole = objects
            self._delivered.clear()
            self._call()

    def see_one(self, key: ResourceKey, held: Held | None) -> None:
        """Note what became of one object."""
        with self.wake:
            self._delivered[key] = held
            self._call()

    def answer(self, held: Held) -> None:
        """Note what a look at one object has shown, unless a watch told of it meanwhile."""
        with self.wake:
            self._delivered.setdefault(held.key, held)
            self._call()

    def finish(self, job: Job, done: Collection[Done]) -> None:
        """Note how writes of a job ended."""
        with self.wake:
            self._done.extend(done)
            job.left -= len(done)
            if not job.left or len(self._done) >= MANY:
                self._call()

    def has_ended(self, job: Job) -> bool:
        """Tell whether how each write of a job's phase ended was taken; for a caller that has ``wake``."""
        return not job.left and not any(one.job is job for one in self._done)

    def accept(self) -> None:
        """Note that deletions which are held are to be carried out."""
        with self.wake:
            self._accepted = True
            self._call()

    def has_news(self) -> bool:
        """Tell whether anything but dirty places is there; for a caller that has ``wake``."""
        return bool(self._done or self._delivered or self._whole is not None or self._passed or self._accepted)

    def take_news(self) -> News:
        """Take everything but the dirty places."""
        with self.wake:
            news = News(self._whole, self._delivered, self._done, self._passed, self._accepted)
            self._whole, self._delivered, self._done = None, {}, []
            self._passed = self._accepted = self.called = False
            return news
