"""Everything that serves one cluster: it plans dirty places and writes what differs, sharing nothing.

The checkpoint is the retry queue: a change counts as applied only after the
cluster acknowledged it; what failed is simply planned again.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from agent.clusters import Cluster
from agent.gate import instances_of
from agent.inbox import Inbox, News
from agent.jobs import Done
from agent.ledger import Ledger
from agent.merge import HostKey
from agent.outcomes import Outcomes, tell_error
from agent.plan import Change
from agent.proposal import Proposer
from agent.retry import Retries
from agent.serving import Heard, LaneReport, Wrote
from agent.sight import Sight
from agent.view import View
from agent.writes import Writes
from state.checkpoint import Checkpoint
from state.limits import Limits
from state.model import Held, ResourceKey

logger = logging.getLogger(__name__)

TURN = 0.1  # seconds after which writes that have ended are looked at though others of their phase have not


def _tell_nobody(_: Wrote) -> None:
    """Take how a write ended, and do nothing."""


class Lane:
    """Keeps one cluster as the view has it."""

    def __init__(
        self,
        cluster: Cluster,
        proposer: Proposer,
        view: View,
        checkpoint: Checkpoint,
        limits: Limits,
        tell: Callable[[Wrote], None] = _tell_nobody,
        *,
        paused: bool = False,
    ) -> None:
        """``tell`` is told once how each write ended, from the lane's own thread; ``paused`` by an operator."""
        self.name = cluster.name
        self.proposer = proposer
        self._serving = proposer.serving
        self._cluster = cluster
        self._view = view
        self._limits = limits
        self._ledger = Ledger(cluster.name, checkpoint)
        self._retries = Retries(limits)
        self._outcomes = Outcomes(cluster.name, proposer, self._retries, self._ledger, tell, view)
        self._inbox = Inbox()
        self._read_error = ""
        self._step = ("", 0.0)  # what the lane's thread is at, and since when
        self._stopping = threading.Event()
        self._writes = Writes(cluster, self._inbox)
        self._writes.paused = proposer.pause.ordered = paused
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
        self._writes.held_back = True
        self._inbox.nudge()
        if self._thread.is_alive():
            self._thread.join(self._limits.stop)
        self._writes.stop()
        self._sight.stop()
        self._ledger.store()

    def mark(self, hosts: Collection[HostKey], heard: Heard) -> None:
        """Note that these hosts may have changed."""
        self._inbox.mark(self.proposer.places_of(hosts), heard)

    def note_pass(self) -> None:
        """Note that a registry had its first pass: what waited for that may change, also where no host is known."""
        self._inbox.note_pass()

    def settle(self, timeout: float | None) -> bool:
        """Wait until there is nothing to do now, what failed included; tell whether that came."""
        return self._inbox.settled.wait(timeout)

    def stuck(self, now: float) -> str:
        """Return what the lane has been at for longer than anything of its own takes, "" while it moves."""
        step, since = self._step
        if not step or now - since <= self._limits.deadline:
            return ""
        return f"cluster {self.name}: {step}, for {now - since:.0f} s"

    # The mirror

    def see_whole(self, objects: Mapping[ResourceKey, Held]) -> None:
        """Take a whole picture."""
        self._inbox.see_whole(objects)

    def see_one(self, key: ResourceKey, held: Held | None) -> None:
        """Take what became of one object."""
        self._inbox.see_one(key, held)

    def see_nothing(self, why: str) -> None:
        """Note that the cluster cannot be read, or, without a reason, that it can."""
        if why:
            self.proposer.authors.seen.lose(time.monotonic())
        self._read_error = tell_error(self.name, self._read_error, why)
        self._inbox.nudge()  # only the lane's own thread can tell whether that settles it

    def _picture(self) -> Mapping[ResourceKey, Held]:
        """Read the cluster; one that is met for the first time teaches what it holds."""
        objects = self._cluster.read(self.proposer.namespaces)
        self.proposer.authors.seen.show()
        if self.proposer.unmet:
            self._view.adopt(instances_of(held for held in objects.values() if held.owner == self._serving.owner))
        return objects

    def look_once(self) -> None:
        """Take a picture to plan by, without any thread; ClusterError when the cluster cannot be read."""
        self.proposer.take(self._picture())

    def plan_once(self) -> tuple[tuple[Change, ...], tuple[Held, ...]]:
        """Return what would be written, and the deletions that would be held, as things stand."""
        return self.proposer.propose_all(), self.proposer.withheld()

    # The writer

    def _run(self) -> None:
        while self._wait():
            try:
                self._take(self._inbox.take_news())
                if not self._stopping.is_set():
                    self._begin()
                self._remember()
            except Exception:  # the lane's one net: everything is planned again
                logger.exception("cluster %s: writing failed", self.name)
                self._writes.give_up()
                self._stopping.wait(self._limits.backoff[0])
                self._inbox.mark(self.proposer.places(), Heard(time.monotonic(), ""))

    def _wait(self) -> bool:
        """Wait until there is something to do; tell whether to go on at all."""
        self._step = ("", 0.0)
        with self._inbox.wake:
            while not self._ready():
                if self._stopping.is_set() and not self._writes.jobs:
                    return False
                self._settle_if_idle()
                if not self._inbox.wake.wait(self._until()) and self._inbox.has_news():
                    break
        return True

    def _ready(self) -> bool:
        """Tell whether there is something to do now."""
        if self._inbox.called or self._stopping.is_set():
            return self._inbox.called
        now = time.monotonic()
        if not self.proposer.read or not self._retries.open(now):
            return False
        due = self._due()
        if due is not None and due <= now:
            return True
        return self._writes.has_room() and any(place not in self._writes.jobs for place in self._inbox.dirty)

    def _due(self) -> float | None:
        """Return when something becomes possible by time alone."""
        due = [at for at in (self._retries.next(), self.proposer.next()) if at is not None]
        return min(due, default=None)

    def _until(self) -> float | None:
        """Return for how many seconds there is nothing to do unless something happens."""
        if self._writes.jobs:
            return TURN
        if self._stopping.is_set():
            return None
        now = time.monotonic()
        due = self._retries.opens if not self._retries.open(now) else self._due()
        return None if due is None else max(0.001, due - now)

    def _settle_if_idle(self) -> None:
        """Declare the lane settled when all that is left waits for time to pass."""
        if self._writes.jobs or self._inbox.has_news() or self._ready():
            return
        if self.proposer.read:
            idle = not self._inbox.dirty or not self._retries.open(time.monotonic())
        else:
            idle = bool(self._read_error)
        if idle:
            self._inbox.settled.set()

    def _at(self, step: str) -> None:
        self._step = (step, time.monotonic())

    def _take(self, news: News) -> None:
        """Take a new picture of the cluster, then how writes ended, then what else has changed."""
        self._at("taking the news")
        with self._inbox.wake:  # whoever asks sees what has waited either as paused or as dirty
            if resumed := self.proposer.pause.obey(self._writes.paused):
                self._inbox.mark(resumed, Heard(time.monotonic(), ""))
        places = set() if news.whole is None else self.proposer.take(news.whole) | self.proposer.places()
        if news.passed:
            places |= self.proposer.early()
        if news.done:
            self._finish(news.done)
        for key, held in news.delivered.items():  # whatever a write of ours has left was there before
            places |= self.proposer.deliver(key, held)
        if places:
            self._inbox.mark(places, Heard(time.monotonic(), ""))
        if news.accepted:
            self.proposer.accept()

    def _begin(self) -> None:
        """Plan what is dirty, as far as it can be written soon, and hand over the first phase of each place."""
        now = time.monotonic()
        for place, heard in self._retries.due(now):
            self._inbox.mark([place], heard)
        if places := self.proposer.due(now):
            self._inbox.mark(places, Heard(now, ""))
        if not self.proposer.read or not self._retries.open(now):
            return
        self._writes.held_back = self._stopping.is_set()
        while self._writes.has_room() and (found := self._inbox.next_dirty(self._writes.jobs)):
            place, heard = found
            self._at(f"planning {place.namespace}/{place.label}")
            changes = self._retries.choose(place, self.proposer.propose(place, now), now)
            if changes:
                self._writes.begin(place, heard, changes)
        for key in self.proposer.repairs.newly_left():
            self._writes.ask_writers(key, self.proposer.repairs.blame)
        for key in self.proposer.authors.questions():
            self._writes.look(key)

    def _finish(self, done: Iterable[Done]) -> None:
        """Note how writes ended, and go on with what follows."""
        self._outcomes.take(done)
        go_on = self._retries.open(time.monotonic()) and not (self._stopping.is_set() or self.proposer.pause.stands)
        self._writes.held_back = not go_on
        with self._inbox.wake:  # whoever asks sees each place either under way or dirty
            for job in {id(one.job): one.job for one in done}.values():
                if self._writes.advance(job, go_on=go_on):
                    self._inbox.mark([job.place], job.heard)

    def _remember(self) -> None:
        """Store what has come, at once when no more of it is to be expected soon."""
        self._at("storing")
        self._conclude()
        self._ledger.note(*self.proposer.applied.news())
        if self.proposer.authors.has_returned():
            self._ledger.store_forsaken(self.proposer.authors.forsaken(time.monotonic()))
        if not self._writes.jobs or self._ledger.is_due(time.monotonic()):
            self._ledger.store()

    def _conclude(self) -> None:
        """When the whole plan is carried out, remember under what configuration."""
        if self.proposer.pause.stands or self._writes.jobs or self._inbox.dirty:
            return
        passed = self._view.passed()  # what that pass has shown is marked by now
        with self._inbox.wake:
            if self._inbox.dirty or self._inbox.has_news():
                return
        if not self._retries.waiting():
            self._outcomes.note("")
        self.proposer.conclude_suspicion(passed=passed)
        carried = self.proposer.carried()
        if passed and carried and not self._retries.waiting():
            self._ledger.carry(carried)

    def store_elapsed(self) -> None:
        """Store for how long ServiceEntries have been of no use."""
        now = time.monotonic()
        self._ledger.store(lambda: self.proposer.authors.lingering(now))
        self._ledger.store_forsaken(self.proposer.authors.forsaken(now))

    # Asking

    def pause(self, paused: bool) -> None:
        """Write nothing more but what is under way, or go on; what there is to do is planned and counted meanwhile."""
        self._writes.paused = paused
        self._inbox.call()

    def accept(self) -> int:
        """Carry out the deletions that are held as perhaps our own mistake; return how many."""
        self._ledger.accept(self._serving.configuration)
        withheld = len(self.proposer.withheld())
        self._inbox.accept()
        return withheld

    def report(self) -> LaneReport:
        """Return how the cluster is being served."""
        with self._inbox.wake:
            waiting = [heard.at for heard in self._inbox.dirty.values()]
            waiting += [job.heard.at for job in tuple(self._writes.jobs.values())]
            waiting += self._retries.since()
            return LaneReport(
                policy=self._serving.policy,
                paused=self._writes.paused,
                read=self.proposer.read,
                error=self._read_error or self._outcomes.error,
                objects=len(self.proposer.mirror.objects),
                pending=len(waiting) + self.proposer.pause.waiting(),
                planned=self._writes.planned(),
                oldest=min(waiting, default=None),
                writes=self._outcomes.taken.total(),
                taken=dict(self._outcomes.taken),
                failed=dict(self._outcomes.failed),
                repairs=self.proposer.repairs.count,
                withheld=self.proposer.withheld(),
                parked=self._retries.parked() + self.proposer.repairs.left_alone(),
                troubles=self.proposer.troubles(),
            )
