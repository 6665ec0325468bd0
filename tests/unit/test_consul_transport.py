import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.demo.registry import EmbeddedRegistry, Trouble
from hooks.consul import transport
from hooks.consul.client import ConsulClient
from hooks.consul.settings import ConsulSettings
from state.errors import RegistryError
from state.limits import Limits
from tests.scripted import chunked, http, scripted
from tests.testbed.pki import Authority

LIMITS = Limits(connect_timeout=2.0, read_timeout=5.0)
SERVICE = "/v1/health/service/orders"
NODES = json.dumps([{"Node": f"node-{number}", "Address": "10.0.0.1"} for number in range(5000)]).encode()


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


# Answers that are none.


@pytest.mark.parametrize(
    ("trouble", "seen"),
    [
        (Trouble.ERROR, "answered 500: No cluster leader"),
        (Trouble.HTML, "answered without JSON: <html><body>Please log in</body></html>"),
        (Trouble.HALF, 'answered without JSON: [{"Node"'),
        (Trouble.CUT, "IncompleteRead("),
        (Trouble.LEADERLESS, "answered without a leader, X-Consul-Knownleader: false"),
        (Trouble.FILTERED, "the token may not see all of it, X-Consul-Results-Filtered-By-ACLs: true"),
        (Trouble.DROPPED, "Remote end closed connection without response"),
    ],
)
def test_a_broken_answer_is_an_error_and_the_next_whole_one_is_not(
    registry: EmbeddedRegistry, client: ConsulClient, trouble: Trouble, seen: str
) -> None:
    registry.register("orders", "orders-1", "node-7", 80)
    registry.trouble("/v1/*", trouble)
    for read, path in (
        (lambda: client.service("orders"), SERVICE),
        (client.nodes, "/v1/catalog/nodes"),
    ):
        assert error_of(read).startswith(f"consul-dc1: {path}: {seen}")
    registry.mend()
    assert len(client.service("orders").instances) == 1


def test_a_server_that_does_not_answer_is_an_error(registry: EmbeddedRegistry, connect: Connect) -> None:
    registry.trouble("*", Trouble.SILENT)
    client = connect(registry.url, Limits(read_timeout=0.2))
    assert error_of(client.nodes) == "consul-dc1: /v1/catalog/nodes: no answer within 0.2 s"


def test_a_server_that_is_not_there_is_an_error(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert error_of(connect(f"http://127.0.0.1:{port}").nodes) == "consul-dc1: /v1/catalog/nodes: Connection refused"


def test_a_server_that_takes_no_connection_is_an_error(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as waiting:
        for _ in range(4):  # more than the kernel keeps for a server that accepts none
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        client = connect(f"http://127.0.0.1:{listener.getsockname()[1]}", Limits(connect_timeout=0.3))
        assert error_of(client.nodes) == "consul-dc1: /v1/catalog/nodes: no connection within 0.3 s"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ({"Content_Encoding": "gzip"}, gzip.compress(NODES)),
        ({"Content_Length": "", "Transfer_Encoding": "chunked"}, chunked(NODES)),
        (
            {"Content_Encoding": "gzip", "Content_Length": "", "Transfer_Encoding": "chunked"},
            chunked(gzip.compress(NODES)),
        ),
        ({"Content_Length": ""}, NODES),
    ],
)
def test_a_body_is_read_however_it_is_encoded(connect: Connect, encoding: dict[str, str], body: bytes) -> None:
    with scripted(http(body, **encoding)) as (port, _):
        assert len(connect(f"http://127.0.0.1:{port}").nodes().body) == 5000


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ({"Content_Encoding": "gzip"}, b"no gzip"),
        ({"Content_Encoding": "gzip"}, gzip.compress(NODES)[:-100]),
        ({"Content_Length": "", "Transfer_Encoding": "chunked"}, chunked(NODES)[:-100]),
        ({"Content_Length": "", "Transfer_Encoding": "chunked"}, b"no chunks"),
        ({"Content_Length": "99"}, b"[]"),
    ],
)
def test_a_body_that_is_not_whole_is_an_error(connect: Connect, encoding: dict[str, str], body: bytes) -> None:
    with scripted(http(body, **encoding)) as (port, _):
        error_of(connect(f"http://127.0.0.1:{port}").nodes)


def test_a_server_that_comes_back_is_read_again(connect: Connect) -> None:
    with EmbeddedRegistry() as registry:
        client = connect(registry.url)
        client.nodes()
        registry.trouble("*", Trouble.DROPPED)
        error_of(client.nodes)
        registry.mend()
        assert client.nodes().body


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (http(X_Consul_Index=""), "answered with X-Consul-Index '', which is no number"),
        (http(X_Consul_Index="x"), "answered with X-Consul-Index 'x', which is no number"),
        (http(X_Consul_Lastcontact="5001"), "answered by a server that heard from its leader 5001 ms ago"),
        (http(b"{}"), "the answer is an object, not a list"),
        (http(b""), "answered without JSON: (an empty body)"),
        (http(b"\xff\xfe"), "answered without JSON: "),
        (http(b"[" * 100_000), "answered JSON nested too deep: [["),
        (http(b"gone\r\n\x1b[31m", "404 Not Found"), "answered 404: gone [31m"),
        (http(b"x" * 10_000, "503 Busy"), f"answered 503: {'x' * 200}"),
        (http(b"", "301 Moved", Location="http://127.0.0.1:1/"), "answered 301: (an empty body)"),
        (http(b"", "302 Found", Location="/v1/catalog/nodes"), "answered 302: (an empty body)"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0-OpenSSH_9.6"),
        (b"\x1b[31m" + b"x" * 10_000 + b"\r\n", "[31mxxx"),
    ],
)
def test_what_is_no_answer_of_consul_is_an_error(connect: Connect, answer: bytes, seen: str) -> None:
    with scripted(answer) as (port, asked):
        message = error_of(connect(f"http://127.0.0.1:{port}").nodes)
    assert message.startswith(f"consul-dc1: /v1/catalog/nodes: {seen}")
    assert len(message) < 300
    assert len(asked) == 1


@pytest.mark.parametrize(("text", "index"), [("0", 1), ("-5", 1), ("1", 1), (str(2**64 - 1), 2**64 - 1)])
def test_an_index_below_one_counts_as_one(connect: Connect, text: str, index: int) -> None:
    with scripted(http(X_Consul_Index=text)) as (port, _):
        assert connect(f"http://127.0.0.1:{port}").nodes().index == index


def test_an_endless_body_is_an_error(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LARGEST_BODY", 1000)
    with scripted(http(b"[" + b" " * 2000 + b"]")) as (port, _):
        assert error_of(connect(f"http://127.0.0.1:{port}").nodes).endswith("the body is larger than 1000 bytes")


def test_a_dripping_body_is_an_error(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BODY_PATIENCE", 0)
    limits = Limits(connect_timeout=0.5, read_timeout=0.5)
    with scripted(http(b" " * 10_000), drip=0.005) as (port, _):
        message = error_of(connect(f"http://127.0.0.1:{port}", limits).nodes)
    assert "the body is not complete, after" in message


def test_reads_share_one_connection(
    client: ConsulClient, registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[object] = []
    monkeypatch.setattr(transport.Transport, "connected", lambda _self, connection: connections.append(connection))
    registry.register("orders", "orders-1", "node-7", 80)
    for _ in range(5):
        client.service("orders")
        client.services()
    registry.trouble("*", Trouble.HTML)
    error_of(client.nodes)
    assert len(connections) == 1


# TLS.


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    """A server that goes by its name only and wants a client certificate."""
    pair = authority.server("server.dc1.consul")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tls_with_ca_client_certificate_and_server_name(
    authority: Authority, tls: ssl.SSLContext, connect: Connect
) -> None:
    pair = authority.client("client")
    names: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    fields = {"ca_file": authority.ca_file, "cert_file": pair.cert_file, "key_file": pair.key_file}
    with scripted(http(), tls) as (port, _):
        url = f"https://127.0.0.1:{port}"
        assert connect(url, tls_server_name="server.dc1.consul", **fields).nodes().body == {}
        assert connect(url, **fields).nodes().body == {}
        message = error_of(connect(url, tls_server_name="server.dc2.consul", **fields).nodes)
    assert "certificate verify failed: Hostname mismatch" in message
    assert names == ["server.dc1.consul", None, "server.dc2.consul"]


def test_a_server_that_nobody_vouches_for_is_an_error(
    authority: Authority, tls: ssl.SSLContext, connect: Connect
) -> None:
    with scripted(http(), tls) as (port, _):
        url = f"https://127.0.0.1:{port}"
        assert "certificate verify failed" in error_of(connect(url).nodes)
        missing = Path("/nonexistent/ca.pem")
        assert str(missing) in error_of(connect(url, ca_file=missing).nodes)
        without = error_of(connect(url, ca_file=authority.ca_file).nodes)
        assert without.startswith("consul-dc1: /v1/catalog/nodes: ")


def test_close_ends_a_query_over_tls(authority: Authority, connect: Connect) -> None:
    pair = authority.server("server.dc1.consul")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    with scripted(http(b" " * 1000), context, drip=0.1) as (port, asked):
        client = connect(f"https://127.0.0.1:{port}", ca_file=authority.ca_file)
        timer = threading.Timer(0.3, client.close)
        timer.start()
        begun = time.monotonic()
        assert error_of(client.nodes).endswith("the client was closed")
        timer.join()
        assert len(asked) == 1
        assert time.monotonic() - begun < 2


def test_a_client_that_is_closed_while_it_connects_asks_nothing(authority: Authority, connect: Connect) -> None:
    pair = authority.server("server.dc1.consul")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    asked: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        client.close()
        with context.wrap_socket(connection, server_side=True) as stream:
            asked.append(stream.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = connect(f"https://127.0.0.1:{listener.getsockname()[1]}", ca_file=authority.ca_file)
        server = threading.Thread(target=serve)
        server.start()
        assert error_of(client.nodes).endswith("the client was closed")
        server.join()
    assert asked == [b""]


def test_other_schemes_are_an_error(connect: Connect) -> None:
    assert "unix" in error_of(connect("unix:///run/consul.sock").nodes)
