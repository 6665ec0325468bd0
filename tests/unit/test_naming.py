from hashlib import sha256

import pytest

from agent.naming import fill, host_label, host_problem, is_dns_label, service_label, workload_entry_name


def hexed(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


@pytest.mark.parametrize("service", ["orders", "Orders", "ORDERS"])
def test_case_alone_makes_no_other_service(service: str) -> None:
    assert service_label(service) == "orders"


@pytest.mark.parametrize(
    ("service", "label"),
    [
        ("My_Svc", f"my-svc-{hexed('my_svc')}"),
        ("my.svc", f"my-svc-{hexed('my.svc')}"),
        ("a.b", f"a-b-{hexed('a.b')}"),
        ("-orders-", f"orders-{hexed('-orders-')}"),
        ("x" * 300, f"{'x' * 54}-{hexed('x' * 300)}"),
        ("x" * 53 + "-" + "y" * 20, f"{'x' * 53}-{hexed('x' * 53 + '-' + 'y' * 20)}"),
        ("\N{ROCKET}", hexed("\N{ROCKET}")),
        ("", hexed("")),
        ("\ud800", hexed("\ud800")),
    ],
)
def test_whatever_else_changes_is_told_by_a_hash(service: str, label: str) -> None:
    assert service_label(service) == label
    assert is_dns_label(label)


def test_a_name_of_63_characters_stays_and_one_of_64_is_cut() -> None:
    assert service_label("x" * 63) == "x" * 63
    assert service_label("x" * 64) == f"{'x' * 54}-{hexed('x' * 64)}"


def test_services_that_look_alike_stay_apart() -> None:
    services = ["my_svc", "my-svc", "my.svc", "my__svc", "my-svc-", "k8s", "\N{KELVIN SIGN}8s", "аpi", "api"]  # noqa: RUF001
    assert len({service_label(service) for service in services}) == len(services)


def test_a_template_is_filled_literally() -> None:
    assert fill("{service}.{domain}", "Orders", "mesh.internal") == "orders.mesh.internal"
    assert fill("{service}.{service.__class__}", "a", "b") == "a.{service.__class__}"
    assert fill("shop", "a", "b") == "shop"


def test_a_workload_entry_is_named_by_host_address_and_port() -> None:
    host = "orders.mesh.internal"
    assert workload_entry_name(host, "10.1.2.3", 8443) == f"orders-10.1.2.3-8443-{hexed(host + '|10.1.2.3|8443')}"
    assert workload_entry_name(host, "2001:db8::1", 80) == f"orders-2001-db8--1-80-{hexed(host + '|2001:db8::1|80')}"


def test_hosts_that_begin_alike_give_different_names() -> None:
    assert workload_entry_name("orders.a", "10.1.2.3", 80) != workload_entry_name("orders.b", "10.1.2.3", 80)


def test_a_long_host_is_cut_where_it_is_a_label() -> None:
    assert host_label("orders.mesh.internal") == "orders.mesh.internal"
    long = "a" * 60 + ".mesh.internal"
    assert host_label(long) == f"{long[:54]}-{hexed(long)}"
    assert len(host_label(long)) == 63


@pytest.mark.parametrize(
    "host",
    [
        "orders",
        "orders.mesh.internal",
        "orders.service.consul",
        "a-1.b2.c",
        "x" * 63 + ".internal",
        ".".join(["abc"] * 63) + ".d",
        "svc.mesh.internal",
        "orders.svc.internal",
        "cluster.local.internal",
    ],
)
def test_a_good_host_has_no_problem(host: str) -> None:
    assert host_problem(host) == ""


@pytest.mark.parametrize(
    ("host", "word"),
    [
        ("", "''"),
        ("Orders.mesh", "'Orders'"),
        ("my_svc.mesh", "'my_svc'"),
        ("*.mesh", "'*'"),
        ("*", "'*'"),
        ("orders..mesh", "''"),
        ("orders.mesh.", "''"),
        ("orders.mesh\n", "'mesh\\n'"),
        ("-a.mesh", "'-a'"),
        ("x" * 64 + ".mesh", "no lower-case DNS label"),
        (".".join(["abc"] * 64), "255 characters"),
        ("10.1.2.3", "'3'"),
        ("orders.shop.svc", "Kubernetes"),
        ("orders.svc", "Kubernetes"),
        ("orders.shop.svc.cluster.local", "Kubernetes"),
        ("orders.shop.svc.corp.example", "Kubernetes"),
        ("orders-0.orders.shop.svc.cluster.local", "Kubernetes"),
        ("orders.cluster.local", "Kubernetes"),
        ("büro.mesh", "'büro'"),
    ],
)
def test_a_bad_host_is_told_why(host: str, word: str) -> None:
    assert word in host_problem(host)
