"""Outputs are as a real Consul stores them (tests/integration/test_rules.py asks one)."""

from typing import Any

import pytest

from hooks.consul import parse
from hooks.consul.proven import REMEMBERED, Targets, proven
from hooks.consul.settings import ConsulSettings

REFUSED = "dial tcp 127.0.0.1:8081: connect: connection refused"
GRPC_ERROR = 'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing"'


def http(url: str = "http://127.0.0.1:8080/health", id: str = "web", **fields: object) -> dict[str, object]:
    return check("http", f"HTTP GET {url}: 200 OK Output: HTTP GET http://10.9.9.9:1/: 200 OK", id, **fields)


def grpc(target: str = "10.0.0.1:8080/orders", id: str = "rpc") -> dict[str, object]:
    return check("grpc", f"gRPC check {target}: success", id)


def check(type_: object, output: object = "", id: object = "web", **fields: object) -> dict[str, object]:
    told = {"CheckID": id, "ServiceID": "orders-1", "Status": "passing", "Type": type_, "Output": output}
    return {**told, "Definition": {}, **fields}


def word(*checks: dict[str, object], ports: tuple[object, ...] = (8080, 8080), targets: Targets | None = None) -> str:
    return proven("node-1", checks, ports, targets or Targets())


@pytest.mark.parametrize(
    ("one", "protocol"),
    [
        (http(), "HTTP"),
        (http("http://127.0.0.1:8080"), "HTTP"),
        (http("http://127.0.0.1:8080?deep=1"), "HTTP"),
        (http("HTTP://user:word@[::1]:8080/health"), "HTTP"),
        (http("https://orders.internal:8080/health"), "HTTPS"),
        (http("http://127.0.0.1:8081/health"), ""),
        (http("http://127.0.0.1/health"), ""),
        (http("http://127.0.0.1:80800/health"), ""),
        (check("http", "HTTP HEAD http://127.0.0.1:8080/: 500 Internal Server Error Output: "), "HTTP"),
        (check("http", 'Get "http://127.0.0.1:8080/x": dial tcp 127.0.0.1:8080: connect: connection refused'), "HTTP"),
        (check("http", f'Get "http://127.0.0.1:8081/x": {REFUSED}'), ""),
        (check("http", 'Get "https://127.0.0.1:8080/x": tls: first record does not look like a handshake'), "HTTPS"),
        (grpc(), "GRPC"),
        (grpc("[2001:db8::1]:8080/orders"), "GRPC"),
        (grpc("10.0.0.1:8080"), "GRPC"),
        (grpc("10.0.0.1:9090/orders"), ""),
        (check("tcp", "TCP connect 127.0.0.1:8080: Success"), ""),
        (check("ttl", "HTTP GET http://127.0.0.1:8080/: 200 OK"), ""),
        (check("", "HTTP GET http://127.0.0.1:8080/: 200 OK"), ""),
        (http(ServiceID=""), ""),
    ],
)
def test_a_check_of_the_own_port_proves_what_it_speaks(one: dict[str, object], protocol: str) -> None:
    assert word(one) == protocol


@pytest.mark.parametrize(("url", "port"), [("http://127.0.0.1/health", 80), ("https://127.0.0.1: bad", 443)])
def test_a_url_without_a_port_asks_the_usual_one(url: str, port: int) -> None:
    assert word(http(url), ports=(port, port)) == url.partition(":")[0].upper()


def test_the_port_at_which_others_reach_it_is_its_own_as_well() -> None:
    assert word(http("http://127.0.0.1:8080/"), ports=(8080, 31080)) == "HTTP"
    assert word(http("http://203.0.113.7:31080/"), ports=(8080, 31080)) == "HTTP"


@pytest.mark.parametrize(
    ("definition", "protocol"),
    [
        ({"HTTP": "http://10.0.0.1:8080/health"}, "HTTP"),
        ({"HTTP": "https://10.0.0.1:8080/health"}, "HTTPS"),
        ({"HTTP": "http://10.0.0.1:8081/health"}, ""),
        ({"GRPC": "10.0.0.1:8080/orders"}, "GRPC"),
        ({"GRPC": "10.0.0.1:8080", "GRPCUseTLS": True}, "HTTPS"),
        ({"GRPC": "10.0.0.1:9090"}, ""),
        ({"TCP": "10.0.0.1:8080"}, ""),
    ],
)
@pytest.mark.parametrize("type_", ["", None])
def test_a_definition_in_the_catalogue_tells_it_too(definition: object, protocol: str, type_: object) -> None:
    assert word(check(type_, "", Definition=definition)) == protocol


def test_checks_that_disagree_prove_nothing() -> None:
    assert word(http(), grpc()) == ""
    assert word(http(), http("https://127.0.0.1:8080/", id="tls")) == ""
    assert word(http(), http(id="other")) == "HTTP"


def test_a_check_of_another_port_does_not_disagree() -> None:
    assert word(http("http://127.0.0.1:8081/health"), grpc()) == "GRPC"


@pytest.mark.parametrize(("type_", "protocol"), [("http", "HTTP"), ("grpc", "GRPC")])
def test_a_mute_check_is_taken_for_one_of_the_own_port(type_: str, protocol: str) -> None:
    assert word(check(type_)) == protocol
    assert word(check(type_, GRPC_ERROR)) == protocol
    assert word(check(type_, "", Status="critical")) == protocol


def test_a_check_that_tells_counts_more_than_a_mute_one() -> None:
    assert word(check("http", ""), grpc()) == "GRPC"
    assert word(check("http", ""), check("grpc", "", "rpc")) == ""


@pytest.mark.parametrize(
    ("told", "type_"),
    [
        (http(), "http"),
        (http("http://127.0.0.1:8081/health"), "http"),
        (http("https://127.0.0.1:8080/health"), "http"),
        (grpc(), "grpc"),
        (grpc("10.0.0.1:9090"), "grpc"),
    ],
)
def test_going_mute_and_back_changes_nothing(told: dict[str, object], type_: str) -> None:
    targets = Targets()
    before = word(told, targets=targets)
    mute = check(type_, GRPC_ERROR if type_ == "grpc" else "", told["CheckID"])
    assert [word(one, targets=targets) for one in (mute, told, mute, mute)] == [before] * 4


def test_a_failing_redirect_is_not_taken_for_the_checks_own_target() -> None:
    targets = Targets()
    redirected = check("http", 'Get "https://10.0.0.1:8443/health": dial tcp 10.0.0.1:8443: connect: refused')
    assert [word(one, targets=targets) for one in (http(), redirected, http())] == ["HTTP"] * 3


def test_a_check_that_asks_something_else_from_now_on_is_believed() -> None:
    targets = Targets()
    elsewhere, mute = http("http://127.0.0.1:8081/health"), check("http")
    assert [word(one, targets=targets) for one in (elsewhere, http(), mute)] == ["", "HTTP", "HTTP"]
    assert [word(one, targets=targets) for one in (http(), elsewhere, mute)] == ["HTTP", "", ""]


def test_what_is_remembered_is_of_one_check_on_one_node() -> None:
    targets = Targets()
    word(http("http://127.0.0.1:8081/health"), targets=targets)
    assert word(check("http", id="other"), targets=targets) == "HTTP"
    assert proven("node-2", [check("http")], (8080, 8080), targets) == "HTTP"


def test_what_is_remembered_is_bounded() -> None:
    targets = Targets()
    for number in range(REMEMBERED + 2):
        word(http("http://127.0.0.1:8081/", id=str(number)), targets=targets)
    assert targets.count == 2


@pytest.mark.parametrize(
    "one",
    [
        check(["http"], "HTTP GET http://127.0.0.1:8080/"),
        check("http", ["x"]),
        check("http", "", ["id"]),
        check("", "", Definition=["HTTP"]),
        check("", "", Definition={"HTTP": 5, "GRPC": ["x"]}),
        check("http", "HTTP GET http://[::1: 200 OK"),
        check("http", "HTTP GET " + "http://" * 1000),
        {"ServiceID": "x"},
        {},
    ],
)
def test_nonsense_stops_nothing(one: dict[str, object]) -> None:
    assert word(one) in ("", "HTTP")


def test_a_snapshot_carries_what_its_checks_prove() -> None:
    def body(*checks: dict[str, object], **service: object) -> list[dict[str, Any]]:
        registered = {"ID": "orders-1", "Service": "orders", "Port": 8080, "Address": "10.0.0.1", **service}
        node = {"Node": "node-1", "Address": "10.0.0.1", "Datacenter": "dc1"}
        return [{"Node": node, "Service": registered, "Checks": list(checks)}]

    settings = ConsulSettings(name="consul-dc1", url="http://127.0.0.1:8500")
    targets = Targets()

    def one(*checks: dict[str, object], **service: object) -> str:
        (instance,) = parse.snapshot(settings, "orders", body(*checks, **service), targets=targets).instances
        return instance.proven

    assert one(http()) == "HTTP"
    assert one() == ""
    assert one(http(), Port=8081) == ""
    assert one(check("http"), Port=8081) == "", "the answer before has shown what the check asks"
    assert one(http(), Address="127.0.0.1") == "", "what is rejected proves nothing"
