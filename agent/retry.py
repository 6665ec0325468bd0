"""When what a cluster did not take is tried again: one object, or the whole cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.alarms import Alarms
from agent.hosts import Place
from agent.jobs import Job
from agent.plan import Action, Change
from agent.serving import Heard
from state.errors import ClusterError, Fault
from state.limits import Limits
from state.model import DIGEST, Resource, ResourceKey, digest_of

STRIKES = 8  # unauthorised answers in a row after which the whole cluster waits


@dataclass(slots=True)
class _Later:
    """One object that failed: ``since`` and ``until`` are monotonic seconds, ``heard`` what its change follows from."""

    place: Place
    heard: Heard
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
        self._at: dict[Place, set[ResourceKey]] = {}
        self._alarms: Alarms[ResourceKey] = Alarms()
        self._closed_until = 0.0
        self._closed_times = 0
        self._strikes = 0

    def open(self, now: float) -> bool:
        """Tell whether the cluster as a whole may be written to."""
        return now >= self._closed_until

    def choose(self, place: Place, proposed: Sequence[Change], now: float) -> list[Change]:
        """Return the changes of a place that may be tried now; failures at which none aims any more are forgotten.

        Make before break: while what failed is to be made, what goes waits as well, but
        never longer than the last endpoints of a host would.
        """
        if place not in self._at:
            return list(proposed)
        wanted = {change.key for change in proposed}
        for key in self._at[place] - wanted:
            self._forget(key)
        chosen = [change for change in proposed if self._may(change, now)]
        waiting = wanted - {change.key for change in chosen}
        if any(self._is_to_be_made(change, now) for change in proposed if change.key in waiting):
            chosen = [change for change in chosen if change.action is not Action.DELETE]
        return chosen

    def _may(self, change: Change, now: float) -> bool:
        """Tell whether a change may be tried; another desired state ends a rejection at once."""
        later = self._later.get(change.key)
        if later is None or now >= later.until:
            return True
        return bool(later.digest) and later.digest != content_digest(change.resource)

    def _is_to_be_made(self, change: Change, now: float) -> bool:
        later = self._later[change.key]
        hopeless = bool(later.digest) or now - later.since >= self._limits.empty_grace
        return change.action is not Action.DELETE and not hopeless

    def succeeded(self, key: ResourceKey) -> None:
        """Forget the failures of an object."""
        self._closed_times = self._strikes = 0
        if key in self._later:
            self._forget(key)

    def _forget(self, key: ResourceKey) -> None:
        place = self._later.pop(key).place
        self._alarms.drop(key)
        self._at[place].discard(key)
        if not self._at[place]:
            del self._at[place]

    def park(self, change: Change, job: Job, message: str, now: float) -> None:
        """Leave an object alone until something else is desired, or the probe is due."""
        self._put(change, job, message, now, self._limits.rejected_probe, rejected=True)

    def failed(self, change: Change, job: Job, error: ClusterError, now: float) -> None:
        """Note a failure; what follows from it depends on its fault."""
        backoff = self._limits.backoff
        if error.fault is Fault.REJECTED:
            self.park(change, job, str(error), now)
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
        self._put(change, job, str(error), now, max(delay, error.retry_after))

    def _put(self, change: Change, job: Job, message: str, now: float, delay: float, rejected: bool = False) -> None:
        key, before = change.key, self._later.get(change.key)
        if before is not None:
            self._forget(key)
        self._later[key] = _Later(
            place=job.place,
            heard=job.heard,
            since=before.since if before else now,
            until=now + delay,
            failures=before.failures + 1 if before else 1,
            message=message,
            digest=content_digest(change.resource) if rejected else "",
        )
        self._at.setdefault(job.place, set()).add(key)
        self._alarms.set(key, now + delay)

    def due(self, now: float) -> list[tuple[Place, Heard]]:
        """Return the places of which an object is due again, each once, and what its change follows from."""
        due = [self._later[key] for key in self._alarms.due(now)]
        return [(later.place, later.heard) for later in due]

    def next(self) -> float | None:
        """Return the monotonic time at which an object is due, if any is."""
        return self._alarms.next()

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
