"""What of an owner's objects can be deleted, or taken over, and what is left and why."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from agent.estate import Estate, adoptable, idle, owners, purgeable
from agent.merge import HostKey
from agent.translate import translate
from state.model import HOST_LABEL, SERVICE_ENTRY, SOURCE, WORKLOAD_ENTRY, Held, ResourceKey, canonical
from tests.core import endpoint, held, host

ORDERS, WEB = "orders.mesh.internal", "web.mesh.internal"


def objects_of(owner: str, name: str = ORDERS, *addresses: str, registry: str = "consul-dc1") -> list[Held]:
    """Return the objects of a host as an owner has written them, the ServiceEntry last."""
    endpoints = [endpoint(address, sources=((registry, "s", "n", address),)) for address in addresses]
    translation = translate(host(*endpoints, key=HostKey("", name)), owner=owner, cluster="east", namespace="legacy")
    return [held(resource) for resource in translation.resources]


def by_key(*objects: Iterable[Held]) -> dict[ResourceKey, Held]:
    return {one.key: one for some in objects for one in some}


def named(estate: Estate) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return (kind, owner) of what was found, and (name, why) of what was left."""
    found = [(one.key.kind, one.owner) for one in estate.objects]
    return found, [(one.held.key.name, one.why) for one in estate.left]


def test_all_of_an_owner_goes_endpoints_first_and_nothing_of_another() -> None:
    there = by_key(objects_of("dc9", ORDERS, "10.0.0.1", "10.0.0.2"), objects_of("dc1", WEB, "10.0.0.3"))
    found, left = named(purgeable(there, "dc9"))
    assert found == [(WORKLOAD_ENTRY, "dc9"), (WORKLOAD_ENTRY, "dc9"), (SERVICE_ENTRY, "dc9")]
    assert left == []
    assert owners(there.values()) == ("dc1", "dc9")
    assert named(purgeable(there, "dc7")) == ([], [])


def test_a_service_entry_that_selects_endpoints_of_another_owner_does_not_go() -> None:
    there = by_key(objects_of("dc1", ORDERS, "10.0.0.3"), objects_of("dc9", ORDERS, "10.0.0.1"))
    found, left = named(purgeable(there, "dc9"))
    assert found == [(WORKLOAD_ENTRY, "dc9")]
    assert left == [(ORDERS, "it selects WorkloadEntries of dc1")]


def test_an_alias_does_not_go_while_another_owner_has_endpoints_of_its_host() -> None:
    (alias,) = objects_of("dc9", "orders.service.consul")
    spec = {"workloadSelector": {"labels": {HOST_LABEL: ORDERS}}}
    there = by_key(objects_of("dc1", ORDERS, "10.0.0.3"), [replace(alias, spec=canonical(spec))])
    assert named(purgeable(there, "dc9")) == ([], [("orders.service.consul", "it selects WorkloadEntries of dc1")])


def test_a_service_entry_is_idle_when_nobody_has_an_endpoint_there() -> None:
    there = by_key(objects_of("dc9", ORDERS, "10.0.0.1"), objects_of("dc9", WEB))
    found, left = named(idle(there, "dc9"))
    assert found == [(SERVICE_ENTRY, "dc9")]
    assert left == [(ORDERS, "it selects WorkloadEntries of dc9")]


def test_what_comes_from_the_same_registries_is_taken_over() -> None:
    there = by_key(objects_of("dc9", ORDERS, "10.0.0.1"), objects_of("dc1", WEB, "10.0.0.2"))
    found, left = named(adoptable(there, "dc9", {"consul-dc1"}))
    assert found == [(WORKLOAD_ENTRY, "dc9"), (SERVICE_ENTRY, "dc9")]
    assert left == []


def test_what_another_registry_may_list_is_left_and_so_is_a_service_entry_for_it_alone() -> None:
    why = "it came from consul-dc9, which this configuration does not have"
    there = by_key(objects_of("dc9", ORDERS, "10.0.0.1", registry="consul-dc9"), objects_of("dc9", WEB, "10.0.0.2"))
    found, left = named(adoptable(there, "dc9", {"consul-dc1"}))
    assert found == [(WORKLOAD_ENTRY, "dc9"), (SERVICE_ENTRY, "dc9")]
    assert [reason for _, reason in left] == [why, "what it selects is left as well"]
    assert left[1][0] == ORDERS


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ('[["consul-dc1","s","n","i"],["eureka","S","","i"]]', "it came from eureka, which"),
        ("[]", "it does not say which registration it came from"),
        ("no JSON", "it does not say which registration it came from"),
    ],
)
def test_what_is_not_known_to_be_listed_here_alone_is_left(source: str, why: str) -> None:
    entry, _ = objects_of("dc9", ORDERS, "10.0.0.1")
    there = by_key([replace(entry, annotations={**entry.annotations, SOURCE: source})])
    ((_, reason),) = named(adoptable(there, "dc9", {"consul-dc1"}))[1]
    assert reason.startswith(why)
