from typing import Any

import pytest

from agent.merge import Host, HostKey, Registration, host_key, merge
from agent.rules import Choice, Identity
from state.model import Absence, InstanceKey, Reason
from tests.core import HOST, KEY, registration, ruling

ORDER = ("dc1", "dc2")
WAITS = [Reason.LOOK, Reason.HOLD, Reason.PANIC]


def merged(*registrations: Registration) -> Host:
    return merge(KEY, registrations, ORDER)


def addresses(host: Host) -> list[tuple[str, int]]:
    return [(endpoint.address, endpoint.port) for endpoint in host.endpoints]


def test_a_host_is_named_by_its_ruling() -> None:
    assert host_key(ruling()) == HostKey("", HOST)
    assert host_key(ruling(namespace=Choice("shop", "rules[0].namespace"))) == HostKey("shop", HOST)


def test_every_address_and_port_is_an_endpoint_sorted() -> None:
    host = merged(
        registration("c", address="10.0.0.2", port=81),
        registration("a", address="10.0.0.2", port=80),
        registration("b", address="10.0.0.1", port=90),
    )
    assert addresses(host) == [("10.0.0.1", 90), ("10.0.0.2", 80), ("10.0.0.2", 81)]
    assert not any(endpoint.kept for endpoint in host.endpoints)


def test_the_fields_of_an_endpoint_are_those_of_its_registration() -> None:
    ruled = ruling(labels=(("team", "shop"),), clusters=("east",))
    one = registration(service="Orders", locality="eu/a", weight=10, version="v3", ruling=ruled)
    (endpoint,) = merged(one).endpoints
    assert (endpoint.locality, endpoint.weight, endpoint.version, endpoint.service) == ("eu/a", 10, "v3", "Orders")
    assert (endpoint.labels, endpoint.clusters) == ((("team", "shop"),), ("east",))
    assert endpoint.sources == (("dc1", "Orders", "node-1", "orders-1"),)


@pytest.mark.parametrize("absence", [absence for absence in Absence if absence])
def test_an_absent_instance_is_no_endpoint_but_keeps_the_host(absence: Absence) -> None:
    host = merged(registration(absent_because=absence))
    assert host.endpoints == ()
    assert host.clusters is None


def test_skipped_registrations_need_no_host() -> None:
    skipped = ruling(skip=Choice(True, "rules[0].skip"))
    host = merged(registration(ruling=skipped, service_port=1, service_port_from="metadata port"))
    assert (host.endpoints, host.clusters, host.port) == ((), (), Choice(80, "default"))
    other = registration("b", address="10.9.9.9")
    assert merged(registration(ruling=skipped), other) == merged(other)


def test_in_one_registry_the_last_registered_counts() -> None:
    old = registration("a", registered=7, weight=1)
    new = registration("b", node="node-2", registered=9, weight=5)
    (endpoint,) = merged(old, new).endpoints
    assert endpoint.weight == 5
    assert endpoint.sources == (("dc1", "orders", "node-1", "a"), ("dc1", "orders", "node-2", "b"))
    assert merged(registration("a", registered=9, absent_because=Absence.CRITICAL), new).endpoints != ()
    assert merged(old, registration("b", registered=9, absent_because=Absence.CRITICAL)).endpoints == ()


def test_registered_at_once_the_larger_key_counts() -> None:
    (endpoint,) = merged(registration("b", weight=5), registration("a", weight=1)).endpoints
    assert endpoint.weight == 5


@pytest.mark.parametrize("registry", ORDER)
def test_a_critical_node_says_nothing_against_another_registration(registry: str) -> None:
    lost = registration("lost", registered=9, absent_because=Absence.NODE_CRITICAL)
    (endpoint,) = merged(lost, registration("b", registry=registry)).endpoints
    assert len(endpoint.sources) == 2
    assert merged(lost).endpoints == ()
    assert merged(lost, registration("b", registry=registry, absent_because=Absence.CRITICAL)).endpoints == ()
    waiting = registration("b", registry=registry, waits=Reason.LOOK)
    assert [endpoint.kept for endpoint in merged(lost, waiting).endpoints] == [True]


@pytest.mark.parametrize("word", [word for word in Absence if word not in (Absence.NONE, Absence.NODE_CRITICAL)])
@pytest.mark.parametrize("registry", ORDER)
def test_between_registries_the_most_pessimistic_word_counts(registry: str, word: Absence) -> None:
    other = "dc1" if registry == "dc2" else "dc2"
    host = merged(registration(registry=registry, absent_because=word), registration(registry=other))
    assert host.endpoints == ()


def test_between_registries_a_weight_of_zero_is_a_word() -> None:
    assert merged(registration(registry="dc1"), registration(registry="dc2", weight=0)).endpoints == ()


def test_between_registries_the_first_in_the_configuration_gives_the_fields() -> None:
    first = registration(registry="dc1", weight=3, version="v1", registered=1)
    second = registration(registry="dc2", weight=9, version="v2", registered=9)
    (endpoint,) = merged(second, first).endpoints
    assert (endpoint.weight, endpoint.version) == (3, "v1")
    assert [source[0] for source in endpoint.sources] == ["dc1", "dc2"]
    (endpoint,) = merge(KEY, [second, first], ("dc2", "dc1")).endpoints
    assert endpoint.weight == 9


@pytest.mark.parametrize("reason", WAITS)
def test_what_waits_alone_is_kept(reason: Reason) -> None:
    assert [endpoint.kept for endpoint in merged(registration(waits=reason)).endpoints] == [True]


def test_what_waits_is_not_kept_where_a_live_registration_carries_it() -> None:
    waiting = registration("a", registered=9, weight=9, waits=Reason.LOOK)
    for live in (registration("b", weight=2), registration("b", registry="dc2")):
        assert [endpoint.kept for endpoint in merged(waiting, live).endpoints] == [False]
    (endpoint,) = merged(waiting, registration("b", weight=2)).endpoints
    assert endpoint.weight == 2


def test_what_waits_does_not_outweigh_a_live_word() -> None:
    waiting = registration("a", registered=9, waits=Reason.HOLD)
    for registry in ORDER:
        live = registration("b", registry=registry, absent_because=Absence.CRITICAL)
        assert merged(waiting, live).endpoints == ()


def test_what_waits_carries_what_was_last_believed() -> None:
    waiting = registration("a", absent_because=Absence.CRITICAL, waits=Reason.LOOK)
    assert merged(waiting).endpoints == ()
    assert merged(waiting, registration("b", registry="dc2")).endpoints == ()


def test_grace_keeps_the_last_endpoints_of_a_host() -> None:
    gone = [registration("a", waits=Reason.GRACE), registration("b", address="10.0.0.2", waits=Reason.GRACE)]
    for others in ([], [registration("c", address="10.0.0.3", absent_because=Absence.CRITICAL)]):
        host = merged(*gone, *others)
        assert addresses(host) == [("10.0.0.2", 8443), ("10.1.2.3", 8443)]
        assert all(endpoint.kept for endpoint in host.endpoints)
        assert host.ended == ()


@pytest.mark.parametrize("waits", [None, Reason.LOOK, Reason.HOLD])
def test_grace_ends_when_the_host_has_another_endpoint(waits: Reason | None) -> None:
    gone = registration("a", waits=Reason.GRACE, service_port=1, service_port_from="metadata port")
    other = registration("b", registry="dc2", address="10.0.0.2", waits=waits)
    host = merged(gone, other)
    assert addresses(host) == [("10.0.0.2", 8443)]
    assert host.ended == (("dc1", InstanceKey("orders", "node-1", "a")),)
    assert (host.port, host.disagreements) == (Choice(80, "default"), ())


def test_grace_that_ended_is_no_source_of_the_endpoint_that_ended_it() -> None:
    host = merged(registration("a", waits=Reason.GRACE), registration("b"))
    (endpoint,) = host.endpoints
    assert endpoint.sources == (("dc1", "orders", "node-1", "b"),)
    assert not endpoint.kept
    assert len(host.ended) == 1


def test_a_port_comes_from_the_rule_then_the_registration_then_the_default() -> None:
    told: dict[str, Any] = {"service_port": 8080, "service_port_from": "metadata port"}
    ruled = ruling(port=Choice(9090, "rules[0].port"))
    assert merged(registration(ruling=ruled, **told)).port == Choice(9090, "rules[0].port")
    assert merged(registration(**told)).port == Choice(8080, "metadata port of orders-1")
    assert merged(registration()).port == Choice(80, "default")


def test_a_rule_may_take_the_number_that_the_instances_share() -> None:
    shared = ruling(port=Choice("instance", "rules[2].port"))
    host = merged(registration("a", ruling=shared), registration("b", address="10.0.0.2", ruling=shared))
    assert host.port == Choice(8443, "rules[2].port")
    assert host.disagreements == ()
    rejected = registration(address="", port=0, absent_because=Absence.REJECTED, ruling=shared)
    assert merged(rejected).port == Choice(80, "default")


def test_a_protocol_comes_from_the_rule_then_the_registration() -> None:
    ruled = ruling(protocol=Choice("GRPC", "rules[0].protocol"))
    assert merged(registration(ruling=ruled, protocol="HTTP")).protocol == Choice("GRPC", "rules[0].protocol")
    assert merged(registration(protocol="HTTP")).protocol == Choice("HTTP", "metadata protocol of orders-1")
    assert merged(registration()).protocol is None


def test_a_protocol_that_all_prove_is_the_hosts() -> None:
    checked = registration("a", proven="HTTP")
    spring = registration("b", registry="dc2", node="", address="10.0.0.2", proven="HTTP")
    assert merged(checked, spring).protocol == Choice("HTTP", "checks of a")
    assert merged(spring).protocol == Choice("HTTP", "port of b")
    unproven = registration("c", address="10.0.0.3")
    host = merged(checked, spring, unproven)
    assert (host.protocol, host.disagreements) == (None, ())


def test_proofs_that_disagree_prove_nothing_and_are_named() -> None:
    some = [
        registration(f"i{n}", address=f"10.0.0.{n}", proven=word) for n, word in enumerate(["HTTP", "GRPC", "HTTP"])
    ]
    host = merged(*some)
    assert host.protocol is None
    (sentence,) = host.disagreements
    assert sentence == f"{HOST}: registrations prove more than one protocol: GRPC (1), HTTP (2); none is used"


@pytest.mark.parametrize("word", ["GRPC", "HTTP"])
def test_a_word_beats_any_number_of_proofs(word: str) -> None:
    proofs = [registration(f"i{n}", address=f"10.0.0.{n}", proven="HTTP") for n in range(3)]
    host = merged(*proofs, registration("z", protocol=word))
    assert host.protocol == Choice(word, "metadata protocol of z")
    assert host.disagreements == ()
    ruled = ruling(protocol=Choice("TCP", "rules[0].protocol"))
    assert merged(*proofs, registration("z", ruling=ruled)).protocol == Choice("TCP", "rules[0].protocol")


def test_neither_what_was_restored_nor_what_was_rejected_can_prove() -> None:
    proof = registration("a", proven="HTTP")
    restored = registration("x", address="10.0.0.2", restored=True, waits=Reason.HOLD)
    rejected = registration("y", address="", port=0, absent_because=Absence.REJECTED)
    assert merged(proof, restored, rejected).protocol == Choice("HTTP", "checks of a")
    assert merged(restored, rejected).protocol is None


def test_aliases_are_those_of_all_registrations() -> None:
    one = registration("a", ruling=ruling(aliases=("b.x", "a.x")))
    other = registration("b", registry="dc2", ruling=ruling(aliases=("a.x", "c.x")))
    skipped = registration("c", ruling=ruling(aliases=("d.x",), skip=Choice(True, "rules[0].skip")))
    assert merged(one, other, skipped).aliases == ("a.x", "b.x", "c.x")
    assert merged(registration()).aliases == ()


def test_the_namespaces_that_see_a_host_are_those_of_the_first_registry_with_a_word() -> None:
    silent = registration("a")
    shop = registration("b", address="10.0.0.2", ruling=ruling(export_to=("shop", "bank", "shop")))
    same = registration("c", registry="dc2", address="10.0.0.3", ruling=ruling(export_to=("bank", "shop")))
    host = merged(same, silent, shop)
    assert (host.export_to, host.disagreements) == (("bank", "shop"), ())
    other = registration("d", registry="dc2", address="10.0.0.4", ruling=ruling(export_to=("*",)))
    host = merged(other, shop)
    assert host.export_to == ("bank", "shop")
    assert host.disagreements == (
        f"{HOST}: registrations disagree on the namespaces that see it: bank, shop; *; the first is used",
    )
    assert merged(silent).export_to is None


def test_an_endpoint_has_the_identity_that_a_rule_grants_to_its_first_registration() -> None:
    granted = ruling(identity=Identity("orders", "istio"))
    (endpoint,) = merged(registration(ruling=granted), registration(registry="dc2")).endpoints
    assert endpoint.identity == Identity("orders", "istio")
    (endpoint,) = merged(registration(), registration(registry="dc2", ruling=granted)).endpoints
    assert endpoint.identity is None


def test_the_port_that_a_rule_chooses_is_the_endpoints_and_the_hosts() -> None:
    secure = ruling(secure=True, port=Choice("instance", "rules[0].port"))
    spring: dict[str, Any] = {"registry": "dc2", "node": "", "port": 8080, "secure_port": 8443}
    proofs: dict[str, Any] = {"proven": "HTTP", "proven_secure": "HTTPS"}
    host = merged(registration("a", ruling=secure, **spring, **proofs))
    assert addresses(host) == [("10.1.2.3", 8443)]
    assert (host.port, host.protocol) == (Choice(8443, "rules[0].port"), Choice("HTTPS", "port of a"))
    plain = merged(registration("a", **spring, **proofs))
    assert addresses(plain) == [("10.1.2.3", 8080)]
    assert plain.protocol == Choice("HTTP", "port of a")


def test_registrations_meet_at_the_port_that_rules_choose() -> None:
    spring = registration("a", registry="dc2", node="", port=8080, secure_port=8443, ruling=ruling(secure=True))
    (endpoint,) = merged(spring, registration("b", port=8443)).endpoints
    assert [source[0] for source in endpoint.sources] == ["dc1", "dc2"]
    down = registration("b", port=8443, absent_because=Absence.CRITICAL)
    assert merged(spring, down).endpoints == ()
    elsewhere = registration("b", port=8080, absent_because=Absence.CRITICAL)
    assert addresses(merged(spring, elsewhere)) == [("10.1.2.3", 8443)]


def voting(*ports: int) -> list[Registration]:
    return [
        registration(f"i{n}", address=f"10.0.0.{n}", service_port=port, service_port_from="metadata port")
        for n, port in enumerate(ports)
    ]


def test_most_win_and_the_disagreement_is_one_sentence() -> None:
    host = merged(*voting(8080, 9090, 9090))
    assert host.port == Choice(9090, "metadata port of i1")
    assert host.disagreements == (f"{HOST}: registrations disagree on the port: 9090 (2), 8080 (1); the first is used",)


def test_ties_go_to_the_smallest() -> None:
    assert merged(*voting(9090, 8080)).port.value == 8080
    protocols = [registration("a", protocol="TCP"), registration("b", protocol="HTTP", address="10.0.0.2")]
    assert merged(*protocols).protocol == Choice("HTTP", "metadata protocol of b")


def test_saying_no_protocol_is_a_vote() -> None:
    silent = [registration("a"), registration("b", address="10.0.0.2")]
    host = merged(*silent, registration("c", protocol="HTTP", address="10.0.0.3"))
    assert host.protocol is None
    assert "none (2), HTTP (1)" in host.disagreements[0]


def test_those_without_traffic_vote_as_well() -> None:
    absent = [
        registration(f"x{n}", address="", absent_because=Absence.REJECTED, service_port=1, service_port_from="m")
        for n in range(3)
    ]
    assert merged(*voting(8080, 8080), *absent).port.value == 1


def test_what_was_restored_from_a_cluster_has_no_vote() -> None:
    restored = [registration(f"x{n}", address=f"10.0.1.{n}", restored=True, waits=Reason.HOLD) for n in range(3)]
    host = merged(*voting(8080), *restored)
    assert (host.port.value, host.disagreements) == (8080, ())


def test_a_host_is_kept_while_every_registration_waits() -> None:
    waiting = registration("a", waits=Reason.HOLD)
    assert merged(waiting).kept
    assert not merged(waiting, registration("b", absent_because=Absence.CRITICAL)).kept
    assert not merged().kept


def test_a_host_is_in_all_clusters_of_its_registrations() -> None:
    east = registration("a", ruling=ruling(clusters=("east",)))
    west = registration("b", address="10.0.0.2", ruling=ruling(clusters=("west", "east")))
    assert merged(east, west).clusters == ("east", "west")
    assert [endpoint.clusters for endpoint in merged(east, west).endpoints] == [("west", "east"), ("east",)]
    assert merged(east, registration("c", address="10.0.0.3")).clusters is None
    assert merged(registration(ruling=ruling(clusters=()))).clusters == ()
