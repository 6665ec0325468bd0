from typing import Any

import pytest

from hooks.consul import parse
from hooks.consul.parse import Check
from hooks.consul.settings import ConsulSettings
from state.errors import RegistryError
from state.model import Absence, Instance, InstanceKey

PASSING = {"Node": "node-7", "CheckID": "serfHealth", "Status": "passing", "ServiceID": ""}


def check(status: str, id: str = "service:orders-1", service: str = "orders-1") -> dict[str, object]:
    return {"Node": "node-7", "CheckID": id, "Status": status, "ServiceID": service}


def entry(
    *checks: object, node: dict[str, object] | None = None, id: str = "orders-1", **service: object
) -> dict[str, Any]:
    return {
        "Node": {"Node": "node-7", "Address": "10.1.2.3", "Datacenter": "dc1", "TaggedAddresses": None, **(node or {})},
        "Service": {"ID": id, "Service": "orders", "Port": 8443, "Address": "", "Tags": [], "Meta": None, **service},
        "Checks": [PASSING, *checks],
    }


def settings(**fields: Any) -> ConsulSettings:
    return ConsulSettings(name="consul-dc1", url="http://127.0.0.1:8500", **fields)


def parsed(one: object, **fields: Any) -> Instance:
    (instance,) = parse.snapshot(settings(**fields), "orders", [one]).instances
    return instance


def test_an_instance_has_what_its_registration_says() -> None:
    registered = entry(
        Port=8443,
        Address="10.9.9.9",
        Tags=["v1", "public", "v1"],
        Meta={"version": "v3", "zone": "eu-west-1a", "protocol": "Http2", "port": "80", "tier": "gold"},
        Weights={"Passing": 10, "Warning": 2},
        CreateIndex=15,
    )
    assert parsed(registered, region="eu-west") == Instance(
        key=InstanceKey("orders", "node-7", "orders-1"),
        address="10.9.9.9",
        port=8443,
        tags=("public", "v1"),
        metadata=(
            ("port", "80"),
            ("protocol", "Http2"),
            ("tier", "gold"),
            ("version", "v3"),
            ("zone", "eu-west-1a"),
        ),
        locality="eu-west/eu-west-1a",
        weight=10,
        version="v3",
        service_port=80,
        service_port_from="metadata port",
        protocol="HTTP2",
        registered=15,
    )


def test_a_snapshot_is_ordered_whatever_the_order_of_the_answer() -> None:
    entries = [entry(id="b"), entry(id="a"), entry(id="a", node={"Node": "node-1"})]
    one = parse.snapshot(settings(), "orders", entries, 7)
    other = parse.snapshot(settings(), "orders", entries[::-1], 7)
    assert one == other
    assert [instance.key.id for instance in one.instances] == ["a", "a", "b"]
    assert one.index == 7


# Addresses.


@pytest.mark.parametrize(
    ("address", "service", "node", "expected"),
    [
        ("lan", {"Address": ""}, {}, ("10.1.2.3", 8443)),
        ("lan", {"Address": "10.9.9.9"}, {"TaggedAddresses": {"lan": "10.8.8.8"}}, ("10.9.9.9", 8443)),
        ("wan", {"TaggedAddresses": {"wan": {"Address": "1.2.3.4", "Port": 443}}}, {}, ("1.2.3.4", 443)),
        ("wan", {"TaggedAddresses": {"wan": {"Address": "1.2.3.4", "Port": 0}}}, {}, ("1.2.3.4", 8443)),
        ("wan", {"TaggedAddresses": {"wan_ipv4": {"Address": "1.2.3.4", "Port": 443}}}, {}, ("1.2.3.4", 443)),
        ("wan", {"TaggedAddresses": {"lan": {"Address": "1.2.3.4", "Port": 1}}}, {}, ("10.1.2.3", 8443)),
        ("wan", {}, {"TaggedAddresses": {"wan": "1.2.3.4"}}, ("1.2.3.4", 8443)),
        ("wan", {}, {"TaggedAddresses": {"wan_ipv4": "1.2.3.4"}}, ("1.2.3.4", 8443)),
        ("wan", {"Address": "10.9.9.9"}, {"TaggedAddresses": {}}, ("10.9.9.9", 8443)),
        ("mesh", {"TaggedAddresses": {"mesh": {"Address": "fd00::1", "Port": 9}}}, {}, ("fd00::1", 9)),
    ],
)
def test_the_configured_address_is_chosen(
    address: str, service: dict[str, Any], node: dict[str, object], expected: tuple[str, int]
) -> None:
    instance = parsed(entry(node=node, **service), address=address)
    assert (instance.address, instance.port, instance.rejected) == (*expected, "")


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("FD00:0:0::A", "fd00::a"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
    ],
)
def test_an_address_is_written_canonically(written: str, canonical: str) -> None:
    assert parsed(entry(Address=written)).address == canonical


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("db.internal", "Service.Address 'db.internal' is not an IP address"),
        ("010.1.2.3", "Service.Address '010.1.2.3' is not an IP address"),
        ("0.0.0.0", "Service.Address '0.0.0.0' is the unspecified address"),
        ("::", "Service.Address '::' is the unspecified address"),
        ("169.254.1.1", "Service.Address '169.254.1.1' is a link-local address"),
        ("fe80::1", "Service.Address 'fe80::1' is a link-local address"),
        ("fe80::1%eth0", "Service.Address 'fe80::1%eth0' has a zone, which means nothing on other machines"),
        ("224.0.0.1", "Service.Address '224.0.0.1' is a multicast address"),
        (42, "Service.Address 42 is not text"),
        (["10.0.0.1"], "Service.Address a list is not text"),
    ],
)
def test_an_address_that_cannot_work_is_rejected_with_place_and_value(address: object, reason: str) -> None:
    instance = parsed(entry(Address=address))
    assert instance.rejected == reason
    assert (instance.address, instance.port, instance.absent_because) == ("", 8443, Absence.REJECTED)
    assert not instance.present


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_a_loopback_address_is_rejected_with_advice(address: str) -> None:
    rejected = parsed(entry(node={"Address": address})).rejected
    assert rejected.startswith(f"Node.Address '{address}' is a loopback address, as a development agent's node address")


def test_an_instance_without_any_address_is_rejected() -> None:
    assert parsed(entry(node={"Address": ""})).rejected == "Node.Address '' is empty"
    assert parsed(entry(node={"Address": None})).rejected == "Node.Address null is empty"


def test_a_tagged_address_that_is_broken_is_not_replaced_by_another_one() -> None:
    reason = "Service.TaggedAddresses.wan.Address 'wan.example' is not an IP address"
    tagged = {"wan": {"Address": "wan.example", "Port": 1}}
    assert parsed(entry(TaggedAddresses=tagged), address="wan").rejected == reason
    assert parsed(entry(TaggedAddresses={"wan": 5}), address="wan").rejected.startswith("Service.TaggedAddresses.wan 5")
    assert parsed(entry(TaggedAddresses=[1]), address="wan").rejected.startswith("Service.TaggedAddresses a list")


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        (0, "Service.Port 0 is not from 1 to 65535"),
        (-1, "Service.Port -1 is not from 1 to 65535"),
        (65536, "Service.Port 65536 is not from 1 to 65535"),
        ("8443", "Service.Port '8443' is text, not a number"),
        (True, "Service.Port true is not a number"),
        (80.5, "Service.Port 80.5 is not a number"),
        (None, "Service.Port null is not a number"),
    ],
)
def test_a_port_that_is_none_is_rejected_with_place_and_value(port: object, reason: str) -> None:
    instance = parsed(entry(Port=port))
    assert (instance.rejected, instance.address, instance.port) == (reason, "", 0)


def test_every_reason_for_a_rejection_is_named() -> None:
    rejected = parsed(entry(Address="x", Port=0)).rejected
    assert rejected == "Service.Address 'x' is not an IP address; Service.Port 0 is not from 1 to 65535"


def test_a_huge_value_is_cut_in_the_reason() -> None:
    assert len(parsed(entry(Address="x" * 10**6)).rejected) < 200


def test_one_rejected_instance_leaves_the_others_alone() -> None:
    healthy, broken = parse.snapshot(settings(), "orders", [entry(id="a"), entry(id="b", Port=0)]).instances
    assert (healthy.absent_because, broken.absent_because) == (Absence.NONE, Absence.REJECTED)


# Health.


@pytest.mark.parametrize(
    ("checks", "word", "warning"),
    [
        ([], Absence.NONE, False),
        ([check("passing")], Absence.NONE, False),
        ([check("warning")], Absence.NONE, True),
        ([check("warning", "disk", "")], Absence.NONE, True),
        ([check("critical")], Absence.CRITICAL, False),
        ([check("critical"), check("warning")], Absence.CRITICAL, False),
        ([check("exploded")], Absence.CRITICAL, False),
        ([check("Passing")], Absence.CRITICAL, False),
        ([check("critical", "_service_maintenance:orders-1")], Absence.MAINTENANCE, False),
        ([check("critical", "_node_maintenance", "")], Absence.MAINTENANCE, False),
        ([check("critical", "disk", "")], Absence.NODE_CRITICAL, False),
        ([check("unknown", "disk", "")], Absence.NODE_CRITICAL, False),
        ([check("critical", "_node_maintenance", ""), check("critical")], Absence.MAINTENANCE, False),
        (
            [check("critical", "_node_maintenance", ""), check("critical", "disk", ""), check("critical")],
            Absence.NODE_CRITICAL,
            False,
        ),
    ],
)
def test_the_worst_check_is_the_health(checks: list[object], word: Absence, warning: bool) -> None:
    instance = parsed(entry(*checks))
    assert (instance.absent_because, instance.warning) == (word, warning)


def test_a_check_without_status_counts_as_critical() -> None:
    assert parsed(entry({"CheckID": "c", "ServiceID": "orders-1"})).absent_because is Absence.CRITICAL


def test_a_rejected_instance_keeps_its_health() -> None:
    broken = parsed(entry(check("critical"), Port=0))
    assert (broken.absent_because, broken.rejected) == (Absence.CRITICAL, "Service.Port 0 is not from 1 to 65535")


@pytest.mark.parametrize(("status", "weight"), [("passing", 10), ("warning", 3)])
def test_the_weight_is_that_of_the_instance_as_it_is(status: str, weight: int) -> None:
    assert parsed(entry(check(status), Weights={"Passing": 10, "Warning": 3})).weight == weight


@pytest.mark.parametrize("weights", [None, {}, {"Warning": 3}])
def test_a_missing_weight_is_one(weights: object) -> None:
    instance = parsed(entry(Weights=weights))
    assert (instance.weight, instance.dropped) == (1, ())


def test_a_weight_of_zero_stays_zero() -> None:
    assert parsed(entry(Weights={"Passing": 0})).weight == 0


# Optional values.


@pytest.mark.parametrize(
    ("service", "report"),
    [
        ({"Weights": {"Passing": -1}}, "Service.Weights.Passing -1 is not a number from 0 to 4294967295"),
        ({"Weights": {"Passing": "7"}}, "Service.Weights.Passing '7' is not a number from 0 to 4294967295"),
        ({"Weights": {"Passing": 2**32}}, "Service.Weights.Passing 4294967296 is not a number from 0 to 4294967295"),
        ({"Weights": [1]}, "Service.Weights a list is not an object"),
        ({"Meta": {"port": "0"}}, "metadata port '0' is not a number from 1 to 65535"),
        ({"Meta": {"port": "65536"}}, "metadata port '65536' is not a number from 1 to 65535"),
        ({"Meta": {"port": "http"}}, "metadata port 'http' is not a number from 1 to 65535"),
        ({"Meta": {"port": "٣"}}, "metadata port '٣' is not a number from 1 to 65535"),
        ({"Tags": ["port=x"]}, "tag 'port=x' does not name a number from 1 to 65535"),
        ({"Meta": {"protocol": "gopher"}}, "metadata protocol 'gopher' is none of "),
        ({"Meta": {"version": "a b"}}, "metadata version 'a b' is not valid as a label's value"),
        ({"Meta": {"version": "v1\n"}}, "metadata version 'v1\\n' is not valid as a label's value"),
        ({"Meta": {"version": "x" * 64}}, f"metadata version '{'x' * 64}' is not valid as a label's value"),
        ({"Meta": {"zone": "a/b/c"}}, "metadata zone 'a/b/c' does not make a locality with region 'dc1'"),
        ({"Meta": {"zone": "a//b"}}, "metadata zone 'a//b' does not make a locality with region 'dc1'"),
        ({"Meta": {"a": 5}}, "metadata 'a' 5 is not text"),
        ({"Meta": ["a"]}, "Service.Meta a list is not an object"),
        ({"Tags": [5]}, "tag 5 is not text"),
        ({"Tags": {}}, "Service.Tags an object is not a list"),
        ({"Tags": ["\ud800"]}, "tag '\\ud800' is not text"),
        ({"CreateIndex": "x"}, "Service.CreateIndex 'x' is not an index"),
    ],
)
def test_an_invalid_optional_value_is_dropped_and_reported(service: dict[str, Any], report: str) -> None:
    instance = parsed(entry(**service))
    (dropped,) = instance.dropped
    assert dropped.startswith(report)
    assert (instance.address, instance.rejected, instance.absent_because) == ("10.1.2.3", "", Absence.NONE)
    assert (instance.weight, instance.service_port, instance.protocol, instance.version) == (1, 0, "", "")
    assert instance.locality == "dc1"


@pytest.mark.parametrize(
    ("meta", "tags", "port", "origin"),
    [
        ({"port": "80"}, ["port=8080"], 80, "metadata port"),
        ({}, ["port=8080"], 8080, "tag port=8080"),
        ({"port": "?"}, ["port=8080"], 8080, "tag port=8080"),
        ({}, ["port=9090", "port=8080"], 8080, "tag port=8080"),
        ({}, ["export=1"], 0, ""),
    ],
)
def test_the_service_port_and_its_origin(meta: dict[str, str], tags: list[str], port: int, origin: str) -> None:
    instance = parsed(entry(Meta=meta, Tags=tags))
    assert (instance.service_port, instance.service_port_from) == (port, origin)


def test_several_tags_with_ports_are_reported() -> None:
    instance = parsed(entry(Tags=["port=9090", "port=8080"]))
    assert instance.dropped == ("tags name several ports (8080, 9090): the smallest counts",)


def test_metadata_keys_stand_behind_the_prefix() -> None:
    meta = {"port": "1", "protocol": "tcp", "mesh.port": "80", "mesh.protocol": "grpc-web", "mesh.version": "v1"}
    instance = parsed(entry(Meta=meta), metadata_prefix="mesh.")
    assert (instance.service_port, instance.protocol, instance.version) == (80, "GRPC-WEB", "v1")
    assert instance.service_port_from == "metadata mesh.port"


@pytest.mark.parametrize(
    ("region", "zone", "locality"),
    [
        ("", "", "dc1"),
        ("", "a", "dc1/a"),
        ("eu-west", "", "eu-west"),
        ("eu-west", "a/b", "eu-west/a/b"),
        ("eu/west", "a", "eu/west/a"),
        ("eu/west", "a/b", "eu/west"),
    ],
)
def test_the_locality_has_at_most_three_segments(region: str, zone: str, locality: str) -> None:
    assert parsed(entry(Meta={"zone": zone}), region=region).locality == locality


# What is left out, and what is an error.


@pytest.mark.parametrize("kind", ["connect-proxy", "mesh-gateway", "terminating-gateway", "ingress-gateway"])
def test_proxies_and_gateways_are_left_out(kind: str) -> None:
    assert parse.snapshot(settings(), "orders", [entry(Kind=kind)]).instances == ()


def test_consul_itself_is_left_out() -> None:
    assert parse.snapshot(settings(), "consul", [entry(Service="consul")]).instances == ()


def test_a_name_that_differs_by_case_only_is_another_service() -> None:
    entries = [entry(id="lower"), entry(id="upper", Service="ORDERS")]
    for name, id_ in (("orders", "lower"), ("ORDERS", "upper")):
        (instance,) = parse.snapshot(settings(), name, entries).instances
        assert instance.key == InstanceKey(name, "node-7", id_)


def test_an_instance_of_another_service_is_an_error() -> None:
    with pytest.raises(RegistryError, match=r"entry 0 \('orders-1'\) is of service 'billing', not 'orders'"):
        parse.snapshot(settings(), "orders", [entry(Service="billing")])


def test_identical_duplicates_are_one_instance() -> None:
    (instance,) = parse.snapshot(settings(), "orders", [entry(), entry()]).instances
    assert instance.dropped == ()


def test_of_different_duplicates_the_last_one_counts_and_says_so() -> None:
    (instance,) = parse.snapshot(settings(), "orders", [entry(Port=1), entry(Port=2)]).instances
    assert instance.port == 2
    assert instance.dropped == ("registered differently in one answer, as 'orders-1' on 'node-7': the last one counts",)


def test_one_id_on_two_nodes_is_two_instances() -> None:
    assert len(parse.snapshot(settings(), "orders", [entry(), entry(node={"Node": "node-8"})]).instances) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "x"}, "the answer is an object, not a list"),
        (None, "the answer is null, not a list"),
        (["x"], "entry 0 is 'x', not an object"),
        ([{"Service": {}}], "Node of entry 0 is null, not an object"),
        ([entry(), {**entry(), "Service": 5}], "Service of entry 1 is 5, not an object"),
        ([entry(id="")], "Service.ID of entry 0 is '', not a name"),
        ([entry(node={"Node": None})], "Node.Node of entry 0 is null, not a name"),
        ([entry(Service=5)], "Service.Service of entry 0 is 5, not a name"),
        ([entry(id="\ud800")], "Service.ID of entry 0 is '\\ud800', not a name"),
        ([{**entry(), "Checks": {}}], "Checks of entry 0 is an object, not a list"),
        ([{**entry(), "Checks": ["x"]}], "check 0 in Checks of entry 0 is 'x', not an object"),
        ([{"Node": entry()["Node"], "Service": entry()["Service"]}], "Checks of entry 0 is '', not a list"),
    ],
)
def test_an_answer_of_another_shape_is_an_error(body: object, message: str) -> None:
    with pytest.raises(RegistryError) as caught:
        parse.snapshot(settings(), "orders", body)
    assert str(caught.value) == message


def test_no_checks_at_all_are_passing() -> None:
    assert parsed({**entry(), "Checks": None}).absent_because is Absence.NONE


# Lists.


def test_services_are_those_in_scope_without_consul() -> None:
    body = {"consul": [], "team-a-web": ["v1"], "team-b": None, "Team-a": []}
    assert parse.services(settings(), body) == {"team-a-web", "team-b", "Team-a"}
    assert parse.services(settings(services=("team-a*", "x")), body) == {"team-a-web"}


@pytest.mark.parametrize("body", [[], None, "x", {"error": "not allowed"}, {"": []}])
def test_a_list_of_services_of_another_shape_is_an_error(body: object) -> None:
    with pytest.raises(RegistryError):
        parse.services(settings(), body)


def test_a_node_shows_changes_that_matter_to_instances_only() -> None:
    node = {"Node": "n", "Address": "10.0.0.1", "TaggedAddresses": {"wan": "1.2.3.4"}, "Meta": None, "ModifyIndex": 1}

    def shown(**fields: object) -> dict[str, str]:
        return parse.nodes([{**node, **fields}])

    assert shown() == shown(ModifyIndex=2, CreateIndex=1)
    changes: list[dict[str, object]] = [{}, {"Address": "x"}, {"TaggedAddresses": {}}, {"Meta": {}}]
    assert len({shown(**change)["n"] for change in changes}) == 4


@pytest.mark.parametrize("body", [{}, None, ["x"], [{"Node": ""}], [{"Address": "10.0.0.1"}]])
def test_a_list_of_nodes_of_another_shape_is_an_error(body: object) -> None:
    with pytest.raises(RegistryError):
        parse.nodes(body)


def test_checks_are_told_apart_without_what_they_printed() -> None:
    one = {"Node": "n", "CheckID": "c", "ServiceID": "s-1", "ServiceName": "s", "Status": "critical", "Output": "x"}
    node = {"Node": "n", "CheckID": "serfHealth", "Status": "critical", "ServiceID": "", "ServiceName": ""}
    assert parse.checks([one, {**one, "Output": "y", "ModifyIndex": 9}, node]) == {
        Check("n", "c", "s-1", "s", "critical"),
        Check("n", "serfHealth", "", "", "critical"),
    }


@pytest.mark.parametrize("body", [{}, None, [5], [{"Node": "n"}], [{"Node": "n", "CheckID": "c", "ServiceID": 5}]])
def test_a_list_of_checks_of_another_shape_is_an_error(body: object) -> None:
    with pytest.raises(RegistryError):
        parse.checks(body)
