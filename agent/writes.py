"""The writes of one lane: at most eight in flight, and for each place make before break."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from agent.clusters import Cluster, Outcome
from agent.hosts import Place
from agent.plan import Action, Change
from state.errors import ClusterError, Fault
from state.model import SERVICE_ENTRY, Held, ResourceKey

logger = logging.getLogger(__name__)

IN_FLIGHT = 8  # writes at a time


@dataclass(slots=True)
class Job:
    """The changes of one place under way: WorkloadEntries, then their ServiceEntry, then what goes.

    ``heard`` is when the registry told, in monotonic seconds.
    """

    place: Place
    heard: float
    phases: deque[list[Change]]
    left: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """How one write ended: ``held`` is what is there now, as far as it is known."""

    job: Job
    change: Change
    held: Held | None
    error: ClusterError | None
    at: float = field(default_factory=time.monotonic)


class Writes:
    """Carries out the changes of places, each place by one job at a time."""

    def __init__(self, cluster: Cluster, report: Callable[[Done], None]) -> None:
        """``report`` is called from the writing threads."""
        self._cluster = cluster
        self._report = report
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix=f"{cluster.name} write")
        self.jobs: dict[Place, Job] = {}

    def begin(self, place: Place, heard: float, changes: Sequence[Change]) -> None:
        """Start to carry out the changes of a place that has no job."""
        phases = [list(changes)] if self._cluster.whole_hosts else _phases(changes)
        job = Job(place, heard, deque(phases))
        self.jobs[place] = job
        self._start_phase(job)

    def advance(self, job: Job, go_on: bool) -> bool:
        """Count one write of a job as done and start what follows; tell whether the job was cut short."""
        job.left -= 1
        if job.left:
            return False
        if self.jobs.get(job.place) is not job:  # given up: whatever it left is planned anew
            return False
        if job.phases and go_on:
            self._start_phase(job)
            return False
        del self.jobs[job.place]
        return bool(job.phases)

    def planned(self) -> int:
        """Count the changes that are not carried out yet; may be called from any thread."""
        return sum(job.left + sum(map(len, tuple(job.phases))) for job in tuple(self.jobs.values()))

    def _start_phase(self, job: Job) -> None:
        phase = job.phases.popleft()
        job.left = len(phase)
        for batch in [phase] if self._cluster.whole_hosts else [[change] for change in phase]:
            self._pool.submit(self._write, job, batch)

    def _write(self, job: Job, batch: Sequence[Change]) -> None:
        try:
            done = [self._done(job, *pair) for pair in zip(batch, self._cluster.write(batch), strict=True)]
        except Exception as failure:  # a write's one net: it is planned again
            logger.exception("cluster %s: writing failed", self._cluster.name)
            errors = [ClusterError(Fault.OBJECT, f"{change.key}: {failure!r}") for change in batch]
            done = [Done(job, *pair) for pair in zip(batch, [None] * len(batch), errors, strict=True)]
        for one in done:
            self._report(one)

    def _done(self, job: Job, change: Change, outcome: Outcome) -> Done:
        if not isinstance(outcome, ClusterError):
            return Done(job, change, outcome, None)
        if outcome.fault in (Fault.CONFLICT, Fault.EXISTS):
            return Done(job, change, *self._look_again(change, outcome))
        return Done(job, change, None, outcome)

    def _look_again(self, change: Change, error: ClusterError) -> tuple[Held | None, ClusterError]:
        """Read what is there after all, so that the next plan starts from it."""
        try:
            return self._cluster.look(change.key), error
        except ClusterError as failure:
            return None, failure

    def ask_writers(self, key: ResourceKey, tell: Callable[[ResourceKey, tuple[str, ...]], None]) -> None:
        """Find out who else wrote an object, and tell it from a writing thread."""
        self._pool.submit(self._ask_writers, key, tell)

    def _ask_writers(self, key: ResourceKey, tell: Callable[[ResourceKey, tuple[str, ...]], None]) -> None:
        try:
            tell(key, self._cluster.writers(key))
        except ClusterError as failure:
            tell(key, (f"unknown, {failure}",))

    def stop(self) -> None:
        """Start nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _phases(changes: Sequence[Change]) -> list[list[Change]]:
    """Split changes into what may be written at the same time: make before break."""
    phases: list[list[Change]] = [[], [], [], []]
    for change in changes:
        phases[2 * (change.action is Action.DELETE) + (change.key.kind == SERVICE_ENTRY)].append(change)
    return [phase for phase in phases if phase]
