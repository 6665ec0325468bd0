"""A lane that an operator pauses: what it still writes, what it counts, and how it goes on."""

from pathlib import Path

import pytest

from agent.hosts import Place
from agent.pausing import Pause
from state.errors import ClusterError, Fault
from tests.unit.world import World, orders

HERE, THERE = Place("legacy", "orders"), Place("legacy", "web")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def pause(world: World, paused: bool = True) -> None:
    world.lane.pause(paused)
    world.settle()


# The word of one, or of both


def test_what_has_waited_is_planned_again_when_a_pause_ends() -> None:
    pause = Pause(False)
    assert pause.obey(True) == set()
    assert pause.stands
    pause.note(HERE, 2)
    pause.note(THERE, 0)
    assert pause.obey(True) == set()
    assert pause.waiting() == 2
    assert pause.obey(False) == {HERE}
    assert (pause.stands, pause.waiting()) == (False, 0)
    assert pause.obey(False) == set()


def test_an_operator_does_not_end_what_the_configuration_says() -> None:
    pause = Pause(True)
    pause.note(HERE, 2)
    assert pause.obey(True) == set()
    assert pause.obey(False) == set()
    assert (pause.stands, pause.waiting()) == (True, 2)


# The lane


def test_a_paused_lane_writes_nothing_and_counts_what_waits(world: World) -> None:
    with world.run():
        world.hear(*orders(1, 2))
        world.cluster.take_writes()
        pause(world)
        world.hear(*orders(2, 3))
        assert world.cluster.take_writes() == []
        report = world.lane.report()
        assert (report.paused, report.pending) == (True, 2)
        world.hear(*orders(1, 2))
        assert world.lane.report().pending == 0


def test_a_resumed_lane_writes_all_that_has_waited_and_no_more(world: World) -> None:
    with world.run():
        world.hear(*orders(1, 2))
        world.cluster.take_writes()
        pause(world)
        world.hear(*orders(2, 3))
        world.lane.pause(False)
        world.settle()
        assert [action for action, _ in world.cluster.take_writes()] == ["+", "-"]
        assert world.cluster.addresses() == {"10.0.0.2", "10.0.0.3"}
        report = world.lane.report()
        assert (report.paused, report.pending) == (False, 0)


def test_a_pause_lets_what_is_being_written_end_and_nothing_else_begin(world: World) -> None:
    with world.run():
        world.cluster.writable.clear()
        world.tell(*orders(*range(1, 21)))
        world.eventually(lambda: world.lane.report().planned > 0)
        world.lane.pause(True)
        world.cluster.writable.set()
        world.settle()
        begun = len(world.cluster.take_writes())
        assert begun <= 8  # as many as may be in flight
        assert world.lane.report().pending == 21 - begun
        pause(world, False)
        assert len(world.cluster.take_writes()) == 21 - begun


def test_what_somebody_else_changes_meanwhile_is_left_until_the_end_of_the_pause(world: World) -> None:
    with world.run():
        world.hear(*orders(1, 2))
        key = next(key for key, held in world.cluster.objects.items() if held.endpoint)
        pause(world)
        world.cluster.take_writes()
        world.cluster.show(key, None)
        world.settle()
        assert world.cluster.take_writes() == []
        assert world.lane.report().pending == 1
        pause(world, False)
        assert world.cluster.take_writes() == [("+", f"{key.kind} {key.name}")]


def test_a_pause_is_not_taken_for_a_plan_that_was_carried_out(world: World) -> None:
    with world.run():
        world.hear(*orders(1, 2))
        carried = world.checkpoint.carried("east")
    world.configuration = "another"
    with world.run():
        world.lane.pause(True)
        world.hear(*orders(2, 3))
        assert world.checkpoint.carried("east") == carried
        pause(world, False)
        assert world.checkpoint.carried("east") != carried


def test_a_lane_that_is_paused_from_the_start_reads_and_writes_nothing(world: World) -> None:
    world.paused = True
    with world.run():
        world.hear(*orders(1, 2))
        assert world.cluster.reads == 1
        assert world.cluster.take_writes() == []
        assert world.lane.report().pending == 3
        pause(world, False)
        assert len(world.cluster.take_writes()) == 3


def test_a_write_that_has_failed_is_not_tried_again_before_the_end_of_the_pause(world: World) -> None:
    with world.run():
        world.hear(*orders(1))
        world.cluster.take_writes()
        world.cluster.refusals.append((lambda _: True, ClusterError(Fault.OBJECT, "not now")))
        world.cluster.writable.clear()
        world.tell(*orders(1, 2))
        world.eventually(lambda: world.lane.report().planned > 0)
        world.lane.pause(True)
        world.cluster.writable.set()
        world.eventually(lambda: world.lane.report().planned == 0 and world.lane.report().pending == 1)
        world.settle()
        assert world.cluster.take_writes() == []
        pause(world, False)
        world.eventually(lambda: world.lane.report().pending == 0)
        assert [action for action, _ in world.cluster.take_writes()] == ["+"]
