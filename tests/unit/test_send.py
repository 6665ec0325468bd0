import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from hooks import send
from hooks.receiver import Receiver
from hooks.server import bind_unix
from hooks.settings import ReceiverSettings

HOOK = [sys.executable, "-I", "-S", send.__file__]
DEADLINE = 30  # seconds, long after the hook's own


@pytest.fixture
def heard() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def path(tmp_path: Path, heard: list[tuple[str, str, str]]) -> Iterator[Path]:
    """The socket of a receiver that knows the registry dc1."""

    def hear(registry: str, kind: str, service: str) -> bool:
        heard.append((registry, kind, service))
        return registry == "dc1"

    receiver = Receiver(ReceiverSettings(socket=tmp_path / "hook.sock"), hear)
    assert receiver.start()
    yield tmp_path / "hook.sock"
    receiver.stop()


def hook(*arguments: str, stdin: str = "", environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run the hook as Consul does; return its exit code and what it said."""
    done = subprocess.run(
        [*HOOK, *arguments], input=stdin, capture_output=True, text=True, env=environment or {}, timeout=DEADLINE
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@contextmanager
def answering(path: Path, *answers: bytes) -> Iterator[list[bytes]]:
    """Listen at a path, answer each client with the next bytes, and give what they sent."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            for content in answers:
                client, _ = listening.accept()
                with client:
                    asked.append(client.recv(65_536))
                    with suppress(BrokenPipeError, ConnectionResetError):  # it reads no more than it wants to
                        client.sendall(content)

        thread = threading.Thread(target=answer)
        thread.start()
        yield asked
        thread.join()


@pytest.mark.parametrize(
    "called",
    [
        ("services",),
        ("nodes",),
        ("checks",),
        ("service", "orders"),
        ("service", "service"),
        ("service", "--socket"),
        ("service", "My Svc/1?#%&=+;\"'\\"),
        ("service", "a//b/../c/"),
        ("service", "€ 🚀\n"),
    ],
)
def test_what_the_arguments_say_is_what_the_agent_hears(
    path: Path, heard: list[tuple[str, str, str]], called: tuple[str, ...]
) -> None:
    assert hook("--socket", str(path), "dc1", *called) == (0, "")
    kind, service = (*called, "")[:2]
    assert heard == [("dc1", kind, service)]


@pytest.mark.parametrize("stdin", ["", "null\n", "{", "[" * 5_000_000])
def test_what_consul_writes_makes_no_difference(path: Path, heard: list[tuple[str, str, str]], stdin: str) -> None:
    done = subprocess.run([*HOOK, "--socket", str(path), "dc1", "nodes"], input=stdin.encode(), timeout=DEADLINE)
    assert done.returncode == 0
    assert len(heard) == 1


def test_an_input_that_never_ends_keeps_nobody_waiting(path: Path, heard: list[tuple[str, str, str]]) -> None:
    reading, writing = os.pipe()
    try:
        subprocess.run([*HOOK, "--socket", str(path), "dc1", "nodes"], stdin=reading, timeout=DEADLINE, check=True)
    finally:
        os.close(reading)
        os.close(writing)
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("index", "header"),
    [
        ("42", b"X-Consul-Index: 42\r\n"),
        ("10696309619734998510", b"X-Consul-Index: 10696309619734998510\r\n"),
        ("", b""),
        ("-1", b""),
        ("1\r\nX-Evil: 1", b""),
        ("²", b""),
    ],
)
def test_the_index_is_sent_when_it_is_one(tmp_path: Path, index: str, header: bytes) -> None:
    with answering(tmp_path / "s", b"HTTP/1.1 202 ACCEPTED\r\n\r\n") as asked:
        assert hook("--socket", str(tmp_path / "s"), "dc1", "nodes", environment={"CONSUL_INDEX": index}) == (0, "")
    assert asked == [
        b"POST /v1/consul/dc1/nodes HTTP/1.1\r\nHost: isthmus\r\n"
        + header
        + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    ]


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (b"HTTP/1.1 202 ACCEPTED\r\n\r\n", 0, ""),
        (b"HTTP/1.1 413 REQUEST ENTITY TOO LARGE\r\n\r\nheard, but", 0, ""),
        (b"HTTP/1.1 200 OK\r\n\r\n", 1, "answered 200 ''"),
        (b"HTTP/1.1 500 OOPS\r\n\r\nnot\nnow\x1b\n", 1, r"answered 500 'not\nnow\x1b'"),
        (b"HTTP/1.1 404 NOT FOUND\r\n\r\n" + b"x" * 3_000_000, 1, "answered 404 'xxx"),
        (b"", 1, "what answers there is no isthmus"),
        (b"HTTP/1.1\r\n\r\n", 1, "what answers there is no isthmus"),
        (b"SSH-2.0-OpenSSH 202 x\r\n", 1, "what answers there is no isthmus"),
        (b"\xff" * 100, 1, "what answers there is no isthmus"),
    ],
)
def test_only_an_agent_that_has_the_call_is_believed(tmp_path: Path, answer: bytes, code: int, words: str) -> None:
    path = tmp_path / "s"
    with answering(path, answer):
        found, said = hook("--socket", str(path), "dc1", "nodes")
    assert found == code
    assert said.count("\n") == code
    assert said.startswith(f"isthmus-hook: not delivered to {path}: {words}" if words else "")


def test_an_unknown_registry_is_said(path: Path) -> None:
    said = f"isthmus-hook: not delivered to {path}: answered 404 \"there is no registry 'dc9'\"\n"
    assert hook("--socket", str(path), "dc9", "nodes") == (1, said)


def test_without_an_agent_the_reason_is_said(tmp_path: Path) -> None:
    path = tmp_path / "hook.sock"
    said = f"isthmus-hook: not delivered to {path}: "
    assert hook("--socket", str(path), "dc1", "nodes") == (1, f"{said}No such file or directory\n")
    bind_unix(path, 0o660).close()
    assert hook("--socket", str(path), "dc1", "nodes") == (1, f"{said}Connection refused\n")
    code, said = hook("--socket", f"{tmp_path}/{'x' * 120}", "dc1", "nodes")
    assert (code, said.rpartition(": ")[2]) == (1, "AF_UNIX path too long\n")


def test_an_agent_that_hangs_is_given_up(tmp_path: Path) -> None:
    with ExitStack() as stack:

        def hanging(backlog: int) -> Path:
            """Listen, and never answer; without a backlog, the next one has to wait for who has connected."""
            path = tmp_path / f"{backlog}.sock"
            server, other = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
            server.bind(str(path))
            server.listen(backlog)
            other.connect(str(path))
            return path

        paths = [hanging(0), hanging(5)]
        with ThreadPoolExecutor() as pool:
            told = list(pool.map(lambda path: hook("--socket", str(path), "dc1", "nodes", stdin="{}"), paths))
    assert told == [(1, f"isthmus-hook: not delivered to {path}: no answer within 2 s\n") for path in paths]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--socket",),
        ("--socket", "S"),
        ("--socket", "S", "dc1"),
        ("--socket", "S", "dc1", "service"),
        ("--socket", "S", "dc1", "service", ""),
        ("--socket", "S", "", "nodes"),
        ("--socket", "", "dc1", "nodes"),
        ("--socket", "S", "dc1", "services", "orders"),
        ("--socket", "S", "dc1", "service", "orders", "more"),
        ("--socket", "S", "dc1", "event"),
        ("dc1", "services", "--socket", "S"),
        ("--sock", "S", "dc1", "services"),
    ],
)
def test_wrong_usage_is_2_and_says_the_usage(arguments: Sequence[str]) -> None:
    assert hook(*arguments) == (2, f"{send.USAGE}\n")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_the_usage(option: str) -> None:
    done = subprocess.run([*HOOK, option], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{send.USAGE}\n", "")


def test_it_imports_only_what_it_needs() -> None:
    """Each of these modules would cost more than delivering the call."""
    code = f"import sys, runpy; sys.argv[1:] = ['-h']\ntry: runpy.run_path({send.__file__!r}, run_name='__main__')"
    code += "\nfinally: print(sorted({'argparse', 'http', 'json', 'logging', 'urllib', 'pathlib', 'email', 'threading'}"
    code += " & sys.modules.keys() - before))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys, runpy\nbefore = set(sys.modules)\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
