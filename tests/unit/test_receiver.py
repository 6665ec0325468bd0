import logging
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from hooks.calls import LARGEST_BODY
from hooks.receiver import Called, Receiver, Result
from hooks.server import bind_tcp, bind_unix
from hooks.settings import ReceiverSettings
from tests.testbed.processes import free_port, wait_until

MIB = 2**20
TOKEN = "sesame-1"


class Ears:
    """Whoever hears the hints: it knows the registry dc1."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []

    def __call__(self, registry: str, kind: str, service: str) -> bool:
        if registry == "dc1":
            self.heard.append((registry, kind, service))
        return registry == "dc1"


@pytest.fixture
def settings(tmp_path: Path) -> ReceiverSettings:
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    return ReceiverSettings(
        socket=tmp_path / "hook.sock", http=("127.0.0.1", free_port()), token_file=tmp_path / "tokens"
    )


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
def receiver(settings: ReceiverSettings, ears: Ears) -> Iterator[Receiver]:
    receiver = Receiver(settings, ears)
    assert receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture
def running(receiver: Receiver, settings: ReceiverSettings) -> ReceiverSettings:
    """Where a receiver listens."""
    assert receiver.report().faults == ()
    return settings


@pytest.fixture
def http(running: ReceiverSettings) -> Iterator[httpx.Client]:
    """Consul over TCP, with the token."""
    assert running.http is not None
    with httpx.Client(
        base_url="http://{}:{}/v1/consul/".format(*running.http),
        headers={"Authorization": f"Bearer {TOKEN}"},
        trust_env=False,
        timeout=20,
    ) as client:
        yield client


@pytest.fixture
def unix(running: ReceiverSettings) -> Iterator[httpx.Client]:
    """The hook over the unix socket, without a token."""
    transport = httpx.HTTPTransport(uds=str(running.socket))
    with httpx.Client(transport=transport, base_url="http://isthmus/v1/consul/", timeout=20) as client:
        yield client


def head(*lines: str, path: str = "/v1/consul/dc1/nodes", version: str = "1.1") -> bytes:
    first = f"POST {path} HTTP/{version}"
    return "\r\n".join([first, "Host: isthmus", f"Authorization: Bearer {TOKEN}", *lines, "", ""]).encode()


@contextmanager
def connected(settings: ReceiverSettings, sent: bytes = b"") -> Iterator[socket.socket]:
    assert settings.http is not None
    with socket.create_connection(settings.http, timeout=20) as client:
        client.sendall(sent)
        yield client


def answer(settings: ReceiverSettings, *sent: bytes) -> str:
    """Return the status line of the answer to bytes after which the client says no more."""
    with connected(settings, b"".join(sent)) as client:
        with suppress(OSError):  # the server may have ended the connection already, and not read all of it
            client.shutdown(socket.SHUT_WR)
        return client.makefile("rb").readline().decode().strip()


def total(receiver: Receiver, result: Result) -> int:
    return sum(number for called, number in receiver.report().calls.items() if called.result is result)


# What is heard.


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("dc1/services", ("dc1", "services", "")),
        ("dc1/nodes", ("dc1", "nodes", "")),
        ("dc1/checks", ("dc1", "checks", "")),
        ("dc1/service/orders", ("dc1", "service", "orders")),
        ("dc1/service/services", ("dc1", "service", "services")),
        ("dc1/service/a%2Fb", ("dc1", "service", "a/b")),
        ("dc1/service/a/b/", ("dc1", "service", "a/b/")),
        ("dc1/service/a%2F%2Fb", ("dc1", "service", "a//b")),
        ("dc1/service/%2Fa", ("dc1", "service", "/a")),
        ("dc1/service/..%2F..", ("dc1", "service", "../..")),
        ("dc1/service/My%20Svc%3F%23%25", ("dc1", "service", "My Svc?#%")),
        ("dc1/service/%E2%82%AC%F0%9F%9A%80", ("dc1", "service", "€🚀")),
        ("dc1/service/a%0Ab", ("dc1", "service", "a\nb")),
        ("dc1/service/%FF", ("dc1", "service", "\N{REPLACEMENT CHARACTER}")),
    ],
)
def test_a_call_is_heard_over_both(
    unix: httpx.Client, http: httpx.Client, ears: Ears, receiver: Receiver, path: str, hint: tuple[str, str, str]
) -> None:
    for client in (unix, http):
        reply = client.post(path, content=b"{}")
        assert (reply.status_code, reply.content) == (202, b"")
    assert ears.heard == [hint, hint]
    report = receiver.report()
    assert report.calls == {Called("dc1", hint[1], Result.HEARD): 2}
    assert report.body_bytes == 4
    assert report.last.keys() == {"dc1"}
    assert report.faults == ()


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({}, b"{"),
        ({}, b"\x00\xff" * 1000),
        ({}, b'{"orders": ['),
        ({"Content-Type": "application/json"}, b"nonsense"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b&" * 100_000),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\n"),
        ({"Content-Encoding": "gzip"}, b"not zipped"),
        ({"X-Consul-Index": "18446744073709551615"}, b"[]"),
        ({"X-Consul-Index": "none"}, b"null"),
    ],
)
def test_nothing_in_a_body_or_header_is_believed_or_minded(
    unix: httpx.Client, ears: Ears, headers: dict[str, str], body: bytes
) -> None:
    assert unix.post("dc1/checks", content=body, headers=headers).status_code == 202
    assert ears.heard == [("dc1", "checks", "")]


@pytest.mark.parametrize(
    "sent",
    [
        [head()],
        [head(version="1.0")],
        [head("Content-Length: 1000"), b"cut off"],
        [head("Content-Length: 1000")],
        [head("Transfer-Encoding: chunked"), b"2\r\n{}\r\n0\r\n\r\n"],
        [head("Transfer-Encoding: chunked"), b"2\r\n{}"],
        [head("Transfer-Encoding: chunked"), b"what?\r\n"],
        [head("Transfer-Encoding: chunked"), b"2\r\n{}oops"],
        [head("Expect: 100-continue", "Content-Length: 1000")],
    ],
)
def test_a_call_whose_body_does_not_come_as_announced_is_heard(
    running: ReceiverSettings, ears: Ears, sent: list[bytes]
) -> None:
    assert answer(running, *sent).split(maxsplit=1)[1] in ("202 ACCEPTED", "100 Continue")
    wait_until(lambda: ears.heard == [("dc1", "nodes", "")], "it was heard")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n\r\n",
        b"POST /v1/consul/dc1/nodes HTTP/1.1\r\nHost:",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        head("Content-Length: many"),
        head("Content-Length: -1"),
        head("Content-Length: " + "9" * 5000),
        head("Transfer-Encoding: gzip"),
        head("X: " + 300_000 * "x"),
    ],
)
def test_what_is_no_request_is_not_heard_and_does_no_harm(
    http: httpx.Client, settings: ReceiverSettings, ears: Ears, sent: bytes
) -> None:
    with suppress(ConnectionResetError):
        assert not answer(settings, sent).split(" ", 1)[-1].startswith("2")
    assert ears.heard == []
    assert http.post("dc1/nodes").status_code == 202


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("size", "code"), [(LARGEST_BODY, 202), (LARGEST_BODY + 1, 413), (65 * MIB, 413)])
def test_a_large_body_is_dropped_and_one_that_is_too_large_is_a_hint_all_the_same(
    http: httpx.Client, ears: Ears, receiver: Receiver, size: int, code: int, chunked: bool
) -> None:
    body = b"x" * size
    reply = http.post("dc1/checks", content=(body[at : at + MIB] for at in range(0, size, MIB)) if chunked else body)
    assert reply.status_code == code
    assert ears.heard == [("dc1", "checks", "")]
    result = Result.HEARD if code == 202 else Result.TOO_LARGE
    assert receiver.report().calls == {Called("dc1", "checks", result): 1}
    assert http.post("dc1/checks").status_code == 202


def test_a_body_is_kept_nowhere(running: ReceiverSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Waitress would put it into a temporary file, and there is no folder for one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with connected(running, head(f"Content-Length: {32 * MIB}")) as client:
        for _ in range(32):
            client.sendall(b"x" * MIB)
        assert client.recv(100).startswith(b"HTTP/1.1 202")


# What is refused.


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "dc9/services", 404),
        ("POST", "dc9/service/orders", 404),
        ("POST", "dc1", 404),
        ("POST", "dc1/", 404),
        ("POST", "dc1/event", 404),
        ("POST", "dc1/Services", 404),
        ("POST", "dc1/service", 404),
        ("POST", "dc1/service/", 404),
        ("POST", "dc1/services/orders", 404),
        ("POST", "dc1/services/", 404),
        ("POST", "../eureka/dc1/apps", 404),
        ("GET", "dc1/services", 405),
        ("PUT", "dc1/service/orders", 405),
        ("OPTIONS", "dc1/nodes", 405),
        ("HEAD", "dc1/nodes", 405),
    ],
)
def test_what_is_not_known_or_not_meant_is_refused_and_not_heard(
    unix: httpx.Client, ears: Ears, receiver: Receiver, method: str, path: str, code: int
) -> None:
    assert unix.request(method, path).status_code == code
    assert ears.heard == []
    result = Result.UNKNOWN if code == 404 else Result.WRONG_METHOD
    assert receiver.report().calls == {Called("", "", result): 1}
    assert receiver.report().last == {}


def test_a_body_that_is_too_large_for_an_unknown_registry_is_no_hint(http: httpx.Client, ears: Ears) -> None:
    assert http.post("dc9/checks", content=b"x" * 65 * MIB).status_code == 404
    assert ears.heard == []


def test_a_refusal_is_logged_once(unix: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")  # whatever a command that ran before has set
    for _ in range(3):
        assert unix.post("dc9/services").text == "there is no registry 'dc9'\n"
        unix.post("dc1/event")
    unix.post("evil%0Aname/services")
    assert [record.getMessage() for record in caplog.records if record.name == "hooks.receiver"] == [
        "receiver: a call is refused: there is no registry 'dc9'",
        "receiver: a call is refused: 'POST /v1/consul/dc1/event' is no POST of /v1/consul/REGISTRY/TYPE[/SERVICE]",
        r"receiver: a call is refused: there is no registry 'evil\nname'",
    ]


# Who may call.


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer sesame",
        b"Bearer sesame-1x",
        b"Bearer sesame-1 sesame-1",
        b"Basic sesame-1",
        b"sesame-1",
        b"Bearer \xff\xfe",
        "Bearer €".encode(),
    ],
)
def test_a_call_without_the_right_token_is_answered_401_without_a_body_whatever_it_says(
    http: httpx.Client, ears: Ears, receiver: Receiver, given: bytes | None
) -> None:
    del http.headers["Authorization"]
    headers = {} if given is None else {b"Authorization": given}
    for method, path in (("POST", "dc1/services"), ("GET", "dc1/services"), ("POST", "dc9/services"), ("POST", "x")):
        reply = http.request(method, path, headers=headers, content=b"{}")
        assert (reply.status_code, reply.content) == (401, b"")
    large = http.post("dc1/services", headers=headers, content=b"x" * 65 * MIB)
    assert large.status_code == 401
    assert ears.heard == []
    assert receiver.report().calls == {Called("", "", Result.UNAUTHORISED): 5}


def test_each_of_several_tokens_may_call(http: httpx.Client, settings: ReceiverSettings) -> None:
    assert settings.token_file is not None
    settings.token_file.write_text(f"\nnew\n\n  {TOKEN}  \r\n")
    for scheme, token, code in (("Bearer", "new", 202), ("bearer", TOKEN, 202), ("Bearer", f"new\n{TOKEN}", 401)):
        header = f"{scheme} {token}".encode().replace(b"\n", b" ")
        assert http.post("dc1/nodes", headers={b"Authorization": header}).status_code == code


def test_a_new_token_needs_no_restart_and_an_old_one_ends_with_it(
    http: httpx.Client, settings: ReceiverSettings
) -> None:
    assert settings.token_file is not None
    assert http.post("dc1/nodes").status_code == 202
    settings.token_file.write_text("sesame-2")  # as long as the one before, and perhaps in the same tick of the clock
    assert http.post("dc1/nodes").status_code == 401
    assert http.post("dc1/nodes", headers={"Authorization": "Bearer sesame-2"}).status_code == 202


def unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda path: path.unlink(), "cannot be read: No such file or directory"),
        (unreadable, "cannot be read: Is a directory"),
        (lambda path: path.write_text(""), "is empty"),
        (lambda path: path.write_text(" \n\n\t\n"), "is empty"),
        (lambda path: path.write_text(f"{TOKEN}\ntwo words\n"), "line 2: a token is one word of ASCII"),
        (lambda path: path.write_text("sésame\n"), "line 1: a token is one word of ASCII"),
        (lambda path: path.write_text(f"{TOKEN}\n" * 10_000), "is larger than 65536 bytes"),
    ],
)
def test_while_the_token_file_cannot_be_used_nobody_may_call_and_the_log_says_why_once(
    http: httpx.Client,
    unix: httpx.Client,
    settings: ReceiverSettings,
    caplog: pytest.LogCaptureFixture,
    break_it: Callable[[Path], object],
    words: str,
) -> None:
    assert settings.token_file is not None
    break_it(settings.token_file)
    for token in (TOKEN, "x", "two words"):
        assert http.post("dc1/nodes", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    (record,) = (record for record in caplog.records if record.name == "hooks.tokens")
    assert record.levelno == logging.ERROR
    assert words in record.getMessage()
    assert "sesame" not in caplog.text
    assert unix.post("dc1/nodes").status_code == 202
    with suppress(OSError):
        settings.token_file.rmdir()
    settings.token_file.write_text(TOKEN)
    assert http.post("dc1/nodes").status_code == 202


def test_a_wrong_token_is_logged_once_and_never_shown(http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")  # whatever a command that ran before has set
    for number in range(3):
        http.post("dc1/nodes", headers={"Authorization": f"Bearer guess-{number}"})
    (record,) = (record for record in caplog.records if record.name == "hooks.tokens")
    assert "their bearer token is not in token file" in record.getMessage()
    assert "guess" not in caplog.text
    assert TOKEN not in caplog.text


def test_without_a_token_file_no_port_is_opened(settings: ReceiverSettings, ears: Ears) -> None:
    assert settings.http is not None
    receiver = Receiver(ReceiverSettings(http=settings.http), ears)
    assert not receiver.start()
    assert "without a token_file whoever can connect could call" in receiver.report().faults[0]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(settings.http)


# Many at once, and slow ones.


def test_calls_are_answered_beside_200_that_are_half_open(
    http: httpx.Client, unix: httpx.Client, settings: ReceiverSettings, ears: Ears
) -> None:
    with ExitStack() as stack:
        for number in range(200):
            sent = b"POST /v1/consul/dc1/ch" if number % 2 else head("Content-Length: 100") + b"drip"
            stack.enter_context(connected(settings, sent))
        for client in (http, unix):
            assert client.post("dc1/services", content=b"{}").status_code == 202
        assert ears.heard == [("dc1", "services", "")] * 2


def test_a_call_that_drips_for_too_long_is_ended(
    ears: Ears, settings: ReceiverSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hooks.server.QUIET", 1)
    monkeypatch.setattr("hooks.server.LOOK", 1)
    receiver = Receiver(settings, ears)
    receiver.start()
    with connected(settings, head("Content-Length: 100000")) as client:
        client.settimeout(0.05)

        def is_over() -> bool:
            try:
                client.sendall(b"x")
                return client.recv(100) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        wait_until(is_over, "the connection is closed, although it was never silent")
    receiver.stop()


def test_200_at_once_are_all_heard(receiver: Receiver, settings: ReceiverSettings, ears: Ears) -> None:
    with ExitStack() as stack:
        for number in range(200):
            stack.enter_context(
                connected(settings, head("Content-Length: 0", path=f"/v1/consul/dc1/service/s{number}"))
            )
        wait_until(lambda: len(ears.heard) == 200, "all are heard")
    assert {service for _, _, service in ears.heard} == {f"s{number}" for number in range(200)}
    assert total(receiver, Result.HEARD) == 200


# Where it listens.


def test_the_socket_is_for_owner_and_group_and_goes_with_the_receiver(settings: ReceiverSettings, ears: Ears) -> None:
    before = threading.active_count()
    receiver = Receiver(settings, ears)
    assert receiver.start()
    assert settings.socket is not None
    assert stat.S_IMODE(settings.socket.stat().st_mode) == 0o660
    receiver.stop()
    assert not settings.socket.exists()
    wait_until(lambda: threading.active_count() <= before, "all threads end")
    assert receiver.start()  # on the same port, at once
    receiver.stop()


def test_only_what_is_asked_for_is_served(settings: ReceiverSettings, ears: Ears, tmp_path: Path) -> None:
    receiver = Receiver(ReceiverSettings(socket=tmp_path / "deep/er/hook.sock"), ears)
    assert receiver.start()
    assert settings.http is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(settings.http)
    receiver.stop()
    assert (tmp_path / "deep/er").is_dir()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("tokens", "Address already in use"),
        ("tokens/hook.sock", "File exists"),
        (f"{'x' * 120}.sock", "AF_UNIX path too long"),
    ],
)
def test_a_socket_that_cannot_be_had_costs_only_the_socket(
    settings: ReceiverSettings, ears: Ears, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str, words: str
) -> None:
    path = tmp_path / place
    receiver = Receiver(ReceiverSettings(socket=path, http=settings.http, token_file=settings.token_file), ears)
    assert not receiver.start()
    assert f"receiver: {path}: {words}; watch handlers cannot call there" in caplog.text
    assert receiver.report().faults == (f"{path}: {words}",)
    assert answer(settings, head()).endswith("202 ACCEPTED")
    receiver.stop()
    assert (tmp_path / "tokens").read_text() == f"{TOKEN}\n"


def test_a_port_that_is_taken_costs_only_the_port(
    settings: ReceiverSettings, ears: Ears, caplog: pytest.LogCaptureFixture
) -> None:
    assert settings.http is not None
    assert settings.socket is not None
    with bind_tcp(*settings.http) as other:
        other.listen()
        receiver = Receiver(settings, ears)
        assert not receiver.start()
    assert f"port {settings.http[1]} of 127.0.0.1: Address already in use" in caplog.text
    assert settings.socket.is_socket()
    receiver.stop()


def test_a_second_agent_does_not_steal_the_socket(running: ReceiverSettings, ears: Ears) -> None:
    other = Receiver(ReceiverSettings(socket=running.socket), ears)
    assert not other.start()
    assert "another agent answers there" in other.report().faults[0]
    other.stop()
    assert running.socket is not None
    assert running.socket.is_socket()


def test_a_socket_that_was_left_over_is_replaced_and_one_that_took_our_place_is_left_alone(
    settings: ReceiverSettings, ears: Ears
) -> None:
    assert settings.socket is not None
    bind_unix(settings.socket, 0o660).close()
    receiver = Receiver(settings, ears)
    assert receiver.start()
    settings.socket.unlink()
    with bind_unix(settings.socket, 0o660):
        receiver.stop()
        assert settings.socket.is_socket()
    os.unlink(settings.socket)


def test_it_listens_on_an_ipv6_loopback_too(settings: ReceiverSettings, ears: Ears) -> None:
    port = free_port()
    receiver = Receiver(ReceiverSettings(http=("::1", port), token_file=settings.token_file), ears)
    assert receiver.start()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.post(f"http://[::1]:{port}/v1/consul/dc1/nodes", headers=headers, trust_env=False).status_code == 202
    receiver.stop()


def test_the_last_words_count_what_was_heard(
    settings: ReceiverSettings, ears: Ears, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    receiver = Receiver(settings, ears)
    receiver.start()
    for path in ("/v1/consul/dc1/nodes", "/v1/consul/dc1/checks", "/v1/consul/dc2/nodes"):
        with connected(settings, head(path=path)) as client:
            assert client.recv(1000)
    receiver.stop()
    assert "receiver: closed; calls heard in this life: 2" in caplog.messages


def test_a_receiver_ends_while_clients_are_connected(settings: ReceiverSettings, ears: Ears) -> None:
    receiver = Receiver(settings, ears)
    receiver.start()
    with connected(settings, head("Content-Length: 100")) as client:
        receiver.stop()
        with suppress(ConnectionResetError):
            assert client.recv(10) == b""
