"""The services of one registry that have to be read: since when, by whose word, and after how many failures."""

import threading
import time
from collections.abc import Collection, Sequence, Set
from typing import NamedTuple

from hooks.found import Source, Tally

UNREAD_SHARE = 5  # per cent of the services; with more than that, and than one, unread it was no pass


class Mark(NamedTuple):
    """The first sign that a service may have changed: when, in monotonic seconds, and what gave it."""

    heard: float
    source: Source


class Dirty:
    """A set of services in the order in which they were heard of; for any thread.

    A service that could not be read is *suspect*: it stays dirty, but the reader
    leaves it alone until the prober has seen it answer. ``wake`` is notified of what
    the reader may wait for, ``doubt`` of new suspects.
    """

    def __init__(self, retry: Sequence[float], tally: Tally) -> None:
        """``retry`` are the pauses after a first, second, ... failed read; the last one repeats."""
        lock = threading.RLock()
        self.wake = threading.Condition(lock)
        self.doubt = threading.Condition(lock)
        self._retry = retry
        self._tally = tally
        self._marks: dict[str, Mark] = {}
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._troubles: dict[str, str] = {}
        self._answered: set[str] = set()

    def mark(self, services: Collection[str], source: Source, heard: float | None = None) -> None:
        """Mark services dirty, unless they are already; ``heard`` is now unless told."""
        heard = time.monotonic() if heard is None else heard
        with self.wake:
            fresh = [service for service in services if service not in self._marks]
            self._marks.update(dict.fromkeys(fresh, Mark(heard, source)))
            if fresh:
                self._tally.woke(source, len(fresh))
                self.wake.notify_all()

    def restore(self, services: Collection[str], mark: Mark) -> None:
        """Mark services dirty again whose reading came to nothing; nobody is counted for it."""
        with self.wake:
            for service in services:
                self._marks.setdefault(service, mark)
            self.wake.notify_all()

    def take(self, *, answered: bool = False) -> tuple[str, Mark] | None:
        """Take the next service that was not a suspect, or one that was and has answered."""
        with self.wake:
            for service in self._marks:
                if service in self._answered if answered else service not in self._failures:
                    return service, self._marks.pop(service)
        return None

    # Suspects

    def suspects(self) -> set[str]:
        """Return the services that are not read until they have answered."""
        with self.wake:
            return self._failures.keys() - self._answered

    def next_suspect(self) -> tuple[str, float]:
        """Return the suspect whose turn comes first, and when; no name and infinity without any."""
        with self.wake:
            turns = ((self._not_before[service], service) for service in self.suspects())
            when, service = min(turns, default=(float("inf"), ""))
            return service, when

    def hurry(self) -> None:
        """Let every suspect be asked at once."""
        with self.wake:
            self._not_before = dict.fromkeys(self._not_before, 0.0)
            self.doubt.notify_all()

    def answered(self, service: str) -> None:
        """Give a suspect back to the reader."""
        with self.wake:
            if service in self._failures:
                self._answered.add(service)
                self.wake.notify_all()

    def is_suspect(self, service: str) -> bool:
        """Tell whether a service could not be read, and has not answered since."""
        return service in self._failures and service not in self._answered

    def has_answered(self, service: str) -> bool:
        """Tell whether a service was a suspect, has answered, and has not been read since."""
        return service in self._answered

    # How reading went

    def failing(self) -> set[str]:
        """Return the services that could not be read the last time."""
        with self.wake:
            return set(self._failures)

    def drop(self, service: str) -> None:
        """Forget that a service is dirty, as it is about to be read."""
        with self.wake:
            self._marks.pop(service, None)

    def read(self, service: str) -> None:
        """Note that a service was read."""
        if service in self._troubles or service in self._failures:
            with self.wake:
                for notes in (self._failures, self._not_before, self._troubles):
                    notes.pop(service, None)
                self._answered.discard(service)

    def failed(self, service: str, mark: Mark, now: float, why: str) -> None:
        """Note that a service could not be read: it stays dirty, and is suspect."""
        with self.wake:
            failures = self._failures.get(service, 0)
            self._failures[service] = failures + 1
            self._not_before[service] = now + self._retry[min(failures, len(self._retry) - 1)]
            self._troubles[service] = why
            self._answered.discard(service)
            self._marks.setdefault(service, mark)
            self.doubt.notify_all()

    def still_failed(self, service: str, now: float, why: str) -> None:
        """Note that a suspect did not answer."""
        with self.wake:
            if service in self._marks:
                self.failed(service, self._marks[service], now, why)

    def reject(self, service: str, why: str) -> None:
        """Note that a service can never be read."""
        with self.wake:
            self._marks.pop(service, None)
            self._troubles[service] = why

    def keep(self, services: Set[str]) -> None:
        """Forget what was wrong with all other services that nobody waits for: they are gone."""
        with self.wake:
            for service in self._troubles.keys() - self._failures.keys() - services:
                del self._troubles[service]

    def troubles(self) -> dict[str, str]:
        """Return the services that could not be read, and why."""
        with self.wake:
            return dict(self._troubles)


def too_many(unread: int, services: int) -> bool:
    """Tell whether so many services could not be read that it was no pass."""
    return unread > max(1, services * UNREAD_SHARE // 100) or 0 < services == unread
