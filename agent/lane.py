"""Everything that serves one cluster: it plans dirty places and writes what differs, sharing nothing.

The checkpoint is the retry queue: a change counts as applied only after the
cluster acknowledged it; what failed is simply planned again.
"""

import logging
import threading
import time
from collections.abc import Collection, Mapping

from agent.clusters import Cluster
from agent.gate import instances_of
from agent.hosts import Place
from agent.inbox import Inbox, News
from agent.merge import HostKey
from agent.plan import Change
from agent.proposal import Proposer
from agent.retry import Retries
from agent.serving import LaneReport
from agent.sight import Sight
from agent.view import View
from agent.writes import Done, Writes
from state.checkpoint import Applied, Carried, Checkpoint, Event
from state.errors import ClusterError, Fault, StateError
from state.limits import Limits
from state.model import Held, ResourceKey

logger = logging.getLogger(__name__)


class Lane:
    """Keeps one cluster as the view has it."""

    def __init__(
        self,
        cluster: Cluster,
        proposer: Proposer,
        view: View,
        checkpoint: Checkpoint,
        limits: Limits,
    ) -> None:
        self.name = cluster.name
        self.proposer = proposer
        self._serving = proposer.serving
        self._carried = checkpoint.carried(cluster.name)
        self._cluster = cluster
        self._view = view
        self._checkpoint = checkpoint
        self._limits = limits
        self._retries = Retries(limits)
        self._inbox = Inbox()
        self._read_error = ""
        self._write_error = ""
        self._written = 0
        self._stopping = threading.Event()
        self._storing = threading.RLock()
        self._writes = Writes(cluster, self._inbox.finish)
        self._sight = Sight(cluster, self._picture, self, limits)
        self._thread = threading.Thread(target=self._run, name=f"{self.name} lane", daemon=True)

    # Life

    def start(self) -> None:
        """Read the cluster, then write and watch until stopped."""
        self._view.follow(self)
        self._thread.start()
        self._sight.start()

    def stop(self) -> None:
        """Let writes in flight end, for a while, and stop."""
        self._stopping.set()
        self._inbox.nudge()
        if self._thread.is_alive():
            self._thread.join(self._limits.stop)
        self._writes.stop()
        self._sight.stop()

    def mark(self, hosts: Collection[HostKey], heard: float) -> None:
        """Note that these hosts may have changed."""
        self._inbox.mark(self.proposer.places_of(hosts), heard)

    def mark_all(self, heard: float) -> None:
        """Note that a registry had its first pass: what waited for that may change, also where no host is known."""
        self._inbox.mark_everywhere()
        self.mark(self._view.hosts(), heard)

    def settle(self, timeout: float | None) -> bool:
        """Wait until there is nothing to do now, what failed included; tell whether that came."""
        return self._inbox.settled.wait(timeout)

    # The mirror

    def see_whole(self, objects: Mapping[ResourceKey, Held]) -> None:
        """Take a whole picture."""
        self._inbox.see_whole(objects)

    def see_one(self, key: ResourceKey, held: Held | None) -> None:
        """Take what became of one object."""
        self._inbox.see_one(key, held)

    def see_nothing(self, why: str) -> None:
        """Note that the cluster cannot be read, or, without a reason, that it can."""
        self._read_error = self._note(self._read_error, why)
        self._inbox.nudge()  # only the lane's own thread can tell whether that settles it

    def _picture(self) -> Mapping[ResourceKey, Held]:
        """Read the cluster; one that is met for the first time teaches what it holds."""
        objects = self._cluster.read(self.proposer.namespaces)
        if self.proposer.unmet:
            self._view.adopt(instances_of(held for held in objects.values() if held.owner == self._serving.owner))
        return objects

    def look_once(self) -> None:
        """Take a picture to plan by, without any thread; ClusterError when the cluster cannot be read."""
        self.proposer.take(self._picture())

    def plan_once(self) -> tuple[tuple[Change, ...], tuple[Held, ...]]:
        """Return what would be written, and the deletions that would be held, as things stand."""
        return self.proposer.propose_all(), self.proposer.withheld()

    def _note(self, before: str, error: str) -> str:
        if error and error != before:
            logger.warning("cluster %s: %s", self.name, error)
        elif before and not error:
            logger.info("cluster %s: works again", self.name)
        return error

    # The writer

    def _run(self) -> None:
        while True:
            with self._inbox.wake:
                while not (self._inbox.has_news() if self._stopping.is_set() else self._ready()):
                    if self._stopping.is_set() and not self._writes.jobs:
                        return
                    self._settle_if_idle()
                    self._inbox.wake.wait(None if self._stopping.is_set() else self._until())
                news = self._inbox.take_news()
            try:
                self._take(news)
                self._finish(news.done)
                if news.accepted:
                    self.proposer.accept()
                if not self._stopping.is_set():
                    self._begin()
                elif not self._writes.jobs:
                    return
            except Exception:  # the lane's one net: everything is planned again
                logger.exception("cluster %s: writing failed", self.name)
                self._writes.jobs.clear()
                self._stopping.wait(self._limits.backoff[0])
                self._inbox.mark(self.proposer.places(), time.monotonic())

    def _ready(self) -> bool:
        """Tell whether there is something to do now."""
        if self._inbox.has_news():
            return True
        now = time.monotonic()
        if not self.proposer.read or not self._retries.open(now):
            return False
        due = self._due()
        return any(place not in self._writes.jobs for place in self._inbox.dirty) or (due is not None and due <= now)

    def _due(self) -> float | None:
        """Return when something becomes possible by time alone."""
        due = [at for at in (self._retries.next(), self.proposer.next()) if at is not None]
        return min(due, default=None)

    def _until(self) -> float | None:
        """Return for how many seconds there is nothing to do unless something happens."""
        now = time.monotonic()
        due = self._retries.opens if not self._retries.open(now) else self._due()
        return None if due is None else max(0.001, due - now)

    def _settle_if_idle(self) -> None:
        """Declare the lane settled when all that is left waits for time to pass."""
        if self._writes.jobs or self._ready():
            return
        if self.proposer.read:
            idle = not self._inbox.dirty or not self._retries.open(time.monotonic())
        else:
            idle = bool(self._read_error)
        if idle:
            self._inbox.settled.set()

    def _take(self, news: News) -> None:
        places: set[Place] = set()
        if news.whole is not None:
            places = self.proposer.take(news.whole)
        if news.whole is not None or news.everywhere:
            places |= self.proposer.places()
        for key, held in news.delivered.items():
            places |= self.proposer.deliver(key, held)
        if places:
            self._inbox.mark(places, time.monotonic())

    def _begin(self) -> None:
        """Plan what is dirty and hand the first phase of each place to the pool."""
        now = time.monotonic()
        places = set(self._retries.due(now)) | self.proposer.due(now)
        if places:
            self._inbox.mark(places, now)
        if not self.proposer.read or not self._retries.open(now):
            return
        for place, heard in self._inbox.take_dirty(self._writes.jobs).items():
            proposed = self.proposer.propose(place, now)
            self._retries.reconcile(place, {change.key for change in proposed})
            changes = [change for change in proposed if self._retries.may(change, now)]
            if changes:
                self._writes.begin(place, heard, changes)
        for key in self.proposer.repairs.newly_left():
            self._writes.ask_writers(key, self.proposer.repairs.blame)
        self._remember(self.proposer.found())
        self._conclude()

    def _finish(self, done: Collection[Done]) -> None:
        """Remember what the cluster acknowledged, and go on with what follows."""
        applied: list[Applied] = []
        gone: list[ResourceKey] = []
        events: list[Event] = []
        for one in done:
            if one.error is None:
                self._retries.succeeded(one.change.key)
                self._write_error = self._note(self._write_error, "")
                self._written += 1
                row = self.proposer.acknowledge(one.change, one.held, one.at)
                if row:
                    applied.append(row)
                else:
                    gone.append(one.change.key)
                events.append(self._event(one))
            else:
                self._fail(one, one.error)
        self._remember(applied, gone, events)
        go_on = self._retries.open(time.monotonic()) and not self._stopping.is_set()
        for one in done:
            if self._writes.advance(one.job, go_on):
                self._inbox.mark([one.job.place], one.job.heard)

    def _remember(
        self, applied: Collection[Applied], gone: Collection[ResourceKey] = (), events: Collection[Event] = ()
    ) -> None:
        if applied or gone:
            try:
                with self._storing:
                    self._checkpoint.apply(self.name, applied, gone, events)
            except StateError as error:
                logger.error("cluster %s: %s", self.name, error)

    def _event(self, one: Done) -> Event:
        lag = one.at - one.job.heard
        why = one.change.why
        logger.info("cluster %s: %s %s (%s), %.1f ms", self.name, one.change.action, one.change.key, why, 1000 * lag)
        return Event(time.time(), self.name, str(one.change.action), one.change.key, why, lag)

    def _fail(self, one: Done, error: ClusterError) -> None:
        key, fault = one.change.key, error.fault
        if fault in (Fault.CONFLICT, Fault.EXISTS):
            if one.held is not None and not self.proposer.is_of_isthmus(one.held):
                self._retries.park(one.change, one.job.place, f"{key} is there and not isthmus': left alone", one.at)
                return
            self.proposer.deliver(key, one.held)
        elif fault is Fault.MISSING:
            self.proposer.deliver(key, None)
        self._write_error = self._note(self._write_error, str(error))
        self._retries.failed(one.change, one.job.place, error, one.at)
        if not self._retries.open(one.at):
            self._inbox.mark([one.job.place], one.job.heard)

    def _conclude(self) -> None:
        """When the whole plan is carried out, remember under what configuration."""
        passed = self._view.passed()
        if self._serving.policy == "paused":
            return
        with self._inbox.wake:
            if self._writes.jobs or self._inbox.dirty or self._inbox.has_news():
                return
        if not self._retries.waiting():
            self._write_error = self._note(self._write_error, "")
        self.proposer.conclude_suspicion(passed=passed)
        if not passed:
            return
        carried = self.proposer.carried()
        if carried and carried != self._carried and not self._retries.waiting():
            try:
                self._checkpoint.set_carried(self.name, carried)
                self._carried = carried
            except StateError as error:
                logger.error("cluster %s: %s", self.name, error)

    def store_elapsed(self) -> None:
        """Store for how long ServiceEntries have been of no use."""
        with self._storing:  # what the lane's thread stores meanwhile is newer
            self._remember(self.proposer.lingering(time.monotonic()))

    # Asking

    def accept(self) -> int:
        """Carry out the deletions that are held as perhaps our own mistake; return how many."""
        carried = self._checkpoint.carried(self.name) or Carried()
        self._checkpoint.set_carried(self.name, carried._replace(accepted=self._serving.configuration))
        withheld = len(self.proposer.withheld())
        self._inbox.accept()
        return withheld

    def report(self) -> LaneReport:
        """Return how the cluster is being served."""
        with self._inbox.wake:
            waiting = [*self._inbox.dirty.values(), *(job.heard for job in tuple(self._writes.jobs.values()))]
            waiting += self._retries.since()
            return LaneReport(
                policy=self._serving.policy,
                read=self.proposer.read,
                error=self._read_error or self._write_error,
                objects=len(self.proposer.mirror.objects),
                pending=len(waiting) + self.proposer.paused(),
                planned=self._writes.planned(),
                oldest=min(waiting, default=None),
                writes=self._written,
                repairs=self.proposer.repairs.count,
                withheld=self.proposer.withheld(),
                parked=self._retries.parked() + self.proposer.repairs.left_alone(),
                troubles=self.proposer.troubles(),
            )
