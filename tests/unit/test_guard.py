"""The guard's answers, scenario by scenario; looks, passes and time are those of ``World``."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.belief import Belief
from agent.guard import Verdict, doubts
from agent.removal import keep_rejected
from agent.rules import Match, Rule, Rules
from agent.standing import begin_epoch, count_minute, half, within
from state.checkpoint import Checkpoint, Remembered
from state.limits import Limits
from state.model import Absence, Count, Instance, InstanceKey, Observed, Reason, Snapshot, Standing, Waiting
from tests.guard_world import REJECTED, World, make, quiet, served

LOOK, HOLD, PANIC, GRACE = Reason.LOOK, Reason.HOLD, Reason.PANIC, Reason.GRACE
CRITICAL = {"absent_because": Absence.CRITICAL}
NODE_CRITICAL = {"absent_because": Absence.NODE_CRITICAL}


def estate(services: int, each: int) -> World:
    """Return several services after their first pass, eleven quiet minutes ago."""
    world = World(make(number * 100 + place, f"s{number}") for number in range(services) for place in range(each))
    world.whole_pass()
    return quiet(world)


# Looks and passes


def test_three_of_sixty_leave_at_once() -> None:
    world = served(60)
    world.remove(world.listed()[:3])
    assert len(world.look().left) == 3
    assert (world.reasons(), world.left) == ({GRACE: 3}, (57, 57))
    world.wait(60)
    assert (world.reasons(), len(world.believed())) == ({}, 57)


def test_four_of_sixty_wait_for_a_pass() -> None:
    world = served(60)
    world.remove(world.listed()[:4])
    world.look()
    assert (world.reasons(), world.left) == ({LOOK: 4}, (56, 56))
    world.look()
    assert world.reasons() == {LOOK: 4}
    world.whole_pass()
    assert world.reasons() == {GRACE: 4}


def test_ten_per_cent_wait_for_one_pass() -> None:
    world = served(60)
    world.remove(world.listed()[:6])
    world.look()
    assert (world.reasons(), len(world.kept())) == ({LOOK: 6}, 60)
    world.wait(60)
    assert len(world.whole_pass().left) == 6
    assert (world.reasons(), len(world.believed()), world.baseline) == ({}, 54, (60, 60))


def test_twenty_nine_per_cent_leave_at_the_next_pass() -> None:
    world = served(60)
    world.remove(world.listed()[:17])
    world.look()
    assert world.reasons() == {LOOK: 17}
    world.whole_pass()
    assert (world.reasons(), world.left) == ({GRACE: 17}, (43, 43))


def test_a_pass_that_finds_them_itself_is_a_look() -> None:
    world = served(60)
    world.remove(world.listed()[:18])
    world.whole_pass()
    assert world.reasons() == {LOOK: 18}
    world.whole_pass()
    assert world.reasons() == {GRACE: 18}


def test_a_pass_begun_before_the_look_is_no_later_one() -> None:
    world = served(60)
    world.remove(world.listed()[:6])
    world.begun += 1  # a pass begins,
    world.look()  # something is looked at during it,
    world.hear([world.snapshot("web")], complete=True)  # and it ends
    assert world.reasons() == {LOOK: 6}
    world.whole_pass()
    assert world.reasons() == {GRACE: 6}


def test_forty_per_cent_are_held_and_released_after_the_third_pass() -> None:
    world = served(60)
    world.remove(world.listed()[:24])
    world.look()
    assert world.reasons() == {LOOK: 24}
    world.wait(2)
    world.whole_pass()
    assert {row.proofs for row in world.belief.held()} == {1}
    world.wait(59)
    world.whole_pass()
    assert {row.proofs for row in world.belief.held()} == {1}, "less than 60 s after the first"
    world.wait(1)
    world.whole_pass()
    assert {row.proofs for row in world.belief.held()} == {2}
    assert (len(world.kept()), world.baseline) == (60, (60, 60))
    world.wait(60)
    assert len(world.whole_pass().left) == 24
    assert (world.reasons(), world.believed() == world.truth) == ({}, True), "time held counts: there is no grace"
    assert (world.left, world.baseline) == ((36, 36), (36, 36))


def test_sixty_per_cent_are_held_until_they_are_accepted() -> None:
    world = served(60)
    gone = world.listed()[:36]
    world.remove(gone)
    world.look()
    world.passes(60)
    assert (world.reasons(), len(world.kept()), world.baseline) == ({HOLD: 36}, 60, (60, 60))
    world.look()
    assert world.reasons() == {HOLD: 36}
    world.whole_pass(accepted=gone)
    assert (world.reasons(), world.left, world.baseline) == ({}, (24, 24), (24, 24))


def test_accepting_believes_only_what_is_still_missing() -> None:
    world = served(60)
    gone = world.listed()[:36]
    back = world.truth[gone[0]]
    world.remove(gone)
    world.look()
    world.passes(2)
    world.put(back)
    world.whole_pass(accepted=gone)
    assert (world.reasons(), world.believed() == world.truth, len(world.truth)) == ({}, True, 25)


def test_accepting_speaks_of_what_was_held_not_of_another_removal() -> None:
    world = served(60)
    gone = world.listed()[:36]
    lost = {key: world.truth[key] for key in gone}
    world.remove(gone)
    world.look()
    world.passes(2)
    world.put(*lost.values())
    world.look()
    assert world.reasons() == {}
    world.remove(gone)
    world.whole_pass(accepted=gone)
    assert world.reasons() == {LOOK: 36}


@pytest.mark.parametrize("count", [10, 12, 60])
def test_a_registry_that_is_emptied_is_held_until_it_is_accepted(count: int) -> None:
    world = served(count)
    gone = world.listed()
    world.wipe()
    world.look()
    world.passes(60)
    assert (world.reasons(), world.left, world.baseline) == ({HOLD: count}, (0, 0), (count, count))
    world.whole_pass(accepted=gone)
    assert (world.believed(), world.baseline) == ({}, (0, 0))


@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_small_registry_that_is_emptied_is_held_for_three_passes(count: int) -> None:
    world = served(count)
    world.wipe()
    world.look()
    assert world.reasons() == {LOOK: count}
    world.passes(2)
    assert (world.reasons(), {row.proofs for row in world.belief.held()}) == ({HOLD: count}, {2})
    world.passes(1)
    assert (world.believed(), world.baseline, world.left) == ({}, (0, 0), (0, 0))


def test_limits_are_judged_on_what_would_be_left_not_look_by_look() -> None:
    world = served(60)
    for removed in range(1, 10):
        world.remove(world.listed()[:1])
        world.look()
        assert sum(world.reasons().values()) == removed
        assert world.reasons().get(LOOK, 0) == max(0, removed - 3)
    assert world.reasons() == {GRACE: 3, LOOK: 6}
    world.whole_pass()
    assert world.reasons() == {GRACE: 9}


@pytest.mark.parametrize(
    ("count", "gone", "at_once", "at_a_pass"),
    [(100, 5, True, True), (100, 6, False, True), (100, 30, False, True), (100, 31, False, False),
     (19, 3, True, True), (19, 5, False, True), (19, 6, False, False), (4, 3, True, True), (4, 4, False, False)],
)  # fmt: skip
def test_how_many_may_leave(count: int, gone: int, at_once: bool, at_a_pass: bool) -> None:
    world = served(count)
    world.remove(world.listed()[:gone])
    world.look()
    assert world.reasons() == {GRACE if at_once else LOOK: gone}
    world.whole_pass()
    assert world.reasons() == {GRACE if at_a_pass else HOLD: gone}


def test_only_a_pass_ends_what_waits_for_one() -> None:
    world = served(60)
    world.remove(world.listed()[:6])
    world.look()
    world.begun += 1  # a pass that failed
    world.look()
    assert world.reasons() == {LOOK: 6}


def test_what_vanishes_during_a_pass_does_not_end_with_it_though_it_waited_before() -> None:
    world = served(40)
    sick = world.listed()[:25]
    world.change(sick, **CRITICAL)
    world.look()
    assert world.reasons() == {PANIC: 25}
    world.begun += 1
    world.remove(sick[:10])
    world.look()
    assert world.reasons() == {PANIC: 15, LOOK: 10}
    world.hear([world.snapshot("web")], complete=True)
    assert world.reasons() == {PANIC: 15, LOOK: 10}
    world.whole_pass()
    assert world.reasons() == {PANIC: 25}, "within 30 % of what was present, but not in service"


def test_what_is_held_makes_every_further_removal_wait() -> None:
    world = served(60)
    world.remove(world.listed()[:24])
    world.look()
    world.passes(1)
    world.remove(world.listed()[:1])
    world.look()
    assert world.reasons() == {HOLD: 24, LOOK: 1}
    world.passes(1)
    assert world.reasons() == {HOLD: 25}
    assert sorted({row.proofs for row in world.belief.held()}) == [1, 2]
    world.passes(2)
    assert (world.reasons(), world.left, world.baseline) == ({}, (35, 35), (35, 35))


def test_a_reading_that_empties_a_service_joins_all_that_the_list_lacks() -> None:
    world = estate(20, 3)
    world.wipe()
    world.look("s4")
    assert world.reasons() == {LOOK: 60}


def test_a_service_that_cannot_be_read_keeps_its_instances_and_proves_nothing() -> None:
    world = estate(10, 6)
    world.remove([key for key in world.truth if key.service in ("s0", "s1", "s2", "s3")])
    for number in range(4):
        world.look(f"s{number}")
    world.passes(2)
    for _ in range(5):
        world.wait(60)
        world.whole_pass(unread=["s0"])
    proofs = {row.key.service: row.proofs for row in world.belief.held()}
    assert proofs == {"s0": 2}, "the others were released"
    assert world.baseline == (42, 42), "what is left, and what still waits"
    world.passes(1)
    assert (world.reasons(), world.baseline) == ({}, (36, 36))


# Coming back


def test_a_rack_that_is_critical_and_back_moves_nothing() -> None:
    world = estate(4, 14)
    before = world.believed()
    rack = [key for key in world.truth if key.node in ("node-0", "node-1", "node-2")]
    assert len(rack) == 24
    world.change(rack, **NODE_CRITICAL)
    for number in range(4):
        world.look(f"s{number}")
    assert world.reasons() == {LOOK: 24}
    world.passes(1)
    assert world.reasons() == {HOLD: 24}
    assert world.believed() == before
    world.change(rack, absent_because=Absence.NONE)
    for number in range(4):
        world.look(f"s{number}")
    assert (world.reasons(), world.believed() == before, world.left) == ({}, True, (56, 56))


def test_a_node_that_is_critical_leaves_at_once_and_without_grace() -> None:
    world = estate(4, 14)
    node = [key for key in world.truth if key.node == "node-0" and key.service == "s0"]
    world.change(node, **NODE_CRITICAL)
    assert len(world.look("s0").left) == len(node) == 2
    assert (world.reasons(), world.left) == ({}, (54, 54))
    world.change(node, absent_because=Absence.NONE)
    world.look("s0")
    assert world.left == (56, 56)


def test_a_node_in_maintenance_stays_present() -> None:
    world = served(12)
    world.change(world.listed()[:6], absent_because=Absence.MAINTENANCE)
    world.look()
    assert (world.reasons(), world.left) == ({}, (12, 6))


def test_services_wiped_one_by_one_go_as_far_as_the_shares_allow() -> None:
    world = estate(10, 6)
    for number in range(10):
        world.remove(world.listed(f"s{number}"))
        world.look(f"s{number}")
        world.wait(3)
        world.whole_pass()
    world.wait(60)
    world.passes(40)
    assert (world.reasons(), world.left, world.baseline) == ({HOLD: 42}, (0, 0), (60, 60))


def test_services_wiped_one_by_one_between_two_passes_all_wait() -> None:
    world = estate(10, 6)
    for number in range(10):
        world.remove(world.listed(f"s{number}"))
        world.look(f"s{number}")
        world.wait(3)
    assert world.reasons() == {LOOK: 60}
    world.passes(40)
    assert (world.reasons(), world.baseline) == ({HOLD: 60}, (60, 60))


@pytest.mark.parametrize("epoch", [False, True])
def test_a_registry_wiped_and_refilled_moves_nothing(epoch: bool) -> None:
    world = estate(10, 6)
    before = world.wipe()
    if epoch:
        world.begin_epoch()
    world.look("s1")
    world.whole_pass()
    world.wait(20)
    assert (world.reasons(), world.believed() == before) == ({HOLD: 60}, True)
    world.put(*before.values())
    world.whole_pass()
    assert (world.reasons(), world.believed() == before, world.left) == ({}, True, (60, 60))


def test_green_beside_blue_moves_nothing() -> None:
    world = served(60)
    blue = world.listed()
    world.put(*(make(number) for number in range(100, 160)))
    world.look()
    assert world.left == (120, 120)
    world.wait(30)
    world.remove(blue)
    assert len(world.look().left) == 60
    assert (world.reasons(), world.left, world.baseline) == ({GRACE: 60}, (60, 60), (60, 60))


def test_a_rolling_deployment_moves_nothing() -> None:
    world = served(60)
    for number in range(0, 60, 3):
        world.put(*(make(1000 + number + place) for place in range(3)))
        world.look()
        world.remove([key for key in world.listed() if int(key.id[4:]) in (number, number + 1, number + 2)])
        world.look()
        world.wait(10)
        assert set(world.reasons()) <= {GRACE}
        assert world.left == (60, 60)


def test_additions_and_updates_are_believed_at_once_even_beside_a_hold() -> None:
    world = served(60)
    world.remove(world.listed()[:36])
    world.look()
    world.passes(1)
    moved = world.listed()[0]
    world.change([moved], port=9999)
    world.put(make(900))
    world.look()
    assert world.believed()[moved].port == 9999
    assert make(900).key in world.believed()
    assert world.reasons() == {HOLD: 36}


# Panic


def test_half_of_a_baseline_stays_in_service() -> None:
    world = served(40)
    sick = world.listed()[:25]
    world.change(sick, **CRITICAL)
    world.look()
    assert (world.reasons(), world.left, len(world.serving())) == ({PANIC: 25}, (40, 15), 40)
    world.passes(60)
    assert (world.reasons(), world.baseline) == ({PANIC: 25}, (40, 40))
    world.change(sick[:4], absent_because=Absence.NONE)
    world.look()
    assert (world.reasons(), world.left) == ({PANIC: 21}, (40, 19))
    world.change(sick[4:5], absent_because=Absence.NONE)
    world.look()
    assert (world.reasons(), world.left, world.believed() == world.truth) == ({}, (40, 20), True)


def test_panic_ends_for_services_that_are_not_read_now() -> None:
    world = estate(2, 10)
    world.change(world.listed("s0"), **CRITICAL)
    world.look("s0")
    world.change(world.listed("s1")[:1], **CRITICAL)
    world.look("s1")
    assert world.reasons() == {PANIC: 1}
    world.put(make(50, "s2"))
    world.look("s2")
    assert (world.reasons(), world.left.in_service) == ({}, 10)


@pytest.mark.parametrize(
    "how", [CRITICAL, {"absent_because": Absence.MAINTENANCE}, {"weight": 0}], ids=["critical", "maintenance", "weight"]
)
def test_panic_asks_for_no_reason(how: dict[str, object]) -> None:
    world = served(20)
    world.change(world.listed()[:11], **how)
    world.look()
    assert world.reasons() == {PANIC: 11}


def test_a_warning_counts_where_a_rule_excludes_it() -> None:
    world = served(20, "quiet")
    world.change(world.listed()[:11], warning=True)
    world.look("quiet")
    assert world.reasons() == {PANIC: 11}


def test_twelve_that_become_critical_one_by_one() -> None:
    world = served(12)
    for number, key in enumerate(world.listed(), 1):
        world.change([key], **CRITICAL)
        world.look()
        assert world.reasons().get(PANIC, 0) == max(0, number - 6)
        assert len(world.serving()) == max(6, 12 - number)
    assert world.left == (12, 0)


def test_a_small_baseline_knows_no_panic() -> None:
    world = served(9)
    world.change(world.listed(), **CRITICAL)
    world.look()
    assert (world.reasons(), world.left) == ({}, (9, 0))


def test_what_vanishes_within_its_share_is_held_by_panic_all_the_same() -> None:
    world = served(40)
    world.change(world.listed()[:20], **CRITICAL)
    world.look()
    healthy = [key for key in world.listed() if world.truth[key].absent_because is Absence.NONE]
    world.remove(healthy[:2])
    world.look()
    assert (world.reasons(), world.left) == ({PANIC: 2}, (38, 18))
    sick = [key for key in world.listed() if world.truth[key].absent_because is not Absence.NONE]
    world.remove(sick[:1])
    world.look()
    assert (world.reasons(), world.left) == ({PANIC: 2}, (37, 18)), "it carried nothing"


def test_what_panic_holds_and_then_vanishes_is_judged_anew() -> None:
    world = served(40)
    sick = world.listed()[:25]
    world.change(sick, **CRITICAL)
    world.look()
    world.remove(sick)
    world.look()
    assert (world.reasons(), world.left) == ({LOOK: 25}, (15, 15))
    world.passes(5)
    assert world.reasons() == {HOLD: 25}


def test_what_is_held_and_seen_again_as_critical_is_present() -> None:
    world = served(60)
    gone = {key: world.truth[key] for key in world.listed()[:24]}
    world.remove(gone)
    world.look()
    world.passes(1)
    world.put(*(replace(one, absent_because=Absence.CRITICAL) for one in gone.values()))
    world.look()
    assert (world.reasons(), world.left) == ({}, (60, 36))


def test_a_release_lets_go_nothing_that_panic_holds() -> None:
    world = served(100)
    sick, idle = world.listed()[:60], world.listed()[60:62]
    world.change(idle, **CRITICAL)
    world.look()
    world.change(sick, **CRITICAL)
    world.look()
    world.begin_epoch()
    world.remove(idle)  # not seen in this epoch: held, and released in the end, though the others are not
    world.look()
    assert world.reasons() == {PANIC: 60, HOLD: 2}
    world.passes(30)
    assert (world.reasons(), len(world.serving())) == ({PANIC: 60}, 98)


# Accepting a part


def test_what_is_released_into_a_panic_moves_no_baseline() -> None:
    world = served(60)
    world.remove(world.listed()[:24])
    world.look()
    world.passes(1)
    world.change(world.listed()[:10], **CRITICAL)
    world.look()
    assert world.reasons() == {HOLD: 24, PANIC: 10}
    world.passes(30)
    assert (world.reasons(), world.baseline, len(world.kept())) == ({PANIC: 34}, (60, 60), 60)


def test_accepting_one_of_ten_lets_the_other_nine_wait() -> None:
    world = served(10)
    keys = world.listed()
    world.wipe()
    world.look()
    world.passes(4)
    world.whole_pass(accepted=keys[:1])
    world.passes(30)
    assert (world.reasons(), world.baseline) == ({HOLD: 9}, (10, 10))
    world.whole_pass(accepted=keys[1:])
    assert (world.reasons(), world.baseline) == ({}, (0, 0))


def test_accepting_a_part_leaves_the_rest_in_the_baseline() -> None:
    world = served(100)
    sick = world.listed()[:80]
    world.change(sick, **CRITICAL)
    world.look()
    world.whole_pass(accepted=sick[:30])
    assert (world.reasons(), world.left, world.baseline) == ({PANIC: 50}, (100, 20), (100, 70))
    world.whole_pass(accepted=sick[30:])
    assert (world.reasons(), world.baseline) == ({}, (100, 20))


# Baseline


def test_at_first_contact_the_baseline_is_what_the_first_pass_showed() -> None:
    world = World(make(number) for number in range(20))
    world.look()
    assert (world.left, world.belief.standing.minutes) == ((20, 20), ())
    world.put(make(20))
    world.whole_pass()
    assert (world.left, world.baseline) == ((21, 21), (21, 21))


def test_the_first_minute_is_counted_from_the_first_pass() -> None:
    world = World(make(number) for number in range(20))
    world.wait(50)
    world.whole_pass()
    world.put(make(20))
    world.look()
    world.wait(59)
    assert world.belief.standing.minutes[-1] == (20, 20)
    world.wait(1)
    assert world.belief.standing.minutes[-1] == (21, 21)


def test_ten_minutes_later_the_baseline_is_what_was_left() -> None:
    world = served(60)
    world.remove(world.listed()[:3])
    world.look()
    world.wait(60)
    assert world.baseline == (60, 60)
    for _ in range(8):
        world.wait(60)
        assert world.baseline == (60, 60)
    world.wait(60)
    assert world.baseline == (57, 57)
    world.remove(world.listed()[:3])
    world.look()
    assert world.reasons() == {GRACE: 3}


def test_nothing_leaves_before_the_first_pass() -> None:
    world = World(make(number) for number in range(40))
    world.look()
    for removed in range(1, 39):
        world.remove(world.listed()[:1])
        world.look()
        assert (world.reasons(), len(world.kept())) == ({LOOK: removed}, 40)
    world.whole_pass()
    assert world.reasons() == {LOOK: 38}, "the first pass is itself a look"
    world.whole_pass()
    assert (world.reasons(), world.baseline) == ({HOLD: 38}, (40, 40))


def test_a_few_that_leave_before_the_first_pass_leave_with_it() -> None:
    world = World(make(number) for number in range(40))
    world.look()
    world.remove(world.listed()[:2])
    world.look()
    assert world.reasons() == {LOOK: 2}
    world.whole_pass()
    assert (world.reasons(), world.baseline) == ({GRACE: 2}, (38, 38))


@pytest.mark.parametrize("share", [10, 24, 60], ids=["a part", "more", "all"])
def test_what_waits_for_a_pass_is_judged_by_what_was_there_before_however_late(share: int) -> None:
    world = served(60)
    world.remove(world.listed()[:share])
    world.look()
    for _ in range(30):  # more than 5 % of the services cannot be read: there is no pass
        world.wait(60)
    assert (world.reasons(), world.baseline) == ({LOOK: share}, (60, 60))
    world.whole_pass()
    assert world.reasons() == ({} if share == 10 else {HOLD: share})


def test_a_baseline_does_not_shrink_while_anything_is_held_and_may_grow() -> None:
    world = served(60)
    world.remove(world.listed()[:36])
    world.look()
    world.passes(1)
    world.put(*(make(number) for number in range(500, 550)))
    world.look()
    assert world.left == (74, 74)
    for _ in range(12):
        world.wait(60)
    assert (world.reasons(), world.baseline) == ({HOLD: 36}, (74, 74))


def test_minutes_are_counted_a_tenth_of_the_baseline_apart() -> None:
    limits = Limits(baseline=100)
    standing = Standing(left=Count(5, 4), minutes=(Count(9, 9),) * 10, counted=1000)
    assert count_minute(standing, (), limits, 1009.9) is standing
    later = count_minute(standing, (), limits, 1010)
    assert (later.counted, later.minutes) == (1010, (*[Count(9, 9)] * 9, Count(5, 4)))
    assert count_minute(Standing(left=Count(5, 4)), (), limits, 9e9).minutes == ()


@pytest.mark.parametrize("reason", list(Reason))
def test_a_minute_counted_while_anything_waits_to_be_believed_is_no_smaller(reason: Reason) -> None:
    standing = Standing(left=Count(5, 12), minutes=(Count(9, 9), *[Count(20, 1)] * 9))
    row = Waiting(key=InstanceKey("web", "n", "a"), reason=reason, word=None, since=0)
    minutes = count_minute(standing, [row], Limits(), 1000).minutes
    if reason is GRACE:
        assert minutes == (*[Count(20, 1)] * 9, Count(5, 12))
    else:
        assert minutes == (*[Count(20, 9)] * 9, Count(9, 12))


@pytest.mark.parametrize(
    ("baseline", "left", "share", "answer"),
    [(60, 57, 5, True), (60, 56, 5, False), (100, 95, 5, True), (100, 94, 5, False), (99, 95, 5, True),
     (99, 94, 5, False), (60, 42, 30, True), (60, 41, 30, False), (3, 1, 5, True), (3, 0, 5, False), (0, 0, 30, False),
     (5, 90, 5, True)],
)  # fmt: skip
def test_a_share_of_the_baseline_but_three_at_least_and_never_all(
    baseline: int, left: int, share: int, answer: bool
) -> None:
    assert within(baseline, left, share) is answer


@pytest.mark.parametrize(
    ("baseline", "left", "answer"), [(10, 5, True), (10, 4, False), (11, 5, False), (11, 6, True), (9, 0, True)]
)
def test_half_is_asked_of_ten_or_more(baseline: int, left: int, answer: bool) -> None:
    assert half(baseline, left) is answer


# Epochs


def test_what_a_new_epoch_never_showed_is_held_when_missing() -> None:
    world = served(60)
    world.begin_epoch()
    world.remove(world.listed()[:1])
    world.look()
    assert world.reasons() == {HOLD: 1}
    for minute in range(1, 10):
        world.passes(1)
        assert {row.proofs for row in world.belief.held()} == {minute}
    world.wait(59)
    world.whole_pass()
    assert world.reasons() == {HOLD: 1}, "the epoch is not ten minutes old"
    world.wait(1)
    world.whole_pass()
    assert (world.reasons(), world.baseline) == ({}, (59, 59))


def test_an_epoch_that_is_old_enough_still_asks_for_three_proofs() -> None:
    world = served(60)
    world.begin_epoch()
    world.wait(700)
    world.remove(world.listed()[:1])
    world.whole_pass()
    world.passes(2)
    assert world.reasons() == {HOLD: 1}
    world.passes(1)
    assert world.reasons() == {}


def test_what_the_new_epoch_has_shown_is_judged_as_ever() -> None:
    world = served(60)
    world.begin_epoch()
    world.whole_pass()
    world.remove(world.listed()[:3])
    world.look()
    assert world.reasons() == {GRACE: 3}


@pytest.mark.parametrize("look_first", [False, True])
def test_what_waited_for_a_pass_is_held_when_another_epoch_begins(look_first: bool) -> None:
    world = served(60)
    world.remove(world.listed()[:10])
    world.look()
    assert world.reasons() == {LOOK: 10}
    world.begin_epoch()
    if look_first:
        world.look()
    world.whole_pass()
    assert world.reasons() == {HOLD: 10}
    world.passes(9)
    assert world.reasons() == {HOLD: 10}
    world.passes(1)
    assert world.reasons() == {}


def test_proofs_of_another_epoch_prove_nothing() -> None:
    world = served(60)
    world.remove(world.listed()[:24])
    world.look()
    world.passes(2)
    world.begin_epoch()
    world.wait(700)  # unreadable
    world.whole_pass()
    assert (world.reasons(), {row.proofs for row in world.belief.held()}) == ({HOLD: 24}, {0})
    world.passes(3)
    assert world.reasons() == {}


def test_the_words_of_another_epoch_are_not_believed_when_panic_ends() -> None:
    world = estate(2, 10)
    world.change([*world.listed("s0"), *world.listed("s1")[:1]], **CRITICAL)
    world.look("s0")
    world.look("s1")
    assert world.reasons() == {PANIC: 1}
    world.begin_epoch()
    world.put(*(make(50 + number, "s2") for number in range(5)))
    world.look("s2")
    assert world.reasons() == {PANIC: 1}
    world.look("s1")
    assert world.reasons() == {}


def test_an_epoch_begins_with_its_own_age() -> None:
    standing = begin_epoch(Standing(left=Count(1, 1), epoch=4, epoch_began=None), 77.0)
    assert (standing.epoch, standing.epoch_began, standing.left) == (5, 77.0, (1, 1))


def lost(count: int, listed: int) -> World:
    """Return a world whose state file was lost: clusters hold ``count``, the registry lists some of them."""
    world = World(make(number) for number in range(listed))
    belief = world.belief
    belief.standing = begin_epoch(belief.standing, world.now)
    held = tuple(make(number) for number in range(count))
    rows = tuple(Waiting(key=one.key, reason=HOLD, word=None, since=world.now) for one in held)
    services = (Observed("web", held, belief.standing.epoch - 1),)
    belief.apply(Verdict(services=services, waits=rows, standing=belief.standing))
    belief.standing = replace(belief.standing, left=belief.count())
    return world


@pytest.mark.parametrize("look_first", [False, True])
def test_after_a_loss_the_baseline_is_what_clusters_hold(look_first: bool) -> None:
    world = lost(40, 30)
    if look_first:
        world.look()
    world.whole_pass()
    assert (world.reasons(), world.left, world.baseline) == ({HOLD: 10}, (30, 30), (40, 40))
    world.passes(9)
    assert world.reasons() == {HOLD: 10}
    world.passes(1)
    assert (world.reasons(), world.baseline) == ({}, (30, 30))


def test_after_a_loss_what_the_registry_lists_is_judged_by_what_clusters_hold() -> None:
    world = lost(40, 40)
    world.change(world.listed()[:25], **CRITICAL)
    world.look()
    assert (world.reasons(), len(world.serving())) == ({PANIC: 25}, 40)
    world.whole_pass()
    assert (world.reasons(), world.baseline) == ({PANIC: 25}, (40, 40))


def test_after_a_loss_an_empty_registry_removes_nothing() -> None:
    world = lost(40, 0)
    world.look()
    world.passes(60)
    assert (world.reasons(), world.baseline) == ({HOLD: 40}, (40, 40))


# Grace


def test_grace_counts_the_time_that_was_waited() -> None:
    world = served(60)
    world.remove(world.listed()[:6])
    world.look()
    began = world.now
    world.wait(50)
    world.whole_pass()
    assert {(row.reason, row.since) for row in world.belief.waiting.values()} == {(GRACE, began)}
    world.wait(9)
    assert world.reasons() == {GRACE: 6}
    world.wait(1)
    assert (world.reasons(), len(world.believed())) == ({}, 54)


def test_what_comes_back_during_grace_is_present() -> None:
    world = served(20)
    key = world.listed()[0]
    world.remove([key])
    world.look()
    world.look()
    assert world.reasons() == {GRACE: 1}
    world.put(make(0, port=9999))
    world.look()
    assert (world.reasons(), world.left, world.believed()[key].port) == ({}, (20, 20), 9999)


def test_what_carried_no_traffic_has_no_grace() -> None:
    world = served(20)
    world.change(world.listed()[:2], **CRITICAL)
    world.look()
    world.remove(world.listed()[:2])
    world.look()
    assert (world.reasons(), world.left, len(world.believed())) == ({}, (18, 18), 18)


# Rejected


def test_a_rejected_update_keeps_the_last_believed_instance() -> None:
    world = served(20)
    world.change(world.listed()[:15], port=0, **REJECTED)
    world.look()
    one = world.believed()[world.listed()[0]]
    assert (one.address, one.port, one.rejected, one.absent_because) == (
        "10.0.0.1", 8080, REJECTED["rejected"], Absence.NONE
    )  # fmt: skip
    assert (world.reasons(), world.left) == ({}, (20, 20))
    world.look()
    assert world.believed()[one.key] == one
    world.put(make(0, port=81))
    world.look()
    assert world.believed()[one.key] == make(0, port=81)


def test_that_a_rejected_instance_is_unhealthy_is_believed() -> None:
    before = make(1)
    word = make(1, address="", rejected="Service.Port 0 is none", absent_because=Absence.CRITICAL)
    assert keep_rejected(before, word) == replace(before, rejected=word.rejected, absent_because=Absence.CRITICAL)
    world = served(20)
    world.change(world.listed()[:1], address="", rejected="Service.Port 0 is none", **NODE_CRITICAL)
    world.look()
    assert world.left == (19, 19)


def test_a_rejected_instance_that_was_never_valid_counts_nowhere() -> None:
    world = served(10)
    world.put(*(make(number, **REJECTED) for number in range(50, 90)))
    world.look()
    assert (world.reasons(), world.left, len(world.believed())) == ({}, (10, 10), 50)
    world.remove([key for key in world.listed() if int(key.id[4:]) >= 50])
    world.look()
    assert (world.reasons(), world.left, len(world.believed())) == ({}, (10, 10), 10)


def test_a_rejected_instance_that_becomes_valid_is_an_addition() -> None:
    world = served(10)
    world.put(make(50, **REJECTED))
    world.look()
    world.put(make(50))
    world.look()
    assert world.left == (11, 11)


# Doubts


@pytest.mark.parametrize(
    ("change", "answer"),
    [({"port": 1}, False), ({"tags": ("a",)}, False), (REJECTED, False), (CRITICAL, True), (NODE_CRITICAL, True),
     ({"weight": 0}, True)],
)  # fmt: skip
def test_a_snapshot_is_doubtful_when_it_removes_something(change: dict[str, object], answer: bool) -> None:
    world = served(3)
    assert not world.doubts(world.snapshot("web"))
    world.change(world.listed()[:1], **change)
    assert world.doubts(world.snapshot("web")) is answer


def test_a_snapshot_that_speaks_of_what_waits_is_doubtful() -> None:
    world = served(3)
    assert world.doubts(Snapshot("web"))
    assert not world.doubts(Snapshot("other"))
    one = world.truth[world.listed()[0]]
    world.remove([one.key])
    world.look()
    world.put(one)
    assert world.reasons() == {GRACE: 1}
    assert doubts(world.belief.view(), world.snapshot("web"), world.belief.carries)


# Restarts


@pytest.mark.parametrize("killed", [False, True])
def test_a_hold_goes_on_after_a_restart(tmp_path: Path, killed: bool) -> None:
    world = served(60)
    world.remove(world.listed()[:24])
    world.look()
    world.passes(2)
    before = (world.believed(), world.reasons(), world.left, world.baseline)
    world.wait(30)
    checkpoint = Checkpoint.open(tmp_path / "state.db")
    world.restart(checkpoint, 3.0, killed=killed)
    checkpoint.close()
    assert (world.believed(), world.reasons(), world.left, world.baseline) == before
    assert {row.proofs for row in world.belief.held()} == {2}
    world.wait(30)
    world.whole_pass()
    assert world.reasons() == ({HOLD: 24} if killed else {})
    world.wait(30)
    world.whole_pass()
    assert (world.reasons(), world.baseline) == ({}, (36, 36))


def test_an_epoch_grows_no_older_and_no_younger_by_a_restart(tmp_path: Path) -> None:
    world = served(60)
    world.begin_epoch()
    world.remove(world.listed()[:1])
    world.look()
    world.passes(5)
    checkpoint = Checkpoint.open(tmp_path / "state.db")
    world.restart(checkpoint, 1_000_000.0)
    checkpoint.close()
    world.passes(4)
    assert world.reasons() == {HOLD: 1}
    world.passes(1)
    assert world.reasons() == {}


def test_what_waited_before_a_restart_is_judged_by_the_first_pass_after_it(tmp_path: Path) -> None:
    world = served(60)
    world.passes(5)
    world.remove(world.listed()[:24])
    world.look()
    checkpoint = Checkpoint.open(tmp_path / "state.db")
    world.restart(checkpoint, 0.0)
    checkpoint.close()
    assert world.reasons() == {LOOK: 24}
    world.whole_pass()
    assert world.reasons() == {HOLD: 24}


def test_other_rules_let_go_nothing_that_waits() -> None:
    world = served(40)
    world.change(world.listed()[:25], **CRITICAL)
    world.look()
    assert world.reasons() == {PANIC: 25}
    rules = Rules(rules=(Rule(number=0, match=Match(service="other"), skip=True),), domain="mesh.internal")
    belief = world.belief
    remembered = Remembered(belief.observed(), tuple(belief.waiting.values()), belief.standing, "before")
    world.belief = Belief("dc1", rules, remembered, "after", world.now)
    assert (world.left, world.baseline) == ((40, 15), (40, 40))
    world.whole_pass()
    assert world.reasons() == {PANIC: 25}


def test_other_rules_set_what_is_in_service_anew() -> None:
    world = served(40)
    rules = Rules(rules=(Rule(number=0, match=Match(service="web"), skip=True),), domain="mesh.internal")
    belief = world.belief
    remembered = Remembered(belief.observed(), (), belief.standing, "before")
    after = Belief("dc1", rules, remembered, "after", world.now).standing
    assert (after.left, after.baseline) == ((40, 0), (40, 0))
    same = Belief("dc1", rules, remembered, "before", world.now).standing
    assert same.baseline == (40, 40)


def test_forgetting_drops_the_instance_and_its_row() -> None:
    world = served(4)
    one: Instance = world.truth[world.listed()[0]]
    world.remove([one.key])
    world.look()
    (observed,) = world.belief.forget([one.key])
    assert (one.key in [i.key for i in observed.instances], world.reasons()) == (False, {})
    assert world.belief.count() == world.left
