"""How a lane writes: what goes at the same time, what waits for what, what is told and remembered of it."""

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import proposal
from agent.clusters import Outcome
from agent.plan import Action, Change
from agent.rules import Match, Rule
from agent.translate import translate
from state.checkpoint import Checkpoint
from state.errors import ClusterError, Fault
from state.model import SERVICE_ENTRY, WORKLOAD_ENTRY, Instance
from tests.core import HOST, instance
from tests.unit.world import LIMITS, REGISTRY, MemoryCluster, World, orders

IN_FLIGHT = 8


class Crowd(MemoryCluster):
    """Counts the writes that are in it, and how many ever were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.tried: list[Change] = []
        self.inside = self.most = 0
        self._door = threading.Lock()

    def write(self, changes: Sequence[Change]) -> list[Outcome]:
        with self._door:
            self.tried += changes
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            return super().write(changes)
        finally:
            with self._door:
                self.inside -= 1


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.cluster = Crowd()
    return world


def crowd(world: World) -> Crowd:
    assert isinstance(world.cluster, Crowd)
    return world.cluster


def is_create(change: Change) -> bool:
    return change.action is Action.CREATE


def services(count: int) -> tuple[Instance, ...]:
    return tuple(instance(f"s{n}", service=f"s{n}", address=f"10.1.{n // 200}.{n % 200 + 1}") for n in range(count))


# What goes at the same time


def test_the_endpoints_of_a_host_go_eight_at_a_time_and_then_its_service_entry(world: World) -> None:
    with world.run():
        world.settle()
        world.cluster.writable.clear()
        world.tell(*orders(*range(1, 31)))
        world.eventually(lambda: crowd(world).inside == IN_FLIGHT)
        assert world.lane.report().planned == 31
        world.cluster.writable.set()
        world.settle()
    assert crowd(world).most == IN_FLIGHT
    assert [key.kind for _, key in world.cluster.writes] == [WORKLOAD_ENTRY] * 30 + [SERVICE_ENTRY]


def test_a_change_is_written_at_once_and_those_that_follow_meanwhile_as_one(world: World) -> None:
    with world.run():
        world.hear(*orders(1))
        world.cluster.take_writes()
        world.cluster.writable.clear()
        world.tell(*orders(1, version="v1"))
        world.eventually(lambda: crowd(world).inside == 1)
        for version in ("v2", "v3", "v4"):
            world.tell(*orders(1, version=version))
        world.cluster.writable.set()
        world.settle()
        assert [action for action, _ in world.cluster.take_writes()] == ["~", "~"]
    (held,) = [held for held in world.cluster.objects.values() if held.key.kind == WORKLOAD_ENTRY]
    assert held.labels["service.istio.io/canonical-revision"] == "v4"


def test_what_waits_for_its_turn_is_planned_no_earlier_than_it_can_be_written(world: World) -> None:
    with world.run():
        world.settle()
        world.cluster.writable.clear()
        world.tell(*services(200))
        world.eventually(lambda: crowd(world).inside == IN_FLIGHT)
        world.tell(*(replace(one, version="v2") for one in services(200)))
        world.cluster.writable.set()
        world.settle()
    assert "-" not in [action for action, _ in world.cluster.writes]
    updates = [action for action, _ in world.cluster.writes].count("~")
    assert len(world.cluster.writes) - updates == 400
    assert updates < 60, "those that had begun"


# What waits for what


@pytest.mark.parametrize("fault", [Fault.OBJECT, Fault.CONFLICT, Fault.CLUSTER])
def test_a_port_that_cannot_be_made_yet_keeps_the_old_one(world: World, fault: Fault) -> None:
    world.limits = replace(LIMITS, empty_grace=60.0, backoff=(0.05,))
    with world.run():
        world.hear(*orders(1, 2))
        world.cluster.take_writes()
        for _ in range(3):
            world.cluster.refusals.append((is_create, ClusterError(fault, "not now")))
        world.tell(*orders(1), *orders(2, port=9090))
        world.eventually(lambda: world.lane.report().pending == 0)
        assert [action for action, _ in world.cluster.take_writes()] == ["+", "-"]
        assert world.lane.report().failed == {fault: 3}


def test_a_port_that_is_rejected_takes_no_dead_endpoint_along(world: World) -> None:
    world.limits = replace(LIMITS, empty_grace=60.0)
    with world.run():
        world.hear(*orders(1, 2))
        world.cluster.refusals.append((is_create, ClusterError(Fault.REJECTED, "no such port")))
        world.hear(*orders(1), *orders(2, port=9090))
        world.eventually(lambda: world.cluster.addresses() == {"10.0.0.1"})


def test_an_old_port_does_not_wait_for_ever_for_one_that_fails_again_and_again(world: World) -> None:
    world.limits = replace(LIMITS, backoff=(0.02,))
    with world.run():
        world.hear(*orders(1, 2))
        for _ in range(2000):
            world.cluster.refusals.append((is_create, ClusterError(Fault.OBJECT, "quota")))
        world.tell(*orders(1), *orders(2, port=9090))  # grace is 0 here
        world.eventually(lambda: world.cluster.addresses() == {"10.0.0.1"})


def test_a_cluster_that_fails_is_tried_with_no_more_than_what_was_in_flight(world: World) -> None:
    world.limits = replace(LIMITS, backoff=(60.0,))
    error = ClusterError(Fault.CLUSTER, "down")
    with world.run():
        world.settle()
        world.cluster.refusals += [(is_create, error)] * 200
        world.cluster.writable.clear()
        world.tell(*services(100))
        world.eventually(lambda: crowd(world).inside == IN_FLIGHT)
        world.cluster.writable.set()
        world.settle()
        assert len(crowd(world).tried) <= 2 * IN_FLIGHT
        report = world.lane.report()
        assert (report.pending, report.error, report.writes) == (100, "down", 0)


def test_stopping_writes_no_more_than_what_is_in_flight(world: World) -> None:
    with world.run():
        world.settle()
        world.cluster.writable.clear()
        world.tell(*orders(*range(1, 41)))
        world.eventually(lambda: crowd(world).inside == IN_FLIGHT)
        opener = threading.Timer(0.1, world.cluster.writable.set)
        opener.start()
        world.lane.stop()
        opener.join()
    assert len(world.cluster.writes) == IN_FLIGHT
    with world.run():
        world.hear(*orders(*range(1, 41)))
    assert len(world.cluster.writes) == 41, "what was written is known"


# What is told and remembered


def test_each_write_that_ends_is_told_once_with_who_led_to_it(world: World) -> None:
    with world.run():
        world.cluster.refusals.append((is_create, ClusterError(Fault.OBJECT, "not now")))
        world.hear(*orders(1, 2))
        world.eventually(lambda: world.lane.report().pending == 0)
        first = world.take_told()
        assert sorted(str(one.action) for one in first if one.fault is None) == ["+", "+", "+"]
        assert [one.fault for one in first if one.fault] == [Fault.OBJECT]
        assert {(one.cluster, one.registry) for one in first} == {("east", REGISTRY)}
        assert all(one.lag >= 0 for one in first)
        held = next(held for held in world.cluster.objects.values() if held.key.kind == WORKLOAD_ENTRY)
        world.cluster.show(held.key, replace(held, spec_digest="", generation=held.generation + 1))
        world.settle()
        (repair,) = world.take_told()
        assert (repair.registry, repair.action, repair.key) == ("", Action.UPDATE, held.key)
        world.hear(*orders(2))
        (gone,) = world.take_told()
        assert (gone.registry, str(gone.action)) == (REGISTRY, "-")
        report = world.lane.report()
        assert report.taken == {Action.CREATE: 3, Action.UPDATE: 1, Action.DELETE: 1}
        assert (report.writes, report.failed) == (5, {Fault.OBJECT: 1})


def test_what_comes_at_a_time_is_stored_in_few_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    inner = Checkpoint.apply

    def apply(checkpoint: Checkpoint, cluster: str, applied: Collection[Any], *rest: Iterable[Any]) -> None:
        steps.append(len(applied))
        inner(checkpoint, cluster, applied, *rest)

    monkeypatch.setattr(Checkpoint, "apply", apply)
    with world.run():
        world.hear(*orders(*range(1, 201)))
        assert sum(steps) == 201
        assert len(steps) <= 40
        assert len(world.checkpoint.applied("east")) == 201
        del steps[:]
        world.hear(*orders(*range(1, 201)), *orders(201))
        assert steps == [1], "a single change is stored at once"


def test_what_vanished_while_nobody_looked_and_is_not_wanted_is_forgotten(world: World) -> None:
    with world.run():
        world.hear(*orders(1), *services(1))
    for key in [key for key in world.cluster.objects if key.name.startswith("s0")]:
        del world.cluster.objects[key]
    world.configuration, world.rules = "another", (Rule(number=0, match=Match(service="s0"), skip=True),)
    world.cluster.take_writes()
    with world.run():
        world.settle()
        world.hear(*orders(1), *services(1))
        assert len(world.checkpoint.applied("east")) == 2
    assert world.cluster.take_writes() == []


# Mistakes of our own


def test_a_host_that_cannot_be_planned_stops_no_other_and_is_planned_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [True]

    def breaking(host: Any, **fields: str) -> object:
        if broken and host.key.host == HOST:
            raise RuntimeError("a mistake")
        return translate(host, **fields)

    monkeypatch.setattr(proposal, "translate", breaking)
    monkeypatch.setattr(proposal, "RECHECK", 0.05)
    with world.run():
        world.hear(*orders(1), *services(3))
        assert len(world.cluster.addresses()) == 3
        assert "a mistake" in str(world.lane.report().troubles)
        assert world.checkpoint.carried("east") is None
        broken.clear()
        world.eventually(lambda: "10.0.0.1" in world.cluster.addresses())
        world.eventually(lambda: world.lane.report().troubles == () and world.checkpoint.carried("east") is not None)


def test_a_lane_that_is_at_one_step_for_too_long_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, released = threading.Event(), threading.Event()
    with world.run():
        world.settle()
        inner: Callable[..., list[Change]] = world.lane.proposer.propose

        def propose(*arguments: Any) -> list[Change]:
            reached.set()
            assert released.wait(10)
            return inner(*arguments)

        monkeypatch.setattr(world.lane.proposer, "propose", propose)
        world.tell(*orders(1))
        assert reached.wait(10)
        deadline, began = world.limits.deadline, world.lane._step[1]
        assert world.lane.stuck(began + deadline - 1) == ""
        assert world.lane.stuck(began + deadline + 5) == f"cluster east: planning legacy/{HOST}, for 65 s"
        released.set()
        world.settle()
        world.eventually(lambda: world.lane.stuck(began + 10 * deadline) == "")
