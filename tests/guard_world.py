"""A registry that changes at will, a guard that hears of it, and a clock of their own.

Readings come as the Consul loop makes them: a look reads one service (and, when
that is empty, whatever the list of services lacks); a pass hands over at once what
removes nothing, and the rest together at its end.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

from agent.belief import Belief
from agent.guard import Verdict, doubts, judge
from agent.rules import Match, Rule, Rules
from agent.standing import begin_epoch, count_minute
from state.checkpoint import Checkpoint, Remembered
from state.limits import Limits
from state.model import Absence, Count, Instance, InstanceKey, Observed, Reading, Reason, Snapshot, Standing, Waiting

LIMITS = Limits()
NOTHING = Remembered((), (), None, "")
RULES = Rules(
    rules=(
        Rule(number=0, match=Match(service="quiet"), warning="exclude"),
        Rule(number=1, match=Match(service="hidden"), skip=True),
    ),
    domain="mesh.internal",
)
_Stored = tuple[tuple[Observed, ...], tuple[Waiting, ...], tuple[InstanceKey, ...], Standing, float]


def make(number: int, service: str = "web", node: str = "", **fields: Any) -> Instance:
    """Return a healthy instance, different for each number."""
    key = InstanceKey(service, node or f"node-{number % 7}", f"{service}-{number}")
    one = Instance(key=key, address=f"10.0.{number // 250}.{number % 250 + 1}", port=8080, registered=number)
    return replace(one, **fields)


class World:
    """One registry: ``truth`` is what it would answer, ``belief`` what is believed of it."""

    def __init__(self, instances: Iterable[Instance] = (), *, now: float = 5000.0, rules: Rules = RULES) -> None:
        self.rules = rules
        self.now = now
        self.begun = 0
        self.truth: dict[InstanceKey, Instance] = {one.key: one for one in instances}
        self.belief = Belief("dc1", rules, NOTHING, "", now)
        self.silent: set[InstanceKey] = set()  # of which the registry says neither that they are there nor that not
        self.before: list[Callable[[Reading, Collection[InstanceKey]], None]] = []  # told of each reading,
        self.after: list[Callable[[], None]] = []  # and when it was judged
        self.stored: list[_Stored] = []

    # What happens in the registry

    def put(self, *instances: Instance) -> None:
        self.truth.update({one.key: one for one in instances})

    def remove(self, keys: Iterable[InstanceKey]) -> None:
        for key in tuple(keys):
            del self.truth[key]

    def change(self, keys: Iterable[InstanceKey], **fields: Any) -> None:
        for key in tuple(keys):
            self.truth[key] = replace(self.truth[key], **fields)

    def wipe(self) -> dict[InstanceKey, Instance]:
        before, self.truth = self.truth, {}
        return before

    def listed(self, service: str = "") -> list[InstanceKey]:
        return sorted(key for key in self.truth if service in ("", key.service))

    # What is heard of it

    def snapshot(self, service: str) -> Snapshot:
        silent = frozenset(key for key in self.silent if key.service == service)
        listed = tuple(self.truth[key] for key in self.listed(service) if key not in silent)
        return Snapshot(service, listed, index=7, unread=silent)

    def look(self, service: str = "web") -> Verdict:
        snapshots = [self.snapshot(service)]
        if not snapshots[0].instances and self.doubts(snapshots[0]):
            listed = {key.service for key in self.truth}
            snapshots += [self.snapshot(name) for name in sorted(set(self.belief.services) - listed - {service})]
        return self.hear(snapshots)

    def whole_pass(
        self,
        *,
        accepted: Collection[InstanceKey] = (),
        unread: Collection[str] = (),
        midway: Callable[[], Collection[str]] = tuple,
    ) -> Verdict:
        """Read everything but ``unread``; ``midway`` happens halfway and tells which services it has looked at."""
        self.begun += 1
        names = sorted({key.service for key in self.truth} | set(self.belief.services))
        doubtful: dict[str, Snapshot] = {}
        for number, name in enumerate(names):
            if number == len(names) // 2:
                for looked in midway():
                    doubtful.pop(looked, None)
            if name in unread:
                continue
            snapshot = self.snapshot(name)
            if self.doubts(snapshot):
                doubtful[name] = snapshot
            else:
                verdict = self.hear([snapshot])
                touched = {row.key for row in verdict.waits} | {one.key for one in verdict.left}
                assert name not in {key.service for key in touched}, "no doubts, and yet a removal"
        return self.hear(doubtful.values(), complete=True, accepted=accepted)

    def doubts(self, snapshot: Snapshot) -> bool:
        return doubts(self.belief.view(), snapshot, self.belief.carries)

    def hear(
        self, snapshots: Iterable[Snapshot], *, complete: bool = False, accepted: Collection[InstanceKey] = ()
    ) -> Verdict:
        reading = Reading(
            registry="dc1", snapshots=tuple(snapshots), heard=self.now, begun=self.begun, complete=complete
        )
        for tell in self.before:
            tell(reading, accepted)
        belief = self.belief
        verdict = judge(belief.view(), reading, carries=belief.carries, limits=LIMITS, now=self.now, accepted=accepted)
        belief.apply(verdict)
        self._store(verdict.services, verdict.waits, verdict.ended)
        for check in self.after:
            check()
        return verdict

    def begin_epoch(self) -> None:
        self.belief.standing = begin_epoch(self.belief.standing, self.now)
        self._store()

    # Time

    def wait(self, seconds: float) -> None:
        """Let time go by: the minute is counted, and grace that is over ends."""
        self.now += seconds
        belief = self.belief
        expired = belief.expired(LIMITS.empty_grace, self.now)
        if expired:
            self._store(belief.forget(expired), (), expired)
        counted = count_minute(belief.standing, belief.waiting.values(), LIMITS, self.now)
        if counted is not belief.standing:
            belief.standing = counted
            self._store()

    def passes(self, number: int, spacing: float = 60.0) -> None:
        for _ in range(number):
            self.wait(spacing)
            self.whole_pass()

    def restart(self, checkpoint: Checkpoint, now: float, *, killed: bool = False) -> None:
        """Go on in another process: its monotonic clock starts elsewhere, its passes are counted anew.

        One that was killed has stored nothing after its last verdict.
        """
        if not killed:
            self._store((), tuple(self.belief.waiting.values()))
        for services, waits, ended, standing, stored in self.stored:
            checkpoint.observe(
                "dc1", services=services, waits=waits, ended=ended, standing=standing, configuration="", now=stored
            )
        self.stored.clear()
        self.now, self.begun = now, 0
        self.belief = Belief("dc1", self.rules, checkpoint.registry("dc1", now), "", now)

    def _store(
        self,
        services: Iterable[Observed] = (),
        waits: Iterable[Waiting] = (),
        ended: Iterable[InstanceKey] = (),
    ) -> None:
        self.stored.append((tuple(services), tuple(waits), tuple(ended), self.belief.standing, self.now))

    # What is believed

    @property
    def left(self) -> Count:
        return self.belief.standing.left

    @property
    def baseline(self) -> Count:
        return self.belief.standing.baseline

    def believed(self) -> dict[InstanceKey, Instance]:
        return {key: one for instances in self.belief.services.values() for key, one in instances.items()}

    def kept(self) -> dict[InstanceKey, Instance]:
        """Return what clusters are to go on with: everything but what waits for grace alone."""
        waiting = self.belief.waiting
        return {
            key: one
            for key, one in self.believed().items()
            if key not in waiting or waiting[key].reason is not Reason.GRACE
        }

    def serving(self) -> set[InstanceKey]:
        """Return what carries traffic in the clusters, grace apart."""
        return {key for key, one in self.kept().items() if self.belief.carries(one)}

    def reasons(self) -> dict[Reason, int]:
        found: dict[Reason, int] = {}
        for row in self.belief.waiting.values():
            found[row.reason] = found.get(row.reason, 0) + 1
        return found


def quiet(world: World) -> World:
    """Let eleven minutes go by."""
    for _ in range(11):
        world.wait(60)
    return world


def served(count: int, service: str = "web") -> World:
    """Return a world of one healthy service after its first pass, eleven quiet minutes ago."""
    world = World(make(number, service) for number in range(count))
    world.whole_pass()
    return quiet(world)


REJECTED: dict[str, Any] = {
    "address": "",
    "rejected": "Service.Address '0.0.0.0' is unspecified",
    "absent_because": Absence.REJECTED,
}
