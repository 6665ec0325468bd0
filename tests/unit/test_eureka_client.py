"""What comes of a server that answers badly: a sentence, in time, and nothing of it believed.

The servers are the tests' own, because no real Eureka shows these faults.
"""

import gzip
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hooks.eureka import bounded
from hooks.eureka.client import EurekaClient
from hooks.eureka.settings import EurekaSettings
from state.errors import RegistryError
from state.limits import Limits
from tests.scripted import http, scripted
from tests.testbed.pki import Authority
from tests.testbed.processes import free_port, wait_until
from tests.unit.rawserver import Connection, RawServer

LIMITS = Limits(connect_timeout=2.0, read_timeout=5.0)
HASTY = Limits(connect_timeout=0.2, read_timeout=0.3)
EMPTY = b'{"applications":{"versions__delta":"1","apps__hashcode":"","application":[]}}'

Connect = Callable[..., EurekaClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as open_clients:

        def connect(url: str, limits: Limits = LIMITS, **fields: Any) -> EurekaClient:
            client = EurekaClient(EurekaSettings(name="eureka-dc1", urls=(url,), **fields), limits)
            open_clients.callback(client.close)
            return client

        yield connect


def error_of(read: Callable[[], object]) -> str:
    with pytest.raises(RegistryError) as caught:
        read()
    return str(caught.value)


def always(code: int = 200, body: bytes = EMPTY, **headers: object) -> Callable[[Connection], None]:
    """Answer every request of a connection the same."""

    def serve(connection: Connection) -> None:
        while True:
            connection.ask()
            connection.answer(code=code, body=body, **headers)

    return serve


# Reading.


def test_everything_is_asked_for_as_json_over_one_kept_connection(connect: Connect) -> None:
    with RawServer(always()) as server:
        client = connect(f"{server.url}/eureka")
        assert (client.full(f"{server.url}/eureka"), client.delta(f"{server.url}/eureka")) == (EMPTY, EMPTY)
        assert len(server.connections) == 1
        for asked in server.asked:
            assert asked.headers["accept"] == "application/json"
            assert asked.headers["accept-encoding"] == "gzip"
            assert asked.headers["user-agent"] == "isthmus"
            assert "authorization" not in asked.headers
            assert "cookie" not in asked.headers


def test_no_cookie_is_kept(connect: Connect) -> None:
    with RawServer(always(Set_Cookie="JSESSIONID=1; Path=/")) as server:
        client = connect(server.url)
        client.full(server.url)
        client.full(server.url)
        assert [asked for asked in server.asked if "cookie" in asked.headers] == []


def test_a_packed_answer_is_unpacked(connect: Connect) -> None:
    with RawServer(always(body=gzip.compress(EMPTY), Content_Encoding="gzip")) as server:
        assert connect(server.url).full(server.url) == EMPTY


def test_a_host_name_that_the_library_refuses_is_no_obstacle(connect: Connect) -> None:
    # `_` is no letter of a host name, and yet of many an address in a container network.
    url = "http://eureka_1.invalid:8761/eureka"
    assert f"eureka-dc1: {url}/apps/: " in error_of(lambda: connect(url, HASTY).full(url))


def test_a_delta_that_the_server_does_not_give_is_none(connect: Connect) -> None:
    for code in (403, 404):
        with RawServer(always(code, b"")) as server:
            assert connect(server.url).delta(server.url) is None


def test_each_instance_that_is_asked_for_has_its_own_answer(connect: Connect) -> None:
    known = b'{"instance":{}}'

    def serve(connection: Connection) -> None:
        while True:
            code = {"orders-1": 200, "orders-2": 404}.get(connection.ask().service, 500)
            connection.answer(code=code, body=known if code == 200 else b"")

    with RawServer(serve) as server:
        asked = [("ORDERS", "orders-1"), ("ORDERS", "orders-2"), ("ORDERS", "orders-3")]
        answers = connect(server.url).instances(server.url, asked)
        assert (answers[asked[0]], answers[asked[1]]) == (known, None)
        assert str(answers[asked[2]]) == f"eureka-dc1: {server.url}/apps/ORDERS/orders-3: answered 500: (an empty body)"


@pytest.mark.parametrize("name", ["a b", "a/b", "a?b#c", "100%", "é🙂", "h:orders:8080"])
def test_an_instance_of_any_name_can_be_asked_for(connect: Connect, name: str) -> None:
    with scripted(http(b'{"instance":{}}')) as (port, requests):
        url = f"http://127.0.0.1:{port}/eureka"
        assert connect(url).instances(url, [("ORDERS", name)]) == {("ORDERS", name): b'{"instance":{}}'}
        path = requests[0].split(b" ")[1]
        assert path.count(b"/") == 4
        assert b"?" not in path


def test_many_instances_are_asked_for_over_few_connections(connect: Connect) -> None:
    with RawServer(always(body=b'{"instance":{}}')) as server:
        asked = [("ORDERS", str(number)) for number in range(100)]
        assert len(connect(server.url).instances(server.url, asked)) == 100
        assert server.most <= bounded.CONNECTIONS


def test_a_kept_connection_that_the_server_has_ended_is_made_anew(connect: Connect) -> None:
    def serve(connection: Connection) -> None:
        connection.ask()
        connection.answer(body=EMPTY)
        if connection.number == 0:
            connection.ask()  # and then it is gone, without a word

    with RawServer(serve) as server:
        client = connect(server.url)
        assert client.full(server.url) == client.full(server.url) == EMPTY
        assert len(server.connections) == 2


# Faults.


@pytest.mark.parametrize(
    ("code", "body", "headers", "said"),
    [
        (401, b"", {}, "answered 401: username and password_file are missing, or not those of this server"),
        (403, b"no", {}, "answered 403: it is warming up, or we may not read: no"),
        (404, b"", {}, "answered 404: (an empty body)"),
        (503, b"later\r\n\x00", {}, "answered 503: later"),
        (302, b"", {"Location": "/login"}, "answered 302, a redirect to /login, which is not followed"),
        (200, b"<!DOCTYPE html><p>", {}, "answered HTML, not JSON: is this the address of a Eureka server? <!DOCTYPE"),
        (200, b"<applications/>", {}, "answered XML, though JSON was asked for: is this the address of a Eureka"),
        (200, b"", {}, "answered not JSON: is this the address of a Eureka server? (an empty body)"),
        (200, b"[]", {}, "answered not JSON"),
        (200, b"{}", {"Content-Encoding": "gzip, gzip"}, "answered with Content-Encoding 'gzip, gzip'"),
        (200, b"{}", {"Content-Encoding": "gzip"}, "incorrect header check"),
    ],
)
def test_what_is_no_answer_of_a_eureka_server_is_told(
    connect: Connect, code: int, body: bytes, headers: dict[str, str], said: str
) -> None:
    with RawServer(always(code, body, **headers)) as server:
        said_so = error_of(lambda: connect(server.url).full(server.url))
        assert said_so.startswith(f"eureka-dc1: {server.url}/apps/: ")
        assert said in said_so


def test_a_redirect_is_not_followed(connect: Connect) -> None:
    with RawServer(always()) as other, RawServer(always(302, b"", Location=f"{other.url}/apps/")) as server:
        error_of(lambda: connect(server.url).full(server.url))
        assert not other.connections


def test_a_body_that_drips_ends_in_time(connect: Connect) -> None:
    def serve(connection: Connection) -> None:
        connection.ask()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{")
        while True:
            connection.rest(0.02)
            connection.send(b" ")

    with RawServer(serve) as server:
        begun = time.monotonic()
        assert "no whole answer within 0.5 s" in error_of(lambda: connect(server.url, HASTY).full(server.url))
        assert time.monotonic() - begun < 30  # for ever, if it were not for the limit
        wait_until(lambda: server.is_deserted, "the connection was ended")


def test_a_silent_server_is_not_waited_for(connect: Connect) -> None:
    with RawServer(lambda connection: connection.wait_for_end()) as server:
        assert "no answer within 0.3 s" in error_of(lambda: connect(server.url, HASTY).delta(server.url))


def test_instances_share_the_time_of_one_call(connect: Connect) -> None:
    with RawServer(lambda connection: connection.wait_for_end()) as server:
        asked = [("ORDERS", str(number)) for number in range(50)]
        answers = connect(server.url, HASTY).instances(server.url, asked)
        assert all(isinstance(answer, RegistryError) for answer in answers.values())
        assert len(server.connections) <= 2 * bounded.CONNECTIONS


def test_an_endless_body_is_refused(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LARGEST_BODY", 2**20)

    def serve(connection: Connection) -> None:
        connection.ask()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\n{")
        while True:
            connection.send(b" " * 2**16)

    with RawServer(serve) as server:
        assert "the body is larger than 1048576 bytes" in error_of(lambda: connect(server.url).full(server.url))
        wait_until(lambda: server.is_deserted, "the connection was ended")


def test_a_bomb_is_refused_before_it_is_whole(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LARGEST_BODY", 2**20)
    bomb = gzip.compress(b"{" + bytes(2**28))
    with RawServer(always(body=bomb, Content_Encoding="gzip")) as server:
        assert "the body is larger than 1048576 bytes" in error_of(lambda: connect(server.url).full(server.url))


def test_an_error_page_without_end_is_only_shown(connect: Connect) -> None:
    def serve(connection: Connection) -> None:
        connection.ask()
        connection.send(b"HTTP/1.1 500 Oh\r\n\r\n")
        while True:
            connection.send(b"Whitelabel Error Page " * 2**10)

    with RawServer(serve) as server:
        said = error_of(lambda: connect(server.url).full(server.url))
        assert "answered 500: Whitelabel Error Page" in said
        assert len(said) < 400


def test_a_truncated_body_is_no_answer(connect: Connect) -> None:
    def serve(connection: Connection) -> None:
        connection.ask()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + EMPTY)

    with RawServer(serve) as server:
        assert "peer closed connection" in error_of(lambda: connect(server.url).full(server.url))


def test_a_reset_is_told(connect: Connect) -> None:
    def serve(connection: Connection) -> None:
        connection.ask()
        connection.reset()

    with RawServer(serve) as server:
        assert "Connection reset by peer" in error_of(lambda: connect(server.url).full(server.url))
        assert len(server.connections) == 2


def test_nobody_at_the_address_is_told(connect: Connect) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert f"eureka-dc1: {url}/apps/: " in error_of(lambda: connect(url).full(url))


def test_after_a_failure_everything_is_well_again(connect: Connect) -> None:
    code = [503]

    def serve(connection: Connection) -> None:
        while True:
            connection.ask()
            connection.answer(code=code[0], body=EMPTY)

    with RawServer(serve) as server:
        client = connect(server.url)
        error_of(lambda: client.full(server.url))
        code[0] = 200
        assert client.full(server.url) == EMPTY


# Credentials.


def test_a_password_comes_from_its_file_whenever_it_is_asked_for(connect: Connect, tmp_path: Path) -> None:
    file = tmp_path / "password"
    with RawServer(always()) as server:
        client = connect(server.url, username="isthmus", password_file=file)
        for password in ("first", "s e:cond ü"):
            file.write_text(f"{password}\n")
            client.full(server.url)
        assert [asked.headers["authorization"] for asked in server.asked] == [
            "Basic aXN0aG11czpmaXJzdA==",
            "Basic aXN0aG11czpzIGU6Y29uZCDDvA==",
        ]


def test_a_password_is_never_shown(connect: Connect, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2")
    sent = b64encode(b"isthmus:hunter2").decode()
    with RawServer(always(500, f"we know hunter2 and Basic {sent}".encode())) as server:
        said = error_of(lambda: connect(server.url, username="isthmus", password_file=file).full(server.url))
        assert "we know *** and Basic ***" in said
        assert "hunter2" not in said


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read: No such file"), ("", "is empty"), ("a\nb", "more than one line")]
)
def test_a_bad_password_file_is_named(connect: Connect, tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    with RawServer(always()) as server:
        told = error_of(lambda: connect(server.url, username="isthmus", password_file=file).full(server.url))
        assert told.startswith(f"eureka-dc1: password file {file} ")
        assert said in told
        assert not server.connections


def test_a_server_is_known_by_its_certificate(connect: Connect, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "two", "other")
    pair = authority.server("eureka.dc1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pair.cert_file, pair.key_file)
    with scripted(http(EMPTY), tls) as (port, _):
        url = f"https://127.0.0.1:{port}"
        assert connect(url, ca_file=authority.ca_file).full(url) == EMPTY
        assert connect(url, ca_file=authority.ca_file, tls_server_name="eureka.dc1").full(url) == EMPTY
        wrong = connect(url, ca_file=authority.ca_file, tls_server_name="eureka.dc2")
        assert "eureka.dc2" in error_of(lambda: wrong.full(url))
        assert "certificate verify failed" in error_of(lambda: connect(url, ca_file=other.ca_file).full(url))
        missing = connect(url, ca_file=tmp_path / "no.pem")
        assert error_of(lambda: missing.full(url)) == f"eureka-dc1: {tmp_path / 'no.pem'} is not there"


# The end.


def test_a_call_in_flight_is_ended_by_another_thread(connect: Connect) -> None:
    with RawServer(lambda connection: connection.wait_for_end()) as server:
        client = connect(server.url, Limits(read_timeout=600.0))

        def close() -> None:
            wait_until(lambda: bool(server.connections), "it asks")
            client.close()

        thread = threading.Thread(target=close)
        thread.start()
        assert error_of(lambda: client.full(server.url)) == "eureka-dc1: the client was closed"
        thread.join()
        assert error_of(lambda: client.full(server.url)) == "eureka-dc1: the client was closed"


def test_a_closed_client_leaves_no_connection(connect: Connect) -> None:
    with RawServer(always()) as server:
        client = connect(server.url)
        client.full(server.url)
        client.close()
        client.close()
        wait_until(lambda: server.is_deserted, "the connection was ended")
