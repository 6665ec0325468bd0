"""The services of one registry that have to be read: since when, and after how many failures."""

from collections.abc import Collection, Sequence

UNREAD_SHARE = 5  # per cent of the services; with more than that, and than one, unread it was no pass


class Dirty:
    """A set of services in the order in which they were heard of; times are monotonic seconds."""

    def __init__(self, retry: Sequence[float]) -> None:
        """``retry`` are the pauses after a first, second, ... failed read; the last one repeats."""
        self._retry = retry
        self._heard: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._troubles: dict[str, str] = {}

    def mark(self, services: Collection[str], heard: float) -> None:
        """Mark services dirty, unless they are already."""
        for service in services:
            self._heard.setdefault(service, heard)

    def take(self, now: float, *, failed: bool) -> tuple[str, float] | None:
        """Take the next service that may be read now, with when it was heard of: one that could not be read, or not."""
        for service in self._heard:
            if (service in self._failures) is failed and self._not_before.get(service, 0.0) <= now:
                return service, self._heard.pop(service)
        return None

    def drop(self, service: str) -> None:
        """Forget that a service is dirty, as it is about to be read."""
        self._heard.pop(service, None)

    def next(self) -> float:
        """Return when a service may be read, infinity when none is dirty."""
        return min((self._not_before.get(service, 0.0) for service in self._heard), default=float("inf"))

    def read(self, service: str) -> None:
        """Note that a service was read."""
        for notes in (self._failures, self._not_before, self._troubles):
            notes.pop(service, None)

    def failed(self, service: str, heard: float, now: float, why: str) -> None:
        """Note that a service could not be read: it stays dirty."""
        failures = self._failures.get(service, 0)
        self._failures[service] = failures + 1
        self._not_before[service] = now + self._retry[min(failures, len(self._retry) - 1)]
        self._troubles[service] = why
        self._heard.setdefault(service, heard)

    def reject(self, service: str, why: str) -> None:
        """Note that a service can never be read."""
        self._heard.pop(service, None)
        self._troubles[service] = why

    def troubles(self) -> dict[str, str]:
        """Return the services that could not be read, and why."""
        return dict(self._troubles)


def too_many(unread: int, services: int) -> bool:
    """Tell whether so many services could not be read that it was no pass."""
    return unread > max(1, services * UNREAD_SHARE // 100) or 0 < services == unread
