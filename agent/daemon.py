"""One isthmus: its registries, its view and its lanes, wired; run for good, once, or only to plan."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple

from apscheduler.executors.pool import ThreadPoolExecutor as JobPool
from apscheduler.schedulers.background import BackgroundScheduler

from agent.clusters import Cluster
from agent.config import Config, digest
from agent.lane import Lane
from agent.listening import RegistryListener
from agent.plan import Change
from agent.proposal import Proposer
from agent.rules import Rules
from agent.serving import LaneReport, Serving, Wrote
from agent.standing import HELD
from agent.view import View
from hooks.consul.loop import ConsulLoop
from hooks.eureka.settings import EurekaSettings
from hooks.loop import Loop
from state.checkpoint import Checkpoint
from state.errors import ClusterError, ConfigurationError, RegistryError
from state.model import Held, InstanceKey, Reason, digest_of

logger = logging.getLogger(__name__)

VERSION = version("isthmus")
STORE = 5.0  # seconds between two times that what has elapsed is stored
TRIM = 3600.0  # seconds between two times that history is cut

OpenCluster = Callable[[str], Cluster]
Tell = Callable[[Wrote], None]


class Planned(NamedTuple):
    """What would be done to one cluster, and what would be held; ``error`` if it could not be read.

    A cluster that is paused has no changes; ``waiting`` is how many wait for the end of that.
    """

    cluster: str
    changes: tuple[Change, ...]
    withheld: tuple[Held, ...]
    error: str = ""
    paused: bool = False
    waiting: int = 0


class Outcome(NamedTuple):
    """How a single run ended."""

    failures: tuple[str, ...]
    held: int


def remembering(config: Config, checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint that belongs to the configured owner; ConfigurationError if it is another's."""
    owner = checkpoint.owner
    if owner and owner != config.owner:
        raise ConfigurationError(
            [
                f"owner: {config.owner!r}, but the state file {config.state} was written under {owner!r}: "
                "name that owner again, or if it is this one's former name, take over its objects with "
                f"`isthmus adopt CLUSTER --owner {owner}`, or move the state file aside to begin anew as another"
            ]
        )
    if not owner:
        checkpoint.set_owner(config.owner)
    return checkpoint


class Agent:
    """Everything of one isthmus."""

    def __init__(
        self, config: Config, checkpoint: Checkpoint, open_cluster: OpenCluster, tell: Tell = lambda _: None
    ) -> None:
        """``open_cluster`` returns the cluster of a name; ``tell`` is told how each write ended."""
        self.config = config
        self.checkpoint = checkpoint
        self._tell = tell
        self._ticked: float | None = None  # since the start
        rules = Rules(config.rules, config.domain)
        ruled = digest_of([config.domain, [asdict(rule) for rule in config.rules]])
        self.view = View(tuple(config.registries), rules, checkpoint, config.limits, ruled)
        self.loops: dict[str, Loop] = {name: self._loop(name) for name in config.registries}
        self.lanes = {name: self._lane(name, open_cluster(name)) for name in config.clusters}
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": JobPool(2)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def _loop(self, name: str) -> Loop:
        settings, limits, listener = self.config.registries[name], self.config.limits, RegistryListener(self.view, name)
        if isinstance(settings, EurekaSettings):
            # Its client is not small, and who has no Eureka needs none of it.
            loop: Callable[..., Loop] = import_module("hooks.eureka.loop").EurekaLoop
            return loop(settings, limits, listener, self.view.beliefs[name].standing.versions)
        return ConsulLoop(settings, limits, listener, self._floor(name))

    def _floor(self, registry: str) -> int:
        belief = self.view.beliefs[registry]
        epoch = belief.standing.epoch  # an earlier one's indexes mean nothing now
        services = (index for s, index in belief.indexes.items() if belief.epochs[s] == epoch)
        return max(belief.standing.index, *services, 0)

    def _lane(self, name: str, cluster: Cluster) -> Lane:
        config, settings = self.config, self.config.clusters[name]
        serving = Serving(
            cluster=name,
            namespace=settings.namespace,
            policy=settings.policy,
            owner=config.owner,
            configuration=digest(config, name),
            version=VERSION,
            namespaces=frozenset(rule.namespace for rule in config.rules if rule.namespace),
        )
        applied, carried = self.checkpoint.applied(name), self.checkpoint.carried(name)
        proposer = Proposer(serving, self.view, config.limits, applied, carried, self.checkpoint.forsaken(name))
        paused = name in self.checkpoint.paused()
        return Lane(cluster, proposer, self.view, self.checkpoint, config.limits, self._tell, paused=paused)

    # Life

    def start(self) -> None:
        """Start every lane and loop."""
        for name in sorted(set(self.checkpoint.clusters()) - self.config.clusters.keys()):
            logger.warning(
                "cluster %s is not in the configuration any more: what was written to it stays. To delete that, name "
                "it once more, `isthmus pause %s` and `isthmus purge %s --owner %s`",
                *(name, name, name, self.config.owner),
            )
        limits = self.config.limits
        tick = min(1.0, limits.empty_grace / 10, limits.baseline / 100)
        for job, seconds in ((self._tick, max(0.02, tick)), (self._store, STORE), (self.checkpoint.trim, TRIM)):
            self._scheduler.add_job(job, "interval", seconds=seconds)
        for lane in self.lanes.values():
            lane.start()
        for loop in self.loops.values():
            loop.start()
        self._ticked = time.monotonic()
        self._scheduler.start()

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        self.view.tick()

    def stop(self) -> None:
        """Stop hearing, let writes in flight end, and store how long everything has waited."""
        if self._scheduler.running:
            self._scheduler.shutdown()  # nothing periodic may write beside the agent that takes this one's place
        with ThreadPoolExecutor(max_workers=max(4, len(self.loops) + len(self.lanes))) as pool:
            stops = [part.stop for part in self.loops.values()] + [part.stop for part in self.lanes.values()]
            ended = [pool.submit(stop) for stop in stops]
        for error in filter(None, (one.exception() for one in ended)):
            logger.error("stopping: %r", error, exc_info=error)
        self._store()

    def _store(self) -> None:
        self.view.store_elapsed()
        for lane in self.lanes.values():
            lane.store_elapsed()

    # Hearing, and being heard of

    def hint(self, registry: str, kind: str, service: str) -> bool:
        """Look at what a watch handler's call speaks of, soon; False where no such registry is known."""
        loop = self.loops.get(registry)
        if loop is None:
            return False
        loop.hint(kind, service)
        return True

    def is_ready(self) -> bool:
        """Tell whether every registry and every cluster was read, or cannot be read now, which must not hold up all."""
        registries = all(self.view.passed(name) or loop.report().error for name, loop in self.loops.items())
        return registries and all(report.read or report.error for report in self._reports())

    def stuck(self, now: float) -> str:
        """Return what does not move any more, or nothing; ``now`` is in monotonic seconds.

        That a registry or a cluster does not answer is none of it.
        """
        told = [loop.stuck(now) for loop in self.loops.values()] + [lane.stuck(now) for lane in self.lanes.values()]
        if found := next(filter(None, told), ""):
            return found
        late = self._ticked is not None and now - self._ticked > self.config.limits.deadline
        return "what is done periodically has stopped" if late else ""

    def _reports(self) -> list[LaneReport]:
        return [lane.report() for lane in self.lanes.values()]

    def once(self, accept: tuple[str, str] | None = None) -> Outcome:
        """Read every registry, bring every cluster up to date, and end; held removals may be accepted first."""
        for lane in self.lanes.values():
            lane.start()
        if accept and accept[0] in self.loops:
            self.view.accept(accept[0], self.acceptable(*accept))
        failures = self._read_registries()
        for name, lane in self.lanes.items():
            lane.settle(None)
            if accept and accept[0] == name:
                lane.accept()
                lane.settle(None)
        reports = {name: lane.report() for name, lane in self.lanes.items()}
        failures += [f"cluster {name}: {report.error}" for name, report in reports.items() if report.error]
        failures += [
            f"cluster {name}: {why}" for name, report in reports.items() if not report.error for _, why in report.parked
        ]
        held = sum(len(report.withheld) for report in reports.values()) + self.held()
        return Outcome(tuple(failures), held)

    def _read_registries(self) -> list[str]:
        """Make the passes that a single run needs, all registries at the same time."""
        with ThreadPoolExecutor(max_workers=len(self.loops)) as pool:
            passes = {name: pool.submit(loop.once) for name, loop in self.loops.items()}
        failures = []
        for name, future in passes.items():
            try:
                future.result()
                unreadable = self.loops[name].report().unreadable
                failures += [f"registry {name}: service {s}: {why}" for s, why in unreadable.items()]
            except RegistryError as error:
                failures.append(f"registry {error}")
        self.view.tick()  # no job does it in a single run
        return failures

    def held(self) -> int:
        """Count the removals that wait for more than a stated grace.

        Without the view's lock, so that whoever watches over all of this cannot get stuck with it.
        """
        waiting = [row for belief in self.view.beliefs.values() for row in tuple(belief.waiting.values())]
        return sum(row.reason != Reason.GRACE for row in waiting)

    def plan(self) -> tuple[tuple[Planned, ...], tuple[str, ...], int]:
        """Return what a single run would do to each cluster, which registries failed, and how much is held."""
        errors = {}
        for name, lane in self.lanes.items():
            try:
                lane.look_once()
            except ClusterError as error:
                errors[name] = str(error)
        failures = self._read_registries()
        results = [
            Planned(name, (), (), errors[name]) if name in errors else self._plan_one(name, lane)
            for name, lane in self.lanes.items()
        ]
        held = self.held() + sum(len(result.withheld) for result in results)
        return tuple(results), tuple(failures), held

    @staticmethod
    def _plan_one(name: str, lane: Lane) -> Planned:
        changes, withheld = lane.plan_once()
        report = lane.report()
        return Planned(name, changes, withheld, paused=report.is_paused, waiting=report.pending)

    def pause(self, cluster: str, *, paused: bool) -> None:
        """Write nothing more to a cluster, over restarts too, or go on; StateError when that cannot be remembered."""
        self.checkpoint.set_paused(cluster, paused=paused)
        self.lanes[cluster].pause(paused)

    # Accepting

    def acceptable(self, registry: str, hold: str = "") -> tuple[InstanceKey, ...]:
        """Return the held removals of a registry, or the one that a hold names."""
        with self.view.lock:
            rows = self.view.beliefs[registry].waiting.values()
            return tuple(
                row.key for row in rows if row.reason != Reason.GRACE and hold in ("", hold_name(registry, row.key))
            )

    def accept(self, name: str, hold: str = "") -> int:
        """Read a registry and believe what is still missing, or carry out a cluster's held deletions.

        Returns how many removals were believed. KeyError for an unknown name;
        RegistryError when the registry cannot be read now.
        """
        if name in self.lanes:
            return self.lanes[name].accept()
        keys = self.acceptable(name, hold)
        self.view.accept(name, keys)
        try:
            self.loops[name].pass_now()
        finally:
            self.view.accept(name, ())  # what this pass did not believe, no later one does
        unreadable = self.loops[name].report().unreadable
        for service in {key.service for key in keys} & unreadable.keys():
            raise RegistryError(f"{name}: service {service} cannot be read now: {unreadable[service]}")
        with self.view.lock:
            waiting = self.view.beliefs[name].waiting
            return sum(1 for key in keys if key not in waiting or waiting[key].reason not in HELD)


def hold_name(registry: str, key: InstanceKey) -> str:
    """Return the short name by which one held removal can be accepted."""
    return digest_of([registry, *key])[:8]
