"""The writes of one lane: at most eight in flight, and for each place make before break."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue

from agent.clusters import Cluster, Outcome
from agent.clusters.objects import is_managed
from agent.hosts import Place
from agent.inbox import Inbox
from agent.jobs import Done, Job, phases_of
from agent.plan import Change
from agent.serving import Heard
from state.errors import ClusterError, Fault
from state.model import Held, ResourceKey

logger = logging.getLogger(__name__)

IN_FLIGHT = 8  # writes at a time
BACKLOG = 32  # writes that wait for their turn; what is planned no earlier than it can be written is planned once


class Writes:
    """Carries out the changes of places, each place by one job at a time."""

    def __init__(self, cluster: Cluster, inbox: Inbox) -> None:
        """``inbox`` is told how each write ended, from the writing threads."""
        self.jobs: dict[Place, Job] = {}
        self.held_back = False  # what has not begun to be written is not tried any more
        self.paused = False  # by an operator: neither is it then, until that ends
        self._cluster = cluster
        self._inbox = inbox
        self._turns: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def has_room(self) -> bool:
        """Tell whether more can be begun with."""
        return self._turns.qsize() < BACKLOG

    def begin(self, place: Place, heard: Heard, changes: Sequence[Change]) -> None:
        """Start to carry out the changes of a place that has no job."""
        phases = [list(changes)] if self._cluster.whole_hosts else phases_of(changes)
        job = self.jobs[place] = Job(place, heard, deque(phases))
        self._start_phase(job)

    def advance(self, job: Job, *, go_on: bool) -> bool:
        """Start what follows when it was taken how all writes of a phase ended; tell whether a part is left undone.

        For a caller that has the inbox's ``wake``.
        """
        if not self._inbox.has_ended(job) or self.jobs.get(job.place) is not job:
            return False
        if job.phases and go_on and not job.failed:
            self._start_phase(job)
            return False
        del self.jobs[job.place]
        return job.failed or bool(job.phases)

    def give_up(self) -> None:
        """Let every job end with the writes that have begun."""
        self.held_back = True
        for job in tuple(self.jobs.values()):
            job.phases.clear()
            with self._inbox.wake:
                if not job.left:
                    del self.jobs[job.place]

    def planned(self) -> int:
        """Count the changes that are not carried out yet; may be called from any thread."""
        return sum(job.left + sum(map(len, tuple(job.phases))) for job in tuple(self.jobs.values()))

    def _start_phase(self, job: Job) -> None:
        phase = job.phases.popleft()
        job.left = len(phase)
        for batch in [phase] if self._cluster.whole_hosts else [[change] for change in phase]:
            self._submit(partial(self._write, job, batch))

    def _submit(self, turn: Callable[[], None]) -> None:
        if len(self._threads) < IN_FLIGHT:  # no pool of the library: it would wait at the end for a call that hangs
            name = f"{self._cluster.name} write {len(self._threads) + 1}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()
        self._turns.put(turn)

    def _work(self) -> None:
        while (turn := self._turns.get()) is not None:
            try:
                turn()
            except Exception:  # a thread's one net: without it there would be one less for good
                logger.exception("cluster %s: a writing thread failed", self._cluster.name)

    def _write(self, job: Job, batch: Sequence[Change]) -> None:
        if self.held_back or self.paused:
            self._inbox.finish(job, [Done(job, change, tried=False) for change in batch])
            return
        try:
            done = [self._done(job, *pair) for pair in zip(batch, self._cluster.write(batch), strict=True)]
        except Exception as failure:  # a write's one net: it is planned again
            logger.exception("cluster %s: writing failed", self._cluster.name)
            errors = [ClusterError(Fault.OBJECT, f"{change.key}: {failure!r}") for change in batch]
            done = [Done(job, change, error=error) for change, error in zip(batch, errors, strict=True)]
        self._inbox.finish(job, done)

    def _done(self, job: Job, change: Change, outcome: Outcome) -> Done:
        if not isinstance(outcome, ClusterError):
            return Done(job, change, outcome)
        if outcome.fault is Fault.CLUSTER:
            self.held_back = True  # until the lane says otherwise: whatever waits would fail as well, and take its time
        if outcome.fault in (Fault.CONFLICT, Fault.EXISTS):
            return Done(job, change, *self._look_again(change, outcome))
        return Done(job, change, error=outcome)

    def _look_again(self, change: Change, error: ClusterError) -> tuple[Held | None, ClusterError]:
        """Read what is there after all, so that the next plan starts from it."""
        try:
            return self._cluster.look(change.key), error
        except ClusterError as failure:
            return None, failure

    def ask_writers(self, key: ResourceKey, tell: Callable[[ResourceKey, tuple[str, ...]], None]) -> None:
        """Find out who else wrote an object, and tell it from a writing thread."""
        self._submit(partial(self._ask_writers, key, tell))

    def _ask_writers(self, key: ResourceKey, tell: Callable[[ResourceKey, tuple[str, ...]], None]) -> None:
        try:
            tell(key, self._cluster.writers(key))
        except ClusterError as failure:
            tell(key, (f"unknown, {failure}",))

    def look(self, key: ResourceKey) -> None:
        """Look at an object of which a watch does not tell enough, from a writing thread."""
        self._submit(partial(self._look, key))

    def _look(self, key: ResourceKey) -> None:
        try:
            held = self._cluster.look(key)
        except ClusterError as failure:
            logger.debug("%s; it is asked for again", failure)
            return
        if held is not None and is_managed(held.labels):  # of what is not, or no more, the watch tells
            self._inbox.answer(held)

    def stop(self) -> None:
        """End the threads that write, each after the call that it is in."""
        self.held_back = True
        for _ in self._threads:
            self._turns.put(None)
