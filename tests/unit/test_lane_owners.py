"""One lane beside another owner, on a cluster in memory: hosts that it adopts, takes over and leaves; aliases."""

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clusters.objects import claimed
from agent.hosts import Place
from agent.proposal import Proposer
from agent.rules import Match, Rule
from agent.translate import translate
from state.checkpoint import Checkpoint
from state.errors import ClusterError, Fault
from state.model import AUTHOR, INHERITED, OWNER_LABEL, SERVICE_ENTRY, WORKLOAD_ENTRY, Absence, Held, ResourceKey
from tests.core import HOST, endpoint, host, instance
from tests.unit.world import World, orders

ENTRY = ResourceKey(SERVICE_ENTRY, "legacy", HOST)
ALIAS = "orders.old.example"
ALIASED = ResourceKey(SERVICE_ENTRY, "legacy", ALIAS)
GRACE = 0.3


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.limits = replace(made.limits, service_entry_grace=GRACE)
    return made


def adopted(world: World, address: str = "10.9.9.9") -> tuple[Held, Held]:
    """Let another owner have the host, and return its WorkloadEntry and ServiceEntry."""
    made = translate(host(endpoint(address)), owner="dc2", cluster="east", namespace="legacy").resources
    workload, entry = (world.cluster.held(resource) for resource in made)
    world.cluster.objects |= {workload.key: workload, entry.key: entry}
    return workload, entry


def author(world: World) -> str:
    found = world.cluster.objects.get(ENTRY)
    return found.owner if found else ""


def names(world: World) -> set[str]:
    return {key.name for key in world.cluster.objects if key.kind == SERVICE_ENTRY}


# Owners


def test_an_adopted_host_is_not_written_while_its_author_has_an_endpoint(world: World) -> None:
    adopted(world)
    with world.run():
        world.hear(*orders(1))
        assert [action for action, _ in world.cluster.take_writes()] == ["+"]
        # Of two counts that began at once, the shorter one is over: the other would be as well.
        world.hear(*orders(1), instance("other-1", service="other", address="10.3.3.3"))
        world.hear(*orders(1))
        world.eventually(lambda: "other.mesh.internal" not in names(world))
        assert author(world) == "dc2"


def test_a_host_that_its_author_has_left_is_taken_over_in_time_and_once(world: World) -> None:
    workload, _ = adopted(world)
    with world.run():
        world.hear(*orders(1))
        world.cluster.show(workload.key, None)
        world.eventually(lambda: author(world) == "dc1")
        world.settle()
        assert [action for action, _ in world.cluster.take_writes()] == ["+", "~"]
        world.hear(*orders(1))
        assert world.cluster.take_writes() == []
    with world.run():
        world.hear(*orders(1))
        assert world.cluster.take_writes() == [], "nor after a restart"


def test_an_author_that_comes_back_in_time_keeps_its_host(world: World) -> None:
    world.limits = replace(world.limits, service_entry_grace=900.0)
    workload, _ = adopted(world)
    with world.run():
        world.hear(*orders(1))
        world.cluster.show(workload.key, None)
        world.settle()
        world.lane.store_elapsed()
        assert [row.author for row in world.checkpoint.forsaken("east")] == ["dc2"]
        world.cluster.show(workload.key, workload)
        world.settle()
        world.eventually(lambda: world.checkpoint.forsaken("east") == [])


def test_what_was_counted_goes_on_after_a_restart(world: World) -> None:
    world.limits = replace(world.limits, service_entry_grace=900.0)
    workload, entry = adopted(world)
    del world.cluster.objects[workload.key]
    with world.run():
        world.hear(*orders(1))
    checkpoint = Checkpoint.open(world.state)
    checkpoint.set_forsaken("east", [])
    checkpoint.close()
    with world.run():
        world.hear(*orders(1))
        world.lane.store_elapsed()
        (row,) = world.checkpoint.forsaken("east")
        assert (row.key, row.uid, row.author) == (ENTRY, entry.uid, "dc2")
        world.checkpoint.set_forsaken("east", [row._replace(seconds=899.9)])
    with world.run():
        world.eventually(lambda: author(world) == "dc1")


def test_nothing_is_taken_over_while_the_cluster_is_not_seen(world: World) -> None:
    workload, _ = adopted(world)
    with world.run():
        world.hear(*orders(1))
        seen = world.lane.proposer.authors.seen
        world.cluster.readable.clear()
        world.lane.see_nothing("it does not answer")
        assert not seen.sees
        del world.cluster.objects[workload.key]
        world.lane.see_one(workload.key, None)
        world.settle()
        assert author(world) == "dc2"
        world.cluster.readable.set()
        world.cluster.relist()
        world.eventually(lambda: author(world) == "dc1")


def test_two_heirs_are_parted_by_the_version_and_the_later_one_adopts(world: World) -> None:
    workload, entry = adopted(world)
    del world.cluster.objects[workload.key]
    with world.run():
        world.hear(*orders(1))
        heir = replace(entry, annotations={AUTHOR: "dc3"})
        world.cluster.put(heir)  # the watch has not told yet
        world.eventually(lambda: world.lane.report().failed.get(Fault.CONFLICT, 0) == 1)
        world.settle()
        assert author(world) == "dc3"


def test_an_heir_keeps_the_number_that_no_rule_of_its_own_states(world: World) -> None:
    workload, entry = adopted(world)
    del world.cluster.objects[workload.key]
    with world.run():
        world.hear(*orders(1, service_port=9443, service_port_from="metadata port"))
        world.eventually(lambda: author(world) == "dc1")
        assert world.cluster.objects[ENTRY].spec == entry.spec
        assert '"number":80' in world.cluster.objects[ENTRY].annotations[INHERITED]
        assert world.lane.report().troubles == ()


def test_a_spec_that_a_watch_does_not_show_is_looked_at_before_anything_is_said_of_it(world: World) -> None:
    world.rules = (Rule(number=0, match=Match(service="orders"), port=7000),)
    _, entry = adopted(world)
    with world.run():
        world.hear(*orders(1))
        assert "its number is 80, not 7000" in world.lane.report().troubles[0]
        moved = replace(entry, spec=entry.spec.replace('"number":80', '"number":7000'), generation=99)
        world.cluster.objects[ENTRY] = replace(moved, resource_version="5000")
        world.lane.see_one(ENTRY, replace(moved, resource_version="5000", spec="", spec_digest=""))
        world.eventually(lambda: world.lane.report().troubles == ())


def test_an_author_that_somebody_has_struck_out_is_put_back(world: World) -> None:
    with world.run():
        world.hear(*orders(1))
        held = world.cluster.objects[ENTRY]
        world.cluster.show(ENTRY, replace(held, annotations={}))
        world.eventually(lambda: author(world) == "dc1")
        world.settle()
        assert world.cluster.objects[ENTRY].uid == held.uid


def test_what_another_owner_has_taken_over_is_its_own_also_for_an_agent_that_comes_back(world: World) -> None:
    with world.run():
        world.hear(*orders(1, 2))
        world.cluster.take_writes()
    for held in [one for one in world.cluster.objects.values() if one.key.kind == WORKLOAD_ENTRY]:
        heir = claimed(held, {"address": "10.0.0.1"}, "dc2")
        labels, annotations = {**held.labels, **heir.labels}, {**held.annotations, **heir.annotations}
        world.cluster.put(replace(held, labels=labels, annotations=annotations))
    with world.run():
        world.hear(*orders(1))
        assert world.cluster.take_writes() == []
        assert world.cluster.addresses() == {"10.0.0.1", "10.0.0.2"}


def test_an_owner_that_somebody_has_struck_out_or_replaced_is_put_back(world: World) -> None:
    with world.run():
        world.hear(*orders(1))
        held = next(one for one in world.cluster.objects.values() if one.key.kind == WORKLOAD_ENTRY)
        for owner in ("", "dc2"):
            now = world.cluster.objects[held.key]
            world.cluster.show(held.key, replace(now, labels={**now.labels, OWNER_LABEL: owner}))
            world.eventually(lambda: world.cluster.objects[held.key].owner == "dc1")


def test_one_that_was_deleted_by_somebody_and_comes_again_lingers_for_the_whole_time(world: World) -> None:
    world.limits = replace(world.limits, service_entry_grace=900.0)
    ballast = [instance(f"b-{n}", service="ballast", node=f"b-{n}", address=f"10.3.3.{n}") for n in range(1, 4)]
    with world.run():
        world.hear(*ballast, *orders(1))
        world.hear(*ballast)
        authors = world.lane.proposer.authors
        begun = time.monotonic()
        assert authors.may_delete(ENTRY, begun + 901.0)
        world.cluster.show(ENTRY, None)
        world.hear(*ballast, *orders(1, absent_because=Absence.CRITICAL))
        assert HOST in names(world)
        assert not authors.may_delete(ENTRY, begun + 901.0)


# Aliases


def aliased(world: World, *aliases: str) -> None:
    world.rules = (Rule(number=0, match=Match(service="orders"), aliases=aliases or (ALIAS,)),)


def test_an_alias_stays_as_long_as_its_host_has_endpoints_and_goes_when_its_time_is_over(world: World) -> None:
    aliased(world)
    ballast = [instance(f"b-{n}", service="ballast", node=f"b-{n}", address=f"10.3.3.{n}") for n in range(1, 4)]
    with world.run():
        world.hear(*ballast, *orders(1))
        assert names(world) == {HOST, ALIAS, "ballast.mesh.internal"}
        assert f'"isthmus.mesh/host":"{HOST}"' in world.cluster.objects[ALIASED].spec
        world.hear(*ballast, *orders(1, absent_because=Absence.CRITICAL))
        assert {HOST, ALIAS} <= names(world), "it is needed"
        world.hear(*ballast)
        assert {HOST, ALIAS} <= names(world), "it lingers"
        world.eventually(lambda: names(world) == {"ballast.mesh.internal"})


def test_an_alias_stays_while_another_owners_endpoint_is_at_its_host(world: World) -> None:
    aliased(world)
    with world.run():
        world.hear(*orders(1), instance("other-1", service="other", address="10.3.3.3"))
        workload = translate(host(endpoint("10.9.9.9")), owner="dc2", cluster="east", namespace="legacy").resources[0]
        world.cluster.show(workload.key, world.cluster.held(workload))
        world.rules = ()
    with world.run():
        world.hear(*orders(1), instance("other-1", service="other", address="10.3.3.3"))
        world.hear(*orders(1))
        world.eventually(lambda: "other.mesh.internal" not in names(world))
        assert {HOST, ALIAS} <= names(world)


def test_a_restart_with_aliases_writes_nothing(world: World) -> None:
    aliased(world)
    with world.run():
        world.hear(*orders(1))
        world.cluster.take_writes()
    with world.run():
        world.hear(*orders(1))
        assert world.cluster.take_writes() == []


def lingered(world: World, key: ResourceKey) -> Proposer:
    """Begin another life in which a ServiceEntry was of no use for all of its time, and plan nothing yet."""
    checkpoint = Checkpoint.open(world.state)
    checkpoint.apply("east", [replace(checkpoint.applied("east")[key], unneeded=900.0)])
    checkpoint.close()
    world.open()
    proposer = world.lane.proposer
    proposer.authors.seen.show()
    proposer.take(world.cluster.read(frozenset({"legacy"})))
    return proposer


def test_an_alias_that_is_needed_again_is_not_deleted_by_whichever_place_is_planned_first(world: World) -> None:
    aliased(world)
    with world.run():
        world.hear(*orders(1, absent_because=Absence.CRITICAL))
    proposer = lingered(world, ALIASED)
    with closing(world.checkpoint):
        world.tell(*orders(1, absent_because=Absence.CRITICAL))
        assert proposer.propose(Place("legacy", ALIAS), time.monotonic()) == []
        assert proposer.propose(Place("legacy", HOST), time.monotonic()) == []


def test_an_alias_that_is_needed_again_while_it_is_deleted_is_created_again(world: World) -> None:
    aliased(world)
    ballast = [instance(f"b-{n}", service="ballast", node=f"b-{n}", address=f"10.3.3.{n}") for n in range(1, 4)]
    with world.run():
        world.hear(*ballast, *orders(1, absent_because=Absence.CRITICAL))
        world.hear(*ballast)
    proposer = lingered(world, ALIASED)
    with closing(world.checkpoint):
        world.tell(*ballast)
        now = time.monotonic()
        (deletion,) = proposer.propose(Place("legacy", ALIAS), now)
        world.tell(*ballast, *orders(1))
        proposer.propose(Place("legacy", HOST), now)
        proposer.acknowledge(deletion, None, now)
        assert Place("legacy", HOST) in proposer.due(now)
        assert ALIASED in {change.key for change in proposer.propose(Place("legacy", HOST), now)}


def test_a_host_that_comes_takes_its_name_from_an_alias_and_gives_it_back_when_it_goes(world: World) -> None:
    aliased(world, "other.mesh.internal")
    other = instance("other-1", service="other", node="n", address="10.3.3.3")
    key = ResourceKey(SERVICE_ENTRY, "legacy", "other.mesh.internal")

    def selects(label: str) -> bool:
        return f'"isthmus.mesh/host":"{label}"' in world.cluster.objects[key].spec

    with world.run():
        world.hear(*orders(1))
        assert selects(HOST)
        world.hear(*orders(1), other)
        world.eventually(lambda: selects("other.mesh.internal"))
        assert "is a host of its own" in world.lane.report().troubles[0]
        world.hear(*orders(1))
        world.eventually(lambda: selects(HOST))
        world.eventually(lambda: world.lane.report().troubles == ())
        assert [action for action, name in world.cluster.take_writes() if "ServiceEntry other" in name] == [*"+~~"]


def test_of_two_hosts_with_one_alias_the_first_by_name_has_it_whichever_comes_first(world: World) -> None:
    world.rules = (Rule(number=0, match=Match(service="*"), aliases=(ALIAS,)),)
    billing = instance("billing-1", service="billing", node="n", address="10.3.3.3")
    with world.run():
        world.hear(*orders(1))
        assert HOST in world.cluster.objects[ALIASED].spec
        world.hear(*orders(1), billing)
        world.eventually(lambda: "billing.mesh.internal" in world.cluster.objects[ALIASED].spec)
        world.cluster.take_writes()
    with world.run():
        world.hear(*orders(1), billing)
        assert world.cluster.take_writes() == [], "a restart does not go through it again"
        world.hear(*orders(1))
        world.eventually(lambda: HOST in world.cluster.objects[ALIASED].spec)


def test_a_failed_look_is_no_failure_of_the_cluster(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.rules = (Rule(number=0, match=Match(service="orders"), port=7000),)
    _, entry = adopted(world)

    def refuse(key: ResourceKey) -> Held | None:
        raise ClusterError(Fault.OBJECT, f"get {key}: not now")

    monkeypatch.setattr(world.cluster, "look", refuse)
    world.cluster.objects[ENTRY] = replace(entry, spec="")
    with world.run():
        world.hear(*orders(1))
        assert (world.lane.report().error, world.lane.report().troubles) == ("", ())
