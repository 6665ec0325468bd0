import json
from typing import Any

import pytest

from hooks.eureka import parse
from hooks.eureka.parse import Applications, Lease
from hooks.eureka.pieces import PIECE
from state.errors import RegistryError
from state.model import Absence, Instance, InstanceKey
from tests.eureka import answer, registered, settings, written

AMAZON = "com.netflix.appinfo.AmazonInfo"


def read(body: object, **fields: Any) -> Applications:
    return parse.applications(settings(**fields), written(body))


def leased(one: object, **fields: Any) -> Lease:
    (lease,) = read({"applications": {"application": [{"name": "ORDERS", "instance": [one]}]}}, **fields).leases
    return lease


def parsed(one: object, **fields: Any) -> Instance:
    instance = leased(one, **fields).instance
    assert instance is not None
    return instance


def problem(body: bytes) -> str:
    with pytest.raises(RegistryError) as error:
        parse.applications(settings(), body)
    return str(error.value)


def test_an_instance_has_what_its_registration_says() -> None:
    one = registered(metadata={"zone": "a", "version": "v3", "weight": "7", "port": "80", "protocol": "grpc"})
    assert leased(one, region="eu-west") == Lease(
        app="ORDERS",
        id="h1:orders:8080",
        status="UP",
        action="ADDED",
        updated=1533017018000,
        instance=Instance(
            key=InstanceKey("ORDERS", "", "h1:orders:8080"),
            address="10.1.2.3",
            port=8080,
            metadata=(("port", "80"), ("protocol", "grpc"), ("version", "v3"), ("weight", "7"), ("zone", "a")),
            locality="eu-west/a",
            weight=7,
            version="v3",
            service_port=80,
            service_port_from="metadata port",
            protocol="GRPC",
            proven="HTTP",
            registered=1533017016000,
        ),
    )


def test_an_answer_has_its_version_its_hash_and_its_leases_in_order() -> None:
    body = answer(registered("b"), registered("a", app="BILLS"), registered("c", status="DOWN"), version="17")
    found = read(body)
    assert (found.version, found.hashcode, found.computed) == (17, "DOWN_1_UP_2_", "DOWN_1_UP_2_")
    assert [(one.app, one.id) for one in found.leases] == [("ORDERS", "b"), ("ORDERS", "c"), ("BILLS", "a")]


def test_an_empty_registry_is_an_answer() -> None:
    assert read(answer()) == Applications(1, "", ())


def test_the_hash_counts_every_status_that_there_is_in_order() -> None:
    counts = {"UP": 12, "DOWN": 1, "OUT_OF_SERVICE": 2, "STARTING": 0}
    assert parse.hashcode(counts) == "DOWN_1_OUT_OF_SERVICE_2_UP_12_"


def test_the_answer_for_one_instance_has_its_lease() -> None:
    one = registered()
    assert parse.lease(settings(), written({"instance": one})) == leased(one)


@pytest.mark.parametrize("body", [b"{}", b'{"instance": null}', b'{"instance": []}', b"[]", b"", b"<instance/>"])
def test_another_answer_for_one_instance_is_refused(body: bytes) -> None:
    with pytest.raises(RegistryError, match=r"instance|answer"):
        parse.lease(settings(), body)


# What other servers and other JSON libraries write.


def test_a_single_object_counts_as_a_list_of_one() -> None:
    single = {"applications": {"application": {"name": "ORDERS", "instance": registered()}}}
    listed = {"applications": {"application": [{"name": "ORDERS", "instance": [registered()]}]}}
    assert read(single) == read(listed)


@pytest.mark.parametrize("fields", [{}, {"application": None}, {"application": ""}, {"application": []}])
def test_no_application_is_an_empty_registry(fields: dict[str, Any]) -> None:
    assert read({"applications": {"versions__delta": 3, "apps__hashcode": "", **fields}}) == Applications(3, "", ())


@pytest.mark.parametrize("application", [{"name": "ORDERS"}, {"name": "ORDERS", "instance": None}])
def test_an_application_without_instances_is_empty(application: dict[str, object]) -> None:
    assert read({"applications": {"application": [application]}}).leases == ()


def test_the_names_of_version_and_hash_may_be_escaped_otherwise() -> None:
    found = read({"applications": {"versions_delta": 5, "apps_hashcode": "UP_1_", "application": []}})
    assert (found.version, found.hashcode) == (5, "UP_1_")


def test_the_name_of_an_application_may_follow_its_instances() -> None:
    application = {"instance": [registered("a"), registered("b")], "name": "BILLS"}
    assert [one.app for one in read({"applications": {"application": [application]}}).leases] == ["BILLS", "BILLS"]


def test_numbers_may_be_text_and_text_numbers() -> None:
    one = registered(
        port={"$": "8080", "@enabled": True},
        securePort={"$": "8443", "@enabled": "TRUE"},
        lastUpdatedTimestamp=1533017018000,
        leaseInfo={"registrationTimestamp": "1533017016000"},
        metadata={"weight": 3, "gold": True, "share": 0.5},
        instanceId=17,
    )
    lease, instance = leased(one), parsed(one)
    assert (lease.id, lease.updated) == ("17", 1533017018000)
    assert (instance.port, instance.secure_port, instance.weight, instance.registered) == (8080, 8443, 3, 1533017016000)
    assert instance.metadata == (("gold", "true"), ("share", "0.5"), ("weight", "3"))
    assert instance.dropped == ()


@pytest.mark.parametrize(
    ("fields", "id"),
    [
        ({}, "h1.example"),
        ({"dataCenterInfo": {"@class": AMAZON, "name": "Amazon", "metadata": {"instance-id": "i-7"}}}, "i-7"),
        ({"dataCenterInfo": {"@class": AMAZON, "name": "Amazon", "metadata": None}}, "h1.example"),
    ],
)
def test_an_instance_without_id_has_the_one_that_java_clients_give_it(fields: dict[str, Any], id: str) -> None:
    assert leased(registered(instanceId=None, **fields)).id == id


# Statuses.


@pytest.mark.parametrize(
    ("status", "absence"),
    [
        ("UP", Absence.NONE),
        ("DOWN", Absence.DOWN),
        ("OUT_OF_SERVICE", Absence.OUT_OF_SERVICE),
        ("STARTING", Absence.STARTING),
        ("UNKNOWN", Absence.UNKNOWN),
        ("DRAINING", Absence.UNKNOWN),
    ],
)
def test_only_up_carries_traffic(status: str, absence: Absence) -> None:
    lease = leased(registered(status=status))
    assert lease.status == status  # the hash counts the server's word
    assert lease.instance is not None
    assert lease.instance.absent_because is absence


@pytest.mark.parametrize("status", [None, "", 7])
def test_an_instance_without_a_status_is_unknown(status: object) -> None:
    lease = leased(registered(status=status))
    assert lease.status == "UNKNOWN"
    assert lease.instance is not None
    assert lease.instance.absent_because is Absence.UNKNOWN
    assert lease.instance.dropped[0].startswith("status ")


# Address and ports.


def test_the_host_name_is_published_where_the_configuration_asks_for_it() -> None:
    assert parsed(registered(hostName="10.9.9.9"), address="hostname").address == "10.9.9.9"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("ipAddr", None, "ipAddr null is empty"),
        ("ipAddr", "", "ipAddr '' is empty"),
        ("ipAddr", "orders.example", "ipAddr 'orders.example' is not an IP address but a name"),
        ("ipAddr", "127.0.0.1", "ipAddr '127.0.0.1' is a loopback address"),
        ("hostName", "h1.example", 'set "address: ip" for this registry'),
    ],
)
def test_an_instance_without_an_address_is_rejected_and_says_what_to_do(field: str, value: object, said: str) -> None:
    given: dict[str, Any] = {field: value}
    instance = parsed(registered(**given), address="hostname" if field == "hostName" else "ip")
    assert (instance.address, instance.absent_because) == ("", Absence.REJECTED)
    assert said in instance.rejected


PLAIN, SECURE = {"$": 8080, "@enabled": "true"}, {"$": 8443, "@enabled": "true"}
NO_PLAIN = {"$": 8080, "@enabled": "false"}


@pytest.mark.parametrize(
    ("port", "secure", "ports"),
    [
        (PLAIN, {"$": 8443, "@enabled": "false"}, (8080, 0, "HTTP", "")),
        (PLAIN, SECURE, (8080, 8443, "HTTP", "HTTPS")),
        (NO_PLAIN, SECURE, (8443, 0, "HTTPS", "")),
        ({"$": 8080}, {"$": 8443}, (8080, 0, "HTTP", "")),  # the defaults
        (8080, None, (8080, 0, "HTTP", "")),
        (None, SECURE, (8443, 0, "HTTPS", "")),
    ],
)
def test_the_plain_port_counts_if_enabled_else_the_secure_one(
    port: object, secure: object, ports: tuple[int, int, str, str]
) -> None:
    instance = parsed(registered(port=port, securePort=secure))
    assert (instance.port, instance.secure_port, instance.proven, instance.proven_secure) == ports
    assert instance.rejected == ""


@pytest.mark.parametrize(
    ("port", "secure", "said"),
    [
        (NO_PLAIN, {"$": 8443, "@enabled": "false"}, "neither port nor securePort is enabled"),
        ({"$": 0, "@enabled": "true"}, SECURE, "port 0 is not from 1 to 65535"),
        ({"$": "http", "@enabled": "true"}, SECURE, "port 'http' is text, not a number"),
        (NO_PLAIN, {"$": 65536, "@enabled": "true"}, "securePort 65536 is not from 1 to 65535"),
    ],
)
def test_an_instance_without_a_port_is_rejected(port: object, secure: object, said: str) -> None:
    instance = parsed(registered(port=port, securePort=secure))
    assert instance.rejected == said
    assert (instance.address, instance.port, instance.absent_because) == ("", 0, Absence.REJECTED)


def test_a_bad_second_port_is_dropped() -> None:
    instance = parsed(registered(securePort={"$": -1, "@enabled": "true"}))
    assert (instance.port, instance.secure_port, instance.rejected) == (8080, 0, "")
    assert instance.dropped == ("securePort -1 is not from 1 to 65535",)


# Zone, metadata and other optional fields.


@pytest.mark.parametrize(
    ("region", "metadata", "zone", "locality"),
    [
        ("eu", {"zone": "a"}, None, "eu/a"),
        ("", {}, None, ""),
        ("eu", {"zone": "a"}, "us-east-1c", "eu/us-east-1c"),
        ("", {"zone": "a"}, "us-east-1c", "us-east-1/us-east-1c"),
        ("", {}, "", ""),
    ],
)
def test_the_locality_is_the_region_with_the_availability_zone_or_else_the_zone_in_metadata(
    region: str, metadata: dict[str, str], zone: str | None, locality: str
) -> None:
    center = {"@class": AMAZON, "name": "Amazon", "metadata": {"availability-zone": zone}}
    fields: dict[str, Any] = {} if zone is None else {"dataCenterInfo": center}
    instance = parsed(registered(metadata=metadata, **fields), region=region)
    assert (instance.locality, instance.dropped) == (locality, ())


def test_keys_in_metadata_are_read_behind_the_prefix() -> None:
    keys = {"isthmus.version": "v2", "isthmus.weight": "4", "isthmus.zone": "b", "version": "v1", "weight": "9"}
    instance = parsed(registered(metadata=keys), metadata_prefix="isthmus.", region="eu")
    assert (instance.version, instance.weight, instance.locality) == ("v2", 4, "eu/b")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"metadata": {"weight": "-1"}}, "metadata weight '-1' is not a number from 0 to 4294967295"),
        ({"metadata": {"weight": "heavy"}}, "metadata weight 'heavy' is not a number from 0 to 4294967295"),
        ({"metadata": {"port": "x"}}, "metadata port 'x' is not a number from 1 to 65535"),
        ({"metadata": {"a": None}}, "metadata 'a' null is not text"),
        ({"metadata": {"a": {"b": "c"}}}, "metadata 'a' an object is not text"),
        ({"metadata": {"a": "\ud800"}}, "metadata 'a' '\\ud800' is not text"),
        ({"metadata": ["a"]}, "metadata a list is not an object"),
        ({"lastUpdatedTimestamp": "yesterday"}, "lastUpdatedTimestamp 'yesterday' is not a number"),
        ({"leaseInfo": {"registrationTimestamp": -5}}, "leaseInfo.registrationTimestamp -5 is not a time"),
        ({"port": {"$": 8080, "@enabled": "maybe"}}, "port.@enabled 'maybe' is neither true nor false"),
    ],
)
def test_what_is_optional_and_invalid_is_dropped_and_reported(fields: dict[str, Any], said: str) -> None:
    body = json.dumps({"applications": {"application": [{"name": "ORDERS", "instance": [registered(**fields)]}]}})
    (lease,) = parse.applications(settings(), body.encode()).leases
    assert lease.instance is not None
    assert lease.instance.dropped == (said,)
    assert (lease.instance.address, lease.instance.absent_because) == ("10.1.2.3", Absence.NONE)


def test_metadata_of_a_megabyte_costs_that_value_only() -> None:
    instance = parsed(registered(metadata={"notes": "x" * 2**20, "version": "v3", "k" * 5000: "1"}))
    assert instance.metadata == (("version", "v3"),)
    assert [note[-31:] for note in instance.dropped] == [" is longer than 4096 characters"] * 2
    assert max(map(len, instance.dropped)) < 200


def test_metadata_of_ten_thousand_pairs_keeps_some() -> None:
    instance = parsed(registered(metadata={f"k{number:05}": "v" for number in range(10_000)}))
    assert len(instance.metadata) == 256
    assert instance.dropped == ("metadata has 10000 pairs: all but 256 are left out",)


def test_words_that_java_means_for_itself_are_no_metadata() -> None:
    assert parsed(registered(metadata={"@class": "java.util.Collections$EmptyMap"})).metadata == ()


# Scope.


def test_the_scope_is_of_names_without_case_and_the_hash_is_of_all() -> None:
    body = answer(registered("a", app="TEAM-A"), registered("b", app="team-b"), registered("c", app="OTHER"))
    found = read(body, services=("Team-*",))
    assert [(one.app, one.instance is not None) for one in found.leases] == [
        ("TEAM-A", True),
        ("team-b", True),
        ("OTHER", False),
    ]
    assert found.computed == "UP_3_"


def test_a_broken_instance_out_of_scope_is_only_counted() -> None:
    assert leased(registered(ipAddr=7, port="x"), services=("else",)).instance is None


# Answers that are none.


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the answer ends after 0 bytes where '{' is missing"),
        (b"<html><body>Please sign in</body></html>", "the answer is not the JSON of Eureka"),
        (b'<?xml version="1.0"?><applications/>', "the answer is not the JSON of Eureka"),
        (b"{}", "the answer has no applications"),
        (b'{"error": "Forbidden"}', "the answer has no applications"),
        (b"[]", "the answer is a list, not an object"),
        (b'"UP"', "the answer is 'UP', not an object"),
        (b"null", "the answer is null, not an object"),
        (b'{"applications": null}', "applications is null, not an object"),
        (b'{"applications": [1]}', "applications is a list, not an object"),
        (b'{"applications": {"application": 5}}', "application is 5, not a list"),
        (b'{"applications": {"application": [7]}}', "application 0 is 7, not an object"),
        (b'{"applications": {"application": [{"name": 7}]}}', "the name of application 0 is 7, not a name"),
        (b'{"applications": {"application": [{"name": "A", "instance": [[]]}]}}', "instance 0 of A is a list"),
        (b'{"applications": {"application": [{"name": "A", "instance": [{}]}]}}', "instanceId of instance 0 of A is"),
        (b'{"applications": {"application": [{"instance": [{}]}]}}', "app of instance 0 of application 0 is null"),
        (b'{"applications": {"versions__delta": "new"}}', "versions__delta 'new' is not a number"),
        (b'{"applications": {"apps__hashcode": 7}}', "apps__hashcode is 7, not text"),
        (b'{"applications": {}} {"applications": {}}', "the end is missing at byte 21"),
        (b'{"applications": {"application": [{"name": "A"} {"name": "B"}]}}', "',' or ']' is missing at byte 48"),
        (b'{"applications": {"application": [], }}', "a key is missing"),
        (b'{"applications" {}}', "':' is missing at byte 16"),
        (b'{"applications": {"x": \xff}}', "the answer is not UTF-8 (near byte 23)"),
        (b'{"applications": {"x": ' + b"[" * 100_000, "a value is missing at byte 23"),
        (b'{"applications": {"x": ' + b"9" * 10_000 + b"}}", "a value is missing at byte 23"),
    ],
)
def test_what_is_no_answer_of_eureka_is_refused_with_its_place(body: bytes, said: str) -> None:
    assert said in problem(body)


def test_an_answer_cut_off_anywhere_is_refused() -> None:
    body = written(answer(registered("a"), registered("b", app="BILLS")))
    for length in range(len(body)):
        assert problem(body[:length])


# Large answers.


def test_an_answer_is_the_same_however_its_pieces_fall() -> None:
    filling = {"key": "ü" * 300, "emoji": "\U0001f600"}
    instances = [registered(f"i-{number}", metadata=filling | {"n": number}) for number in range(400)]
    body = written(answer(*instances))
    assert len(body) > 4 * PIECE
    expected = parse.applications(settings(), body)
    assert [one.id for one in expected.leases] == [f"i-{number}" for number in range(400)]
    for spaces in (1, 2, 3, 977):
        assert parse.applications(settings(), b" " * spaces + body) == expected


@pytest.mark.parametrize("short", range(-3, 4))
def test_a_number_at_the_end_of_a_piece_is_whole(short: int) -> None:
    start = b'{"applications": {"application": [], "versions__delta": '
    body = start + b" " * (PIECE - len(start) - short) + b"123456}}"
    assert parse.applications(settings(), body).version == 123456


def test_the_caller_may_breathe_between_instances() -> None:
    breaths: list[int] = []
    body = written(answer(*(registered(f"i-{number}") for number in range(100))))
    parse.applications(settings(), body, lambda: breaths.append(1))
    assert len(breaths) == 5
