import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.demo.registry import EmbeddedRegistry, Trouble
from hooks.consul.client import ConsulClient
from hooks.consul.parse import Check
from hooks.consul.settings import ConsulSettings
from state.errors import RegistryError
from state.limits import Limits
from state.model import Absence
from tests.scripted import http, scripted

LIMITS = Limits(connect_timeout=2.0, read_timeout=5.0)
SERVICE = "/v1/health/service/orders"


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    with EmbeddedRegistry() as registry:
        registry.set_node("node-7", "10.1.2.3")
        yield registry


@pytest.fixture
def connect() -> Iterator[Callable[..., ConsulClient]]:
    with ExitStack() as open_clients:

        def connect(url: str, limits: Limits = LIMITS, **fields: Any) -> ConsulClient:
            client = ConsulClient(ConsulSettings(name="consul-dc1", url=url, **fields), limits)
            open_clients.callback(client.close)
            return client

        yield connect


Connect = Callable[..., ConsulClient]


@pytest.fixture
def client(registry: EmbeddedRegistry, connect: Connect) -> ConsulClient:
    return connect(registry.url)


def error_of(read: Callable[[], object]) -> str:
    with pytest.raises(RegistryError) as caught:
        read()
    return str(caught.value)


# Reading.


def test_a_service_is_read_with_everything_that_is_registered(registry: EmbeddedRegistry, client: ConsulClient) -> None:
    registry.register("orders", "orders-1", "node-7", 8443, tags=["v1"], meta={"zone": "a"}, weights=(10, 1))
    registry.register("orders", "orders-2", "node-7", 8444, address="10.9.9.9", status="critical")
    snapshot = client.service("orders")
    first, second = snapshot.instances
    assert (first.address, first.port, first.tags, first.weight, first.locality) == (
        "10.1.2.3",
        8443,
        ("v1",),
        10,
        "dc1/a",
    )
    assert (second.address, second.absent_because) == ("10.9.9.9", Absence.CRITICAL)
    assert snapshot.index == registry.read(SERVICE)[0]


def test_a_service_that_is_not_there_is_an_empty_snapshot(client: ConsulClient) -> None:
    assert client.service("orders").instances == ()


@pytest.mark.parametrize("name", ["My_Svc.1/x y", "é🙂", "100%", "a?b=c&d#e", "x/", "+", "o" * 300])
def test_any_name_can_be_read(registry: EmbeddedRegistry, client: ConsulClient, name: str) -> None:
    registry.register(name, "id", "node-7", 80)
    assert name in client.services().body
    (instance,) = client.service(name).instances
    assert instance.key.service == name


@pytest.mark.parametrize("name", ["..", ".", "a/../orders", "a//b", "/a", "\ud800"])
def test_a_name_that_no_url_can_carry_is_an_error(client: ConsulClient, name: str) -> None:
    assert error_of(lambda: client.service(name)).startswith("consul-dc1: /v1/health/service/")


def test_names_that_differ_by_case_are_two_services(registry: EmbeddedRegistry, client: ConsulClient) -> None:
    registry.register("orders", "lower", "node-7", 80)
    registry.register("ORDERS", "upper", "node-7", 81)
    assert client.services().body == {"orders", "ORDERS"}
    assert [client.service(name).instances[0].key.id for name in ("orders", "ORDERS")] == ["lower", "upper"]


def test_lists_tell_names_nodes_and_checks(registry: EmbeddedRegistry, client: ConsulClient) -> None:
    registry.register("orders", "orders-1", "node-7", 80)
    registry.set_status("node-7", "orders-1", "critical")
    assert client.services().body == {"orders"}
    assert client.nodes().body.keys() == {"consul-server", "node-7"}
    assert client.state("critical").body == {Check("node-7", "service:orders-1", "orders-1", "orders", "critical")}
    assert client.state("warning").body == frozenset()
    assert client.services().index == registry.read("/v1/catalog/services")[0]


def test_services_out_of_scope_are_not_listed(registry: EmbeddedRegistry, connect: Connect) -> None:
    registry.register("team-a-web", "1", "node-7", 80)
    registry.register("team-b-web", "2", "node-7", 80)
    assert connect(registry.url, services=("team-a*",), probe="team-a-web").services().body == {"team-a-web"}


def test_the_datacenter_is_named_in_every_read(registry: EmbeddedRegistry, connect: Connect) -> None:
    assert connect(registry.url, datacenter="dc1").services().body == frozenset()
    message = error_of(connect(registry.url, datacenter="dc2").services)
    assert message == "consul-dc1: /v1/catalog/services: answered 500: No path to datacenter"


def test_a_path_in_the_url_is_kept(connect: Connect) -> None:
    with scripted(http(b"{}")) as (port, asked):
        connect(f"http://127.0.0.1:{port}/consul/").services()
    assert asked[0].startswith(b"GET /consul/v1/catalog/services?leader= HTTP/1.1\r\n")


# Blocking.


def test_a_list_is_waited_for_until_it_changes(registry: EmbeddedRegistry, client: ConsulClient) -> None:
    index = client.services().index
    timer = threading.Timer(0.1, registry.register, ("orders", "orders-1", "node-7", 80))
    timer.start()
    answer = client.services(index, 20)
    timer.join()
    assert answer.body == {"orders"}
    assert answer.index > index


def test_a_wait_ends_without_a_change(client: ConsulClient) -> None:
    before = client.nodes()
    begun = time.monotonic()
    assert client.nodes(before.index, 0.2) == before
    assert 0.2 <= time.monotonic() - begun < 2


@pytest.mark.parametrize(("index", "wait"), [(0, 20.0), (5, 0.0), (-1, 20.0)])
def test_without_index_or_wait_nothing_is_waited_for(connect: Connect, index: int, wait: float) -> None:
    with scripted(http(b"[]")) as (port, asked):
        connect(f"http://127.0.0.1:{port}").nodes(index, wait)
    assert asked[0].startswith(b"GET /v1/catalog/nodes?leader= HTTP/1.1\r\n")


def test_index_and_wait_are_sent_as_consul_reads_them(connect: Connect) -> None:
    with scripted(http(b"[]")) as (port, asked):
        connect(f"http://127.0.0.1:{port}", datacenter="dc 1").state("critical", 2**63 + 5, 0.25)
    line = f"GET /v1/health/state/critical?leader=&dc=dc+1&index={2**63 + 5}&wait=250ms HTTP/1.1\r\n"
    assert asked[0].startswith(line.encode())


def test_a_lower_index_is_handed_on(registry: EmbeddedRegistry, client: ConsulClient) -> None:
    registry.register("orders", "orders-1", "node-7", 80)
    index = client.services().index
    registry.wipe()
    assert client.services(index, 0.1).index < index


def test_the_client_waits_longer_than_consul_does(connect: Connect) -> None:
    with EmbeddedRegistry() as registry:
        client = connect(registry.url, Limits(read_timeout=0.5))
        assert client.nodes(client.nodes().index, 1.0).body


def test_close_ends_a_blocking_query_from_another_thread(client: ConsulClient) -> None:
    index = client.nodes().index
    timer = threading.Timer(0.2, client.close)
    timer.start()
    begun = time.monotonic()
    assert error_of(lambda: client.nodes(index, 60)) == "consul-dc1: /v1/catalog/nodes: the client was closed"
    timer.join()
    assert time.monotonic() - begun < 2


def test_a_closed_client_refuses(client: ConsulClient) -> None:
    client.nodes()
    client.close()
    client.close()
    assert error_of(client.nodes) == "consul-dc1: /v1/catalog/nodes: the client was closed"


# ACLs, tokens and the probe.


def test_a_restricted_scope_may_see_filtered_lists_but_no_filtered_service(
    registry: EmbeddedRegistry, connect: Connect
) -> None:
    registry.trouble("/v1/*", Trouble.FILTERED)
    restricted = connect(registry.url, services=("orders*",), probe="orders")
    assert restricted.services().body == frozenset()
    assert restricted.nodes().body == {}
    assert restricted.state("critical").body == frozenset()
    assert "X-Consul-Results-Filtered-By-ACLs" in error_of(lambda: restricted.service("orders"))
    everything = connect(registry.url)
    for read in (everything.services, everything.nodes, lambda: everything.state("warning")):
        assert "X-Consul-Results-Filtered-By-ACLs" in error_of(read)


def test_the_probe_is_content_with_an_instance(client: ConsulClient) -> None:
    client.probe()


@pytest.mark.parametrize("trouble", [None, *Trouble])
def test_a_probe_that_sees_nothing_is_an_error_that_names_it(
    registry: EmbeddedRegistry, connect: Connect, trouble: Trouble | None
) -> None:
    if trouble is not None:
        registry.register("orders", "orders-1", "node-7", 80)
        registry.trouble(SERVICE, trouble)
    client = connect(registry.url, Limits(read_timeout=0.2), services=("orders",), probe="orders")
    message = error_of(client.probe)
    assert message.startswith(f"consul-dc1: {SERVICE} (the probe orders, without which nothing is believed): ")


def test_the_token_is_read_again_for_each_call(tmp_path: Path, connect: Connect) -> None:
    file = tmp_path / "token"
    with EmbeddedRegistry(token="second") as registry:
        client = connect(registry.url, token_file=file)
        file.write_text("first\n")
        assert error_of(client.services).endswith("answered 403: Permission denied: token not found")
        file.write_text("second\n")
        assert client.services().body == frozenset()


def test_without_a_token_file_none_is_sent(connect: Connect) -> None:
    with scripted(http()) as (port, asked):
        connect(f"http://127.0.0.1:{port}").nodes()
    assert b"X-Consul-Token" not in asked[0]
    assert b"Authorization" not in asked[0]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"a-secret\nX-Other: b", "holds more than one word of ASCII"),
        ("a-sécret".encode(), "holds more than one word of ASCII"),
        (b"a-secret\xff", "cannot be read: not text"),
    ],
)
def test_a_token_file_that_holds_none_is_an_error_that_names_it(
    tmp_path: Path, connect: Connect, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with scripted(http()) as (port, asked):
        message = error_of(connect(f"http://127.0.0.1:{port}", token_file=file).nodes)
    assert message == f"consul-dc1: /v1/catalog/nodes: token file {file} {problem}"
    assert asked == []


def test_a_token_shows_nowhere(tmp_path: Path, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    file.write_text("hush-hush")
    caplog.set_level("DEBUG")
    answers = [http(b"ACL not found: hush-hush", "403 Forbidden"), http(b"hush-hush"), http(X_Consul_Index="hush-hush")]
    for answer in answers:
        with scripted(answer) as (port, asked):
            client = connect(f"http://me:pass-word@127.0.0.1:{port}", token_file=file)
            message = error_of(client.nodes)
        assert b"X-Consul-Token: hush-hush\r\n" in asked[0]
        for text in (message, repr(client), caplog.text):
            assert "hush-hush" not in text
            assert "pass-word" not in text


def test_the_environment_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, registry: EmbeddedRegistry, connect: Connect
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    with scripted(http()) as (elsewhere, asked_elsewhere), scripted(http()) as (port, asked):
        for name in ("CONSUL_HTTP_ADDR", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{elsewhere}")
        for name in ("CONSUL_HTTP_TOKEN", "CONSUL_HTTP_AUTH", "CONSUL_HTTP_SSL", "CONSUL_HTTP_SSL_VERIFY"):
            monkeypatch.setenv(name, "true")
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        monkeypatch.setenv("HOME", str(tmp_path))
        connect(f"http://127.0.0.1:{port}").nodes()
        connect(registry.url).probe()
        monkeypatch.setenv("CONSUL_HTTP_ADDR", "no address at all")
        connect(registry.url).probe()
    assert asked_elsewhere == []
    assert b"X-Consul-Token" not in asked[0]
    assert b"Authorization" not in asked[0]


def test_consul_is_asked_to_compress(connect: Connect) -> None:
    with scripted(http()) as (port, asked):
        connect(f"http://127.0.0.1:{port}").nodes()
    assert b"Accept-Encoding: gzip\r\n" in asked[0]
    assert b"User-Agent: isthmus\r\n" in asked[0]
