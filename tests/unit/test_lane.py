"""One lane on a cluster in memory: what it writes, in which order, and what it leaves alone."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agent.hosts import Place
from agent.inbox import News
from agent.plan import Action, Change
from agent.rules import Match, Rule
from agent.translate import translate
from state.checkpoint import Checkpoint
from state.errors import ClusterError, Fault
from state.model import (
    HOST_LABEL,
    MANAGED_BY,
    OWNER_LABEL,
    PRODUCT,
    SERVICE_ENTRY,
    WORKLOAD_ENTRY,
    Absence,
    Held,
    Instance,
    Resource,
    ResourceKey,
)
from tests.core import HOST, instance
from tests.unit.world import World, orders

ENTRY = ResourceKey(SERVICE_ENTRY, "legacy", HOST)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def workload(world: World, address: str) -> Held:
    return next(held for held in world.cluster.objects.values() if held.endpoint and held.endpoint[0] == address)


def is_create(change: Change) -> bool:
    return change.action is Action.CREATE


# Writes


def test_a_new_host_is_its_endpoints_and_then_its_service_entry(world: World) -> None:
    with world.run():
        world.hear(*orders(1, 2))
        writes = world.cluster.take_writes()
    assert [action for action, _ in writes] == ["+", "+", "+"]
    assert writes[-1] == ("+", f"ServiceEntry {HOST}")


def test_a_changed_instance_costs_one_write_and_nothing_costs_none(world: World) -> None:
    with world.run():
        world.hear(*orders(1, 2, 3))
        world.cluster.take_writes()
        world.hear(*orders(1, 2, 3))
        assert world.cluster.take_writes() == []
        world.hear(*orders(1, 2), *orders(3, absent_because=Absence.CRITICAL))
        assert [action for action, _ in world.cluster.take_writes()] == ["-"]
        world.hear(*orders(1, 2, 3))
        assert [action for action, _ in world.cluster.take_writes()] == ["+"]
        world.hear(*orders(1, 2), *orders(3, version="v2"))
        assert [action for action, _ in world.cluster.take_writes()] == ["~"]


def test_a_moved_port_is_made_before_the_old_one_is_broken(world: World) -> None:
    with world.run():
        world.hear(*orders(1))
        world.cluster.take_writes()
        world.hear(*orders(1, port=9090))
        assert [action for action, _ in world.cluster.take_writes()] == ["+", "-"]


def test_instances_that_swap_addresses_are_never_deleted(world: World) -> None:
    one, two = orders(1, 2)
    with world.run():
        world.hear(one, two)
        world.cluster.take_writes()
        world.hear(replace(one, address=two.address), replace(two, address=one.address))
        assert [action for action, _ in world.cluster.take_writes()] == ["~", "~"]


def test_an_endpoint_registered_twice_stays_when_one_of_the_two_vanishes(world: World) -> None:
    one = orders(1)[0]
    twin = instance("orders-1", node="node-9", address=one.address, port=one.port)
    with world.run():
        world.hear(one, twin, *orders(2))
        world.cluster.take_writes()
        world.hear(twin, *orders(2))
        assert [action for action, _ in world.cluster.take_writes()] == ["~"]


def test_a_restart_with_nothing_changed_writes_nothing(world: World) -> None:
    with world.run():
        world.hear(*orders(1, 2))
    world.cluster.take_writes()
    with world.run():
        world.settle()
        world.hear(*orders(1, 2))
    assert world.cluster.take_writes() == []


# Failures


def test_what_failed_is_tried_again_and_then_no_error_is_left(world: World) -> None:
    world.cluster.refusals.append((is_create, ClusterError(Fault.OBJECT, "not now")))
    with world.run():
        world.hear(*orders(1, 2))
        world.eventually(lambda: world.lane.report().pending == 0 and world.lane.report().error == "")
        assert world.lane.report().parked == ()
    assert world.cluster.addresses() == {"10.0.0.1", "10.0.0.2"}


def test_a_conflict_that_needs_no_write_after_all_leaves_no_error(world: World) -> None:
    with world.run():
        world.hear(*orders(1))
        key = workload(world, "10.0.0.1").key
        # Another of us has written the very same meanwhile: our picture lacks it.
        world.lane.see_one(key, None)
        world.settle()
        assert world.lane.report().error == ""
    assert [action for action, _ in world.cluster.take_writes()] == ["+", "+"]


def test_what_is_rejected_is_left_until_something_else_is_desired(world: World) -> None:
    world.cluster.refusals.append((is_create, ClusterError(Fault.REJECTED, "no such zone")))
    with world.run():
        world.hear(*orders(1))
        assert "no such zone" in world.lane.report().parked[0][1]
        world.hear(*orders(1))
        assert world.cluster.addresses() == set()
        world.hear(*orders(1, version="v2"))
        assert world.cluster.addresses() == {"10.0.0.1"}
        assert world.lane.report().parked == ()


def test_an_object_of_the_same_name_that_is_not_ours_is_left_alone_and_reported(world: World) -> None:
    foreign = Held(key=ENTRY, uid="theirs", resource_version="7", labels={}, annotations={})
    world.cluster.put(foreign)
    with world.run():
        world.hear(*orders(1))
        report = world.lane.report()
    assert world.cluster.objects[ENTRY].uid == "theirs"
    assert world.cluster.addresses() == {"10.0.0.1"}
    assert "left alone" in report.parked[0][1]


def test_a_look_that_breaks_leaves_no_place_busy_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(key: ResourceKey) -> Held | None:
        raise RuntimeError(key)

    monkeypatch.setattr(world.cluster, "look", look)
    world.cluster.refusals.append((is_create, ClusterError(Fault.CONFLICT, "somebody was faster")))
    with world.run():
        world.hear(*orders(1))
        world.eventually(lambda: world.cluster.addresses() == {"10.0.0.1"})


def test_a_cluster_that_cannot_be_read_settles_and_then_gets_everything(world: World) -> None:
    world.cluster.unreadable.append(ClusterError(Fault.CLUSTER, "down"))
    world.limits = replace(world.limits, backoff=(0.3,))
    with world.run():
        world.settle()
        assert world.lane.report().error == "down"
        world.hear(*orders(1))
        world.eventually(lambda: world.cluster.addresses() == {"10.0.0.1"})


def test_a_lane_is_not_settled_before_what_it_read_late_was_planned(world: World) -> None:
    instances = [instance(f"s{n}", service=f"s{n}", address=f"10.1.{n // 200}.{n % 200 + 1}") for n in range(400)]
    world.cluster.readable.clear()
    with world.run():
        world.tell(*instances)
        world.cluster.readable.set()
        world.settle()
        assert len(world.cluster.addresses()) == 400


def test_stopping_waits_for_writes_in_flight_without_spinning(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    with world.run():
        world.settle()
        world.cluster.writable.clear()
        begun = world.cluster.begun
        world.tell(*orders(1))
        # What is only planned is not in flight yet: it would not be begun any more.
        world.eventually(lambda: world.lane.report().planned > 0 and world.cluster.begun > begun)
        inner = world.lane._inbox.take_news

        def take_news() -> News:
            turns.append(1)
            return inner()

        monkeypatch.setattr(world.lane._inbox, "take_news", take_news)
        waker = threading.Timer(0.1, world.cluster.writable.set)
        waker.start()
        world.lane.stop()
        waker.join()
    assert world.cluster.addresses() == {"10.0.0.1"}
    assert len(turns) < 5


# Drift


def test_drift_is_repaired_three_times_and_then_somebody_fights(world: World) -> None:
    with world.run():
        world.hear(*orders(1))
        for _ in range(3):
            held = workload(world, "10.0.0.1")
            world.cluster.show(held.key, replace(held, spec_digest="", generation=held.generation + 1))
            world.settle()
            assert workload(world, "10.0.0.1").spec_digest
        held = workload(world, "10.0.0.1")
        world.cluster.show(held.key, replace(held, spec_digest="", generation=held.generation + 1))
        world.settle()
        world.eventually(lambda: "kubectl" in str(world.lane.report().parked))
        assert not workload(world, "10.0.0.1").spec_digest
        assert world.lane.report().repairs == 3
        world.cluster.show(held.key, held)  # whoever fought gives up
        world.settle()
        assert world.lane.report().parked == ()


def test_a_deleted_object_comes_back(world: World) -> None:
    with world.run():
        world.hear(*orders(1))
        world.cluster.show(workload(world, "10.0.0.1").key, None)
        world.settle()
        assert world.cluster.addresses() == {"10.0.0.1"}


@pytest.mark.parametrize("label", [MANAGED_BY, HOST_LABEL, OWNER_LABEL])
def test_an_object_whose_label_was_changed_is_put_right(world: World, label: str) -> None:
    with world.run():
        world.hear(*orders(1), instance("web-1", service="web", address="10.0.0.9"))
        right = workload(world, "10.0.0.1")
        labels = {**right.labels, label: "web.mesh.internal"}
        if label == MANAGED_BY:  # a watch on that label says that it is gone
            world.cluster.put(replace(right, labels=labels))
            world.lane.see_one(right.key, None)
        else:
            world.cluster.show(right.key, replace(right, labels=labels))
        world.eventually(lambda: workload(world, "10.0.0.1").labels == right.labels)
    assert workload(world, "10.0.0.1").uid == right.uid
    assert "-" not in [action for action, _ in world.cluster.take_writes()]


def test_a_host_label_changed_while_nobody_looked_deletes_nothing(world: World) -> None:
    web = instance("web-1", service="aaa", address="10.0.0.9")
    with world.run():
        world.hear(*orders(1), web)
    world.cluster.take_writes()
    right = workload(world, "10.0.0.1")
    for name in ("aaa", "zzz", "orders-not"):
        labels = {**right.labels, HOST_LABEL: f"{name}.mesh.internal"}
        world.cluster.put(replace(right, labels=labels))
        with world.run():
            world.settle()
            world.hear(*orders(1), web)
        assert world.cluster.take_writes() == [("~", f"{WORKLOAD_ENTRY} {right.key.name}")]


def test_an_object_whose_label_was_changed_still_goes_when_it_is_not_desired_any_more(world: World) -> None:
    web = many(*range(1, 4))
    with world.run():
        world.hear(*web, *orders(1, 2))
        right = workload(world, "10.0.0.1")
        with world.view.lock:  # the lane hears of both at once, and plans the other host first
            world.cluster.show(right.key, replace(right, labels={**right.labels, HOST_LABEL: "s1.mesh.internal"}))
            world.tell(*web, *orders(2))
        world.settle()
        world.eventually(lambda: "10.0.0.1" not in world.cluster.addresses())


def test_what_somebody_deletes_while_we_create_it_comes_back(world: World) -> None:
    with world.run():
        world.hear(*orders(1))
        proposer, right = world.lane.proposer, workload(world, "10.0.0.1")
        resource = next(r for r in _desired(world) if r.key == right.key)
        proposer.deliver(right.key, None)  # told before our own create is acknowledged
        proposer.acknowledge(Change(Action.CREATE, right.key, resource, None, ""), right, 0.0)
        assert right.key not in proposer.mirror.objects


def _desired(world: World) -> tuple[Resource, ...]:
    host = world.view.host(Place("legacy", HOST), "legacy")
    assert host
    return translate(host, owner="dc1", cluster="east", namespace="legacy").resources


def test_what_another_owner_holds_is_left_alone_until_it_goes(world: World) -> None:
    with world.run():
        world.hear(*orders(1))
    entry = workload(world, "10.0.0.1")
    theirs = replace(entry, uid="theirs", labels={**entry.labels, OWNER_LABEL: "dc2"})
    world.cluster.put(theirs)
    world.cluster.take_writes()
    with world.run():
        world.settle()
        world.hear(*orders(1))
        assert world.cluster.take_writes() == []
        world.cluster.show(theirs.key, None)
        world.settle()
        assert workload(world, "10.0.0.1").owner == "dc1"


def test_a_label_that_was_ours_goes_also_after_a_loss_of_the_state_file(world: World) -> None:
    with world.run():
        world.hear(*orders(1, version="v1"))
    world.lose_state()
    with world.run():
        world.settle()
        world.hear(*orders(1, version="v1"))
        world.hear(*orders(1))
    assert "service.istio.io/canonical-revision" not in workload(world, "10.0.0.1").labels
    assert workload(world, "10.0.0.1").labels[MANAGED_BY] == PRODUCT


# Policies


def test_upsert_only_deletes_nothing(world: World) -> None:
    world.policy = "upsert-only"
    with world.run():
        world.hear(*orders(1, 2))
        world.hear(*orders(1, port=9090), *orders(2, absent_because=Absence.CRITICAL))
    assert "-" not in [action for action, _ in world.cluster.take_writes()]
    assert world.cluster.addresses() == {"10.0.0.1", "10.0.0.2"}


def test_a_paused_cluster_is_written_nothing_and_says_what_waits(world: World) -> None:
    world.policy = "paused"
    with world.run():
        world.hear(*orders(1, 2))
        assert world.lane.report().pending == 3
    assert world.cluster.take_writes() == []


# Own mistakes


def many(*numbers: int) -> tuple[Instance, ...]:
    return tuple(instance(f"s{n}", service=f"s{n}", address=f"10.0.1.{n}") for n in numbers)


def misconfigure(world: World) -> None:
    """Let a rule leave out services that a registry lists."""
    world.configuration, world.rules = "another", (Rule(number=0, match=Match(service="s*"), skip=True),)


def test_a_configuration_that_would_delete_much_that_is_listed_is_held_until_accepted(world: World) -> None:
    with world.run():
        world.hear(*many(*range(1, 21)), *orders(1))
    misconfigure(world)
    for _ in range(2):  # also after a restart
        with world.run():
            world.settle()
            world.hear(*many(*range(1, 21)), *orders(1, 2))
            assert len(world.lane.report().withheld) == 20
            assert len(world.cluster.addresses()) == 22
    with world.run():
        world.settle()
        world.hear(*many(*range(1, 21)), *orders(1, 2))
        assert world.lane.accept() == 20
        world.settle()
        assert world.cluster.addresses() == {"10.0.0.1", "10.0.0.2"}


def test_a_configuration_that_deletes_little_is_carried_out(world: World) -> None:
    with world.run():
        world.hear(*many(*range(1, 10)), *orders(1))
    misconfigure(world)
    with world.run():
        world.settle()
        world.hear(*many(*range(1, 10)), *orders(1))
        assert world.cluster.addresses() == {"10.0.0.1"}


def test_deletions_stay_held_when_the_state_was_lost_and_then_the_agent_was_killed(world: World) -> None:
    with world.run():
        world.hear(*many(*range(1, 21)), *orders(1))
    world.lose_state()
    misconfigure(world)
    for _ in range(2):
        with world.run():
            world.settle()
            world.hear(*many(*range(1, 21)), *orders(1))
            assert len(world.lane.report().withheld) == 20
    assert len(world.cluster.addresses()) == 21


# A lost state file


def test_what_a_cluster_holds_and_no_registry_lists_is_held_after_a_loss(world: World) -> None:
    with world.run():
        world.hear(*orders(1, 2, 3))
    world.cluster.take_writes()
    world.lose_state()
    with world.run():
        world.settle()
        world.hear(*orders(1, 2))
        assert world.cluster.take_writes() == []
        assert len(world.view.beliefs["dc1"].held()) == 1
        assert world.cluster.addresses() == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_nothing_is_deleted_before_its_registry_had_a_pass(world: World) -> None:
    with world.run():
        world.hear(*orders(1, 2))
    world.cluster.put(replace(workload(world, "10.0.0.2"), annotations={}))
    world.rules = (Rule(number=0, match=Match(service="orders"), host="shop.mesh.internal"),)
    with world.run():
        world.settle()
        assert "-" not in [action for action, _ in world.cluster.take_writes()]


# ServiceEntries


def test_a_service_entry_lingers_after_its_last_endpoint_and_over_restarts(world: World) -> None:
    with world.run():
        world.hear(*orders(1))
        world.hear(*orders(1, absent_because=Absence.CRITICAL))
        assert (world.cluster.addresses(), ENTRY in world.cluster.objects) == (set(), True)
        world.hear()
    assert ENTRY in world.cluster.objects


def test_a_service_entry_that_nobody_needs_goes_when_its_time_is_over(world: World) -> None:
    world.limits = replace(world.limits, service_entry_grace=0.2)
    with world.run():
        world.hear(*many(*range(1, 4)), *orders(1))
        world.hear(*many(*range(1, 4)))
        assert ENTRY in world.cluster.objects
        world.eventually(lambda: ENTRY not in world.cluster.objects)


def test_a_service_entry_that_was_needed_again_begins_to_linger_anew(world: World) -> None:
    world.limits = replace(world.limits, service_entry_grace=0.4)
    others = many(*range(1, 4))
    with world.run():
        world.hear(*others, *orders(1))
        world.hear(*others)
        threading.Event().wait(0.3)
        world.lane.store_elapsed()
        world.hear(*others, *orders(1))
    applied = Checkpoint.open(world.state)
    assert applied.applied("east")[ENTRY].unneeded is None
    applied.close()
