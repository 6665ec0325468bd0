"""The guard, against a naive telling of section 7 of the design, and against what it promises whatever happens."""

import random
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.standing import HELD
from state.checkpoint import Checkpoint
from state.model import Absence, Count, Instance, InstanceKey, Reading, Reason
from tests.guard_world import REJECTED, World, make
from tests.property.naive_guard import Naive

SERVICES = ("web", "orders", "quiet", "hidden")
KINDS = ("vanish", "vanish", "vanish", "node critical", "critical", "critical", "weight", "warning", "rejected")
SHARES = (0.0, 0.02, 0.05, 0.1, 0.29, 0.3, 0.4, 0.5, 0.6, 1.0)
WAITS = (1, 5, 20, 30, 59, 60, 61, 120, 240, 600)

LOOK, PASS = "look", "pass"

shares = st.sampled_from(SHARES)
thens = st.sampled_from(["", LOOK, LOOK, PASS])
seeds = st.integers(0, 99)


def some(keys: Collection[InstanceKey], share: float, seed: int) -> list[InstanceKey]:
    """Return a share of them, one at least if there is any."""
    return random.Random(seed).sample(sorted(keys), min(len(keys), max(1, round(len(keys) * share))))


def halved(baseline: int, left: int) -> bool:
    return baseline >= 10 and left < baseline / 2


class Promises:
    """What the guard promises, checked before and after every reading, without a model."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.read: set[str] = set()  # services read in this epoch

    def hear(self, reading: Reading, accepted: Collection[InstanceKey]) -> None:
        """Remember how things are before a reading."""
        world = self.world
        waiting = world.belief.waiting
        self.reading, self.accepted = reading, {k for k in accepted if k in waiting and waiting[k].reason in HELD}
        self.kept, self.serving = world.kept(), world.serving()
        self.waiting = dict(waiting)
        self.passed = bool(world.belief.standing.minutes)
        self.baseline = (
            world.baseline if self.passed else Count(sum(map(present, self.kept.values())), len(self.serving))
        )
        self.began = world.belief.standing.epoch_began
        self.unseen = {key for key in self.kept if key.service not in self.read}

    def check(self) -> None:
        """Check what the reading has removed."""
        world, baseline, left = self.world, self.baseline, self.world.left
        now_kept = {key for key, one in world.kept().items() if present(one)}
        gone = {key for key, one in self.kept.items() if present(one) and key not in now_kept} - self.accepted
        dark = self.serving - world.serving() - self.accepted
        if dark:
            assert not halved(baseline.in_service, left.in_service), "in service under half of the baseline"
        missing = gone - {one.key for snapshot in self.reading.snapshots for one in snapshot.instances}
        assert not missing & self.unseen, "what this epoch never showed is held when missing"
        unread = {key for snapshot in self.reading.snapshots for key in snapshot.unread}
        for key in gone:
            row = self.waiting.get(key)
            assert key not in unread or (row and row.reason is Reason.PANIC), "nothing was said of it"
            if row is None or not row.gone or (row.reason is Reason.LOOK and not self.passed):
                assert self.passed or self.reading.complete, "nothing is removed before the first pass"
                share = 5
            elif row.reason is Reason.LOOK:
                assert self.reading.complete
                share = 30
            elif row.reason is Reason.PANIC:
                continue  # it was within a share before it waited
            else:
                assert self.reading.complete
                assert row.proofs >= 2
                assert self.began is None or world.now - self.began >= 600
                assert not halved(baseline.present, left.present)
                continue
            assert left.present > 0, "never to zero"
            assert baseline.present - left.present <= max(3, baseline.present * share / 100)
        self.read |= {snapshot.service for snapshot in self.reading.snapshots if not snapshot.unread}
        held_released = any(
            row.reason is Reason.HOLD and key not in world.belief.waiting for key, row in self.waiting.items()
        )
        if self.passed and not held_released and not self.accepted:
            assert world.baseline == baseline, "a reading moved the baseline without a release"


def present(one: Instance) -> bool:
    return one.present


class Guarded(RuleBasedStateMachine):
    """A registry in which anything happens, the guard, and the naive guard."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.offset = 0.0  # of the process's clock against the naive one's
        self.number = 0
        self.gone: dict[InstanceKey, Instance] = {}
        self.world = World(now=1000.0)
        self.naive = Naive(self.world.belief.carries)
        self.promises = Promises(self.world)
        self.world.before += [self.promises.hear, self.tell_naive]
        self.world.after += [self.compare, self.promises.check]

    @property
    def time(self) -> float:
        return self.world.now + self.offset

    def tell_naive(self, reading: Reading, accepted: Collection[InstanceKey]) -> None:
        self.naive.hear(reading, accepted, self.time)

    def compare(self) -> None:
        belief, naive = self.world.belief, self.naive
        assert self.world.believed() == naive.believed
        rows = {
            key: (row.reason, row.word, row.since + self.offset, row.proofs, row.proofs and row.proved + self.offset)
            for key, row in belief.waiting.items()
        }
        assert rows == {
            key: (row.reason, row.word, row.since, row.proofs, row.proofs and row.proved)
            for key, row in naive.rows.items()
        }
        assert belief.standing.left == naive.left == belief.count()
        assert list(belief.standing.minutes) == naive.samples

    # What happens in the registry

    @initialize(
        sizes=st.dictionaries(
            st.sampled_from(SERVICES), st.sampled_from([1, 2, 4, 9, 10, 12, 20, 40, 60]), min_size=1, max_size=3
        ),
        first_contact=st.sampled_from([False, False, True]),
    )
    def begin(self, sizes: dict[str, int], first_contact: bool) -> None:
        for service, size in sizes.items():
            self.grow(size, service)
        if first_contact:
            self.world.begun += 1
            self.hear(LOOK)
        else:
            self.world.whole_pass()
            self.wait(600)

    @rule(count=st.sampled_from([1, 1, 3, 10, 40]), service=st.sampled_from(SERVICES))
    def grow(self, count: int, service: str) -> None:
        count = min(count, 120 - len(self.world.truth))
        self.world.put(*(make(self.number + place, service) for place in range(count)))
        self.number += count

    @precondition(lambda self: self.world.truth)
    @rule(kind=st.sampled_from(KINDS), share=shares, seed=seeds, service=st.sampled_from(["", *SERVICES]), then=thens)
    def harm(self, kind: str, share: float, seed: int, service: str, then: str) -> None:
        world = self.world
        keys = some(world.listed(service), share, seed)
        if kind == "vanish":
            self.gone.update({key: world.truth[key] for key in keys})
            world.remove(keys)
        elif kind == "node critical":
            nodes = {key.node for key in keys}
            world.change([k for k in world.truth if k.node in nodes], absent_because=Absence.NODE_CRITICAL)
        elif kind == "critical":
            world.change(keys, absent_because=Absence.CRITICAL)
        elif kind == "weight":
            world.change(keys, weight=0)
        elif kind == "warning":
            world.change(keys, warning=True)
        else:
            world.change(keys, **REJECTED)
        self.hear(then, service)

    @precondition(lambda self: self.world.truth)
    @rule(share=shares, seed=seeds, then=thens)
    def heal(self, share: float, seed: int, then: str) -> None:
        for key in some(self.world.listed(), share, seed):
            number = int(key.id.rpartition("-")[2])
            self.world.put(make(number, key.service))
        self.hear(then)

    @precondition(lambda self: self.gone)
    @rule(share=shares, seed=seeds, how=st.sampled_from(["", "critical", "rejected"]), then=thens)
    def come_back(self, share: float, seed: int, how: str, then: str) -> None:
        keys = [key for key in some(self.gone, share, seed) if len(self.world.truth) < 120]
        self.world.put(*(self.gone.pop(key) for key in keys))
        if how:
            self.world.change(keys, **(REJECTED if how == "rejected" else {"absent_because": Absence.CRITICAL}))
        self.hear(then)

    @precondition(lambda self: self.world.truth)
    @rule(share=shares, seed=seeds)
    def move(self, share: float, seed: int) -> None:
        self.world.change(some(self.world.listed(), share, seed), port=9000 + seed)

    @precondition(lambda self: self.world.believed())
    @rule(share=shares, seed=seeds, then=thens)
    def say_nothing(self, share: float, seed: int, then: str) -> None:
        self.world.silent = set(some(self.world.believed(), share, seed))
        self.hear(then)

    @precondition(lambda self: self.world.silent)
    @rule(then=thens)
    def speak_again(self, then: str) -> None:
        self.world.silent.clear()
        self.hear(then)

    @rule()
    def new_epoch(self) -> None:
        self.world.begin_epoch()
        self.naive.new_epoch(self.time)
        self.promises.read.clear()

    # What is heard of it

    def hear(self, how: str, service: str = "") -> None:
        """Look at a service, or at all of them, or make a pass, or leave it to another time."""
        if how == LOOK:
            for name in [service] if service else sorted({*SERVICES}):
                self.world.look(name)
        elif how == PASS:
            self.world.whole_pass()

    @rule(service=st.sampled_from(SERVICES))
    def look(self, service: str) -> None:
        self.world.look(service)

    @rule()
    def whole_pass(self) -> None:
        self.world.whole_pass()

    @rule(number=st.integers(2, 4), spacing=st.sampled_from([20, 60, 60]))
    def some_passes(self, number: int, spacing: int) -> None:
        for _ in range(number):
            self.wait(spacing)
            self.world.whole_pass()

    @rule(service=st.sampled_from(SERVICES))
    def pass_that_could_not_read(self, service: str) -> None:
        self.world.whole_pass(unread=[service])

    @rule(looked=st.sampled_from(SERVICES), kind=st.sampled_from(KINDS), share=shares, seed=seeds)
    def pass_with_a_look_midway(self, looked: str, kind: str, share: float, seed: int) -> None:
        def midway() -> list[str]:
            if self.world.truth:
                self.harm(kind, share, seed, "", "")
            self.world.look(looked)
            return [looked]

        self.world.whole_pass(midway=midway)

    @rule()
    def pass_that_failed(self) -> None:
        self.world.begun += 1

    @rule(share=shares, seed=seeds)
    def accept(self, share: float, seed: int) -> None:
        held = {row.key for row in self.world.belief.held()}
        if held:
            other = some(self.world.believed(), 0, seed)  # what was held when the operator asked may not be any more
            self.world.whole_pass(accepted=[*some(held, share, seed), *other])

    # Time

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: int) -> None:
        before, undecided = self.world.baseline, self.naive.undecided
        self.world.wait(seconds)
        self.naive.wait(self.time)
        self.compare()
        if undecided:
            assert self.world.baseline.present >= before.present
            assert self.world.baseline.in_service >= before.in_service

    @rule(clock=st.sampled_from([0, 7, 100_000]))
    def restart(self, clock: int) -> None:
        checkpoint = Checkpoint.open(Path(self.folder.name) / "state.db")
        try:
            self.offset += self.world.now - clock
            self.world.restart(checkpoint, float(clock))
        finally:
            checkpoint.close()
        for row in self.naive.rows.values():
            row.number = 0
        self.naive.carries = self.world.belief.carries
        self.compare()

    @invariant()
    def never_valid_counts_nowhere(self) -> None:
        for key, one in self.world.believed().items():
            if not one.address:
                assert key not in self.world.belief.waiting
                assert not one.present

    def teardown(self) -> None:
        """Run the world on: whatever waits ends, unless only an operator can end it."""
        try:
            self.world.silent.clear()
            for _ in range(25):
                self.wait(60)
                self.world.whole_pass()
            self.wait(60)
            assert_settled(self.world)
        finally:
            self.folder.cleanup()


def assert_settled(world: World) -> None:
    """Check that only what needs an operator still waits, and that all else is as the registry says."""
    baseline, left = world.baseline, world.left
    for row in world.belief.waiting.values():
        if row.reason is Reason.HOLD:
            assert halved(baseline.present, left.present)
        else:
            assert row.reason is Reason.PANIC
            assert halved(baseline.in_service, left.in_service)
    believed = world.believed()
    assert believed.keys() - world.belief.waiting.keys() <= world.truth.keys() <= believed.keys()
    for key in world.truth.keys() - world.belief.waiting.keys():
        if not world.truth[key].rejected:
            assert believed[key] == world.truth[key]
        else:
            assert believed[key].rejected


Guarded.TestCase.settings = settings(max_examples=200, stateful_step_count=30)
TestTheGuard = Guarded.TestCase

steps = st.lists(st.tuples(st.sampled_from(KINDS), shares, seeds, st.sampled_from(WAITS)), min_size=1, max_size=6)


def played(size: int, some_steps: list[tuple[str, float, int, int]], folder: Path | None) -> World:
    """Return a world after some harm; with a folder it is killed in the end, and goes on in another process."""
    guarded = Guarded()
    try:
        guarded.begin({"web": size, "orders": size}, first_contact=False)
        for kind, share, seed, seconds in some_steps:
            if guarded.world.truth:
                guarded.harm(kind, share, seed, "", PASS if seed % 3 == 0 else LOOK)
                guarded.wait(seconds)
    finally:
        guarded.folder.cleanup()
    world = guarded.world
    world.before.clear()
    world.after.clear()
    if folder:
        checkpoint = Checkpoint.open(folder / "state.db")
        try:
            world.restart(checkpoint, 50.0, killed=True)
        finally:
            checkpoint.close()
    return world


@given(st.sampled_from([1, 5, 10, 60]), steps)
@settings(max_examples=40)
def test_being_killed_at_any_point_changes_no_outcome_but_time(
    size: int, some_steps: list[tuple[str, float, int, int]]
) -> None:
    whole = played(size, some_steps, None)
    with TemporaryDirectory() as folder:
        killed = played(size, some_steps, Path(folder))
    for _ in range(25):
        assert (killed.left, killed.believed().keys() >= whole.believed().keys()) == (killed.belief.count(), True)
        for world in (whole, killed):
            world.passes(1)
    for world in (whole, killed):
        world.wait(60)
        assert_settled(world)
    assert killed.believed() == whole.believed()
    assert killed.reasons() == whole.reasons()


@given(st.sampled_from([1, 5, 10, 60]), steps)
@settings(max_examples=40)
def test_what_was_killed_knows_what_it_knew_and_is_no_older(
    size: int, some_steps: list[tuple[str, float, int, int]]
) -> None:
    whole = played(size, some_steps, None)
    with TemporaryDirectory() as folder:
        killed = played(size, some_steps, Path(folder))
    assert killed.believed() == whole.believed()
    assert killed.belief.epochs == whole.belief.epochs
    now, then = killed.belief.standing, whole.belief.standing
    assert (now.left, now.minutes, now.epoch) == (then.left, then.minutes, then.epoch)
    assert killed.now - now.counted <= whole.now - then.counted
    assert killed.belief.waiting.keys() == whole.belief.waiting.keys()
    for key, row in killed.belief.waiting.items():
        before = whole.belief.waiting[key]
        assert (row.reason, row.word, row.proofs) == (before.reason, before.word, before.proofs)
        assert killed.now - row.since <= whole.now - before.since
        assert not row.proofs or killed.now - row.proved <= whole.now - before.proved
