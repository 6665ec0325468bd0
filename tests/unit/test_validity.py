import pytest

from agent.validity import (
    address_problem,
    is_reserved,
    label_problem,
    locality_problem,
    namespace_problem,
    port_problem,
    protocol_problem,
    weight_problem,
)


@pytest.mark.parametrize("address", ["10.1.2.3", "8.8.8.8", "2001:db8::1", "fd00::1"])
def test_a_canonical_ip_is_an_address(address: str) -> None:
    assert address_problem(address) == ""


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("", "no IP"),
        ("orders.internal", "no IP"),
        ("10.1.2.3:80", "no IP"),
        ("010.1.2.3", "no IP"),
        ("10.1.2.0/24", "no IP"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "zone"),
        ("2001:DB8::1", "not written as 2001:db8::1"),
        ("2001:db8:0::1", "not written as 2001:db8::1"),
        ("::ffff:10.1.2.3", "not written as 10.1.2.3"),
    ],
)
def test_other_addresses_are_named_with_the_reason(address: str, word: str) -> None:
    assert word in address_problem(address)
    assert repr(address) in address_problem(address)


@pytest.mark.parametrize(("port", "good"), [(-1, False), (0, False), (1, True), (65535, True), (65536, False)])
def test_ports(port: int, good: bool) -> None:
    assert (port_problem(port) == "") is good


@pytest.mark.parametrize(("weight", "good"), [(0, False), (1, True), (2**32 - 1, True), (2**32, False)])
def test_weights(weight: int, good: bool) -> None:
    assert (weight_problem(weight) == "") is good


@pytest.mark.parametrize(("protocol", "good"), [("HTTP", True), ("GRPC-Web", True), ("", False), ("SMTP", False)])
def test_protocols(protocol: str, good: bool) -> None:
    assert (protocol_problem(protocol) == "") is good


@pytest.mark.parametrize(
    ("locality", "good"),
    [("eu", True), ("eu/a/b", True), ("eu/a/b/c", False), ("eu/", False), ("/a", False), ("x" * 3000, False)],
)
def test_localities(locality: str, good: bool) -> None:
    assert (locality_problem(locality) == "") is good


@pytest.mark.parametrize(("namespace", "good"), [("shop", True), ("", False), ("a.b", False), ("Shop", False)])
def test_namespaces(namespace: str, good: bool) -> None:
    assert (namespace_problem(namespace) == "") is good


@pytest.mark.parametrize(
    ("key", "value"),
    [("team", "shop"), ("a_b.C", ""), ("example.com/team", "A-1_b.c"), ("x" * 63, "y" * 63)],
)
def test_good_labels(key: str, value: str) -> None:
    assert label_problem(key, value) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", "a"),
        ("a b", "a"),
        ("x" * 64, "a"),
        ("/a", "a"),
        ("Example.com/a", "a"),
        ("a/b/c", "a"),
        ("x" * 254 + "/a", "a"),
        ("a", "-b"),
        ("a", "y" * 64),
        ("a", "ü"),
        ("a", "b\n"),
    ],
)
def test_bad_labels(key: str, value: str) -> None:
    assert label_problem(key, value) != ""


@pytest.mark.parametrize(
    ("key", "reserved"),
    [
        ("app.kubernetes.io/managed-by", True),
        ("app.kubernetes.io/name", False),
        ("isthmus.mesh/host", True),
        ("istio.io/rev", True),
        ("security.istio.io/tlsMode", True),
        ("istio-locality", True),
        ("notistio.io/rev", False),
        ("app", False),
    ],
)
def test_whose_labels_are_whose(key: str, reserved: bool) -> None:
    assert is_reserved(key) is reserved
