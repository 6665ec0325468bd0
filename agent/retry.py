"""When what a cluster did not take is tried again: one object, or the whole cluster."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from agent.hosts import Place
from agent.plan import Change
from state.errors import ClusterError, Fault
from state.limits import Limits
from state.model import DIGEST, Resource, ResourceKey, digest_of

STRIKES = 8  # unauthorised answers in a row after which the whole cluster waits


@dataclass(slots=True)
class _Later:
    """One object that failed: ``until`` and ``since`` are monotonic seconds."""

    place: Place
    since: float
    until: float
    failures: int
    message: str
    digest: str = ""  # of the desired state that was rejected


class Retries:
    """What failed in one cluster, and when it is due again."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._later: dict[ResourceKey, _Later] = {}
        self._closed_until = 0.0
        self._closed_times = 0
        self._strikes = 0

    def open(self, now: float) -> bool:
        """Tell whether the cluster as a whole may be written to."""
        return now >= self._closed_until

    def may(self, change: Change, now: float) -> bool:
        """Tell whether a change may be tried; another desired state ends a rejection at once."""
        later = self._later.get(change.key)
        if later is None or now >= later.until:
            return True
        return bool(later.digest) and later.digest != content_digest(change.resource)

    def succeeded(self, key: ResourceKey) -> None:
        """Forget the failures of an object."""
        self._later.pop(key, None)
        self._closed_times = self._strikes = 0

    def reconcile(self, place: Place, wanted: Collection[ResourceKey]) -> None:
        """Forget the failures at a place that no change is wanted for any more."""
        for key in [k for k, later in self._later.items() if later.place == place and k not in wanted]:
            del self._later[key]

    def park(self, change: Change, place: Place, message: str, now: float) -> None:
        """Leave an object alone until something else is desired, or the probe is due."""
        self._put(change, place, message, now, self._limits.rejected_probe, rejected=True)

    def failed(self, change: Change, place: Place, error: ClusterError, now: float) -> None:
        """Note a failure; what follows from it depends on its fault."""
        backoff = self._limits.backoff
        if error.fault is Fault.REJECTED:
            self.park(change, place, str(error), now)
            return
        self._strikes = self._strikes + 1 if error.fault is Fault.UNAUTHORISED else 0
        if error.fault is Fault.CLUSTER or self._strikes >= STRIKES:
            if self.open(now):
                step = backoff[min(self._closed_times, len(backoff) - 1)]
                self._closed_until = now + max(step, error.retry_after)
                self._closed_times += 1
            return
        failures = self._later[change.key].failures if change.key in self._later else 0
        first = error.fault in (Fault.CONFLICT, Fault.EXISTS, Fault.MISSING) and failures == 0
        delay = 0.0 if first else backoff[min(failures, len(backoff) - 1)]
        self._put(change, place, str(error), now, max(delay, error.retry_after))

    def _put(
        self, change: Change, place: Place, message: str, now: float, delay: float, rejected: bool = False
    ) -> None:
        before = self._later.get(change.key)
        self._later[change.key] = _Later(
            place=place,
            since=before.since if before else now,
            until=now + delay,
            failures=before.failures + 1 if before else 1,
            message=message,
            digest=content_digest(change.resource) if rejected else "",
        )

    def due(self, now: float) -> Iterator[Place]:
        """Return the places of which an object is due again; each is returned once."""
        for later in self._later.values():
            if later.until <= now and later.until > 0:
                later.until = 0.0
                yield later.place

    def next(self) -> float | None:
        """Return the monotonic time at which an object is due, if any is."""
        return min((later.until for later in self._later.values() if later.until > 0), default=None)

    @property
    def opens(self) -> float:
        """Return the monotonic time from which the cluster may be written to."""
        return self._closed_until

    def waiting(self) -> bool:
        """Tell whether an object that failed is to be tried again."""
        return bool(self._later)

    def since(self) -> list[float]:
        """Return since when each failed object waits, in monotonic seconds."""
        return [later.since for later in list(self._later.values())]

    def parked(self) -> tuple[tuple[ResourceKey, str], ...]:
        """Return what failed, and why."""
        return tuple(sorted((key, later.message) for key, later in list(self._later.items())))


def content_digest(resource: Resource | None) -> str:
    """Return the digest of all that we write of an object."""
    if resource is None:
        return ""
    known = resource.annotations.get(DIGEST)
    return known or digest_of([dict(resource.labels), dict(resource.annotations), dict(resource.spec)])
