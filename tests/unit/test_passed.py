"""Sockets that systemd passes on, in a process of its own: their descriptors are the first after the standard ones."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hooks.passed import place_of
from hooks.receiver import THREADS, Called, Receiver, Result
from hooks.settings import ReceiverSettings
from tests.testbed.processes import wait_until

CALL = b"POST /v1/consul/dc1/nodes HTTP/1.1\r\nHost: isthmus\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

# As systemd does it: the descriptors from 3 on, and the variables of the process that they are for.
CHILD = """
import json, logging, os, sys
descriptors, variables = json.loads(sys.argv[1])
for number, descriptor in enumerate(descriptors):
    os.dup2(descriptor, 100 + number)
for descriptor in range(3, 100):
    try:
        os.close(descriptor)
    except OSError:
        pass
for number in range(len(descriptors)):
    os.dup2(100 + number, 3 + number)
    os.close(100 + number)
for name, value in variables.items():
    os.environ[name] = value.replace("SELF", str(os.getpid()))
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
from hooks.passed import place_of, take_passed
taken = take_passed()
print(json.dumps({
    "places": [place_of(one) for one in taken],
    "inherited": [os.get_inheritable(one.fileno()) for one in taken],
    "told": [name for name in os.environ if name.startswith("LISTEN_")],
    "again": len(take_passed()),
}))
"""


class Taken(NamedTuple):
    """What a process made of what it was passed, and what it logged."""

    found: dict[str, Any]
    log: list[str]


def take(passed: Sequence[socket.socket | int], **variables: str) -> Taken:
    descriptors = [one if isinstance(one, int) else one.fileno() for one in passed]
    done = subprocess.run(
        (sys.executable, "-c", CHILD, json.dumps([descriptors, variables])),
        pass_fds=descriptors,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *log, found = done.stdout.splitlines()
    return Taken(json.loads(found), log)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def listening(stack: ExitStack, name: Path | str) -> socket.socket:
    bound = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    bound.bind(str(name))
    bound.listen(8)
    return bound


def test_unix_sockets_that_listen_are_taken_and_no_child_hears_of_them(stack: ExitStack, tmp_path: Path) -> None:
    sockets = [listening(stack, tmp_path / name) for name in ("a.sock", "b.sock")]
    found, log = take(sockets, LISTEN_PID="SELF", LISTEN_FDS="2", LISTEN_FDNAMES="a:b", LISTEN_PIDFDID="7")
    assert found == {
        "places": [str(tmp_path / "a.sock"), str(tmp_path / "b.sock")],
        "inherited": [False, False],
        "told": [],
        "again": 0,
    }
    assert log == []


def test_a_process_that_was_passed_nothing_says_nothing() -> None:
    for variables in ({}, {"LISTEN_PID": "SELF"}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "SELF", "LISTEN_FDS": "0"}):
        found, log = take([], **variables)
        assert (found["places"], found["told"], log) == ([], [], [])


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LISTEN_PID": "SELF", "LISTEN_FDS": "one"}, "ERROR * LISTEN_FDS='one' are no numbers; none is used"),
        ({"LISTEN_PID": "", "LISTEN_FDS": "1"}, "ERROR * LISTEN_PID='' and LISTEN_FDS='1' are no numbers"),
        ({"LISTEN_PID": "SELF", "LISTEN_FDS": "-1"}, "are no numbers; none is used"),
        ({"LISTEN_PID": "SELF", "LISTEN_FDS": "9" * 30}, "are no numbers; none is used"),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, "WARNING * are for process 1, not for this one"),
    ],
)
def test_variables_that_are_wrong_or_anothers_are_said_and_nothing_is_taken(
    stack: ExitStack, tmp_path: Path, variables: dict[str, str], words: str
) -> None:
    found, (line,) = take([listening(stack, tmp_path / "a.sock")], **variables)
    assert (found["places"], found["told"]) == ([], [])
    assert all(part in line for part in words.split(" * ")), line


def test_what_is_no_unix_socket_that_listens_is_said_and_the_rest_is_taken(stack: ExitStack, tmp_path: Path) -> None:
    tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    one, other = socket.socketpair()
    stack.enter_context(one)
    stack.enter_context(other)
    datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    datagrams.bind(str(tmp_path / "datagrams"))
    file = stack.enter_context((tmp_path / "file").open("w"))
    good = listening(stack, tmp_path / "good.sock")
    names = "tcp:connection:datagrams:file:good"
    passed: list[socket.socket | int] = [tcp, one, datagrams, file.fileno(), good]
    found, log = take(passed, LISTEN_PID="SELF", LISTEN_FDS="6", LISTEN_FDNAMES=names)
    assert found["places"] == [str(tmp_path / "good.sock")]
    refused = "ERROR sockets passed by systemd: descriptor"
    assert log == [
        f"{refused} 3 (tcp) is no unix socket that listens; it is not used",
        f"{refused} 4 (connection) is no unix socket that listens; it is not used",
        f"{refused} 5 (datagrams) is no unix socket that listens; it is not used",
        f"{refused} 6 (file) cannot be used: Socket operation on non-socket",
        f"{refused} 8 cannot be used: Bad file descriptor",
    ]


def test_a_number_beyond_all_descriptors_costs_one_line(stack: ExitStack, tmp_path: Path) -> None:
    found, log = take([listening(stack, tmp_path / "a.sock")], LISTEN_PID="SELF", LISTEN_FDS="99999999")
    assert found["places"] == [str(tmp_path / "a.sock")]
    assert log == ["ERROR sockets passed by systemd: descriptor 4 cannot be used: Bad file descriptor"]


def test_an_abstract_socket_has_a_name_as_systemd_writes_it(stack: ExitStack) -> None:
    assert place_of(listening(stack, f"\0isthmus-{os.getpid()}")) == f"@isthmus-{os.getpid()}"


# As the receiver's socket.


class Site:
    """A socket that was passed, whoever calls there, and a receiver that serves it."""

    def __init__(self, stack: ExitStack, folder: Path, settings: ReceiverSettings) -> None:
        self.path = folder / "hook.sock"
        self.systemd = listening(stack, self.path)
        self.heard: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.settings = settings
        self._stack = stack

    def receiver(self) -> Receiver:
        """Make the receiver of the next agent, which has started."""
        made = Receiver(self.settings, self._hear, [self.systemd.dup()])
        self._stack.callback(made.stop)
        made.start()
        return made

    def _hear(self, registry: str, kind: str, service: str) -> bool:
        self.heard.append(f"{registry} {kind} {service}")
        assert self.gate.wait(20)
        return True

    def connected(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(20)
        client.connect(str(self.path))
        return client

    def call(self) -> bytes:
        with self.connected() as client:
            client.sendall(CALL)
            return client.makefile("rb").readline()


@pytest.fixture
def site(stack: ExitStack, tmp_path: Path) -> Site:
    return Site(stack, tmp_path, ReceiverSettings())


def test_it_is_served_without_a_receiver_in_the_configuration_and_its_file_is_left_alone(site: Site) -> None:
    site.path.chmod(0o640)
    before = site.path.stat()
    for _ in range(2):
        receiver = site.receiver()
        assert b" 202 " in site.call()
        assert receiver.report().served == (str(site.path),)
        receiver.stop()
        assert receiver.report().served == ()
    after = site.path.stat()
    assert (after.st_ino, after.st_mode, after.st_ctime) == (before.st_ino, before.st_mode, before.st_ctime)
    assert len(site.heard) == 2


def test_a_configuration_that_names_the_same_path_binds_no_second_one(stack: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to("run")
    site = Site(stack, tmp_path / "run", ReceiverSettings(socket=tmp_path / "var" / "hook.sock"))
    assert site.receiver().report().served == (str(site.path),)
    assert b" 202 " in site.call()


def test_another_path_in_the_configuration_is_served_as_well(stack: ExitStack, tmp_path: Path) -> None:
    site = Site(stack, tmp_path, ReceiverSettings(socket=tmp_path / "other.sock"))
    receiver = site.receiver()
    assert receiver.report().served == (str(site.path), str(tmp_path / "other.sock"))
    for path in (site.path, tmp_path / "other.sock"):
        site.path = path
        assert b" 202 " in site.call()
    receiver.stop()
    assert not (tmp_path / "other.sock").exists()


def test_a_socket_that_lost_its_file_is_said(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.path.unlink()
    (fault,) = site.receiver().report().faults
    assert fault in caplog.text
    assert "has lost its file: restart its socket unit" in fault


def test_calls_that_queued_up_are_answered(site: Site) -> None:
    clients = [site.connected() for _ in range(5)]
    for client in clients:
        client.sendall(CALL)
    site.receiver()
    for client in clients:
        assert b" 202 " in client.makefile("rb").readline()
        client.close()
    assert len(site.heard) == 5


def test_calls_that_queued_up_are_heard_although_whoever_called_did_not_wait(site: Site) -> None:
    for _ in range(5):
        with site.connected() as client:
            client.sendall(CALL)
    receiver = site.receiver()
    wait_until(lambda: len(site.heard) == 5, "all are heard")
    assert receiver.report().calls == {Called("dc1", "nodes", Result.HEARD): 5}
    assert b" 202 " in site.call()


def test_whoever_is_being_heard_when_the_receiver_stops_is_answered_and_the_rest_waits_for_the_next(site: Site) -> None:
    receiver = site.receiver()
    site.gate.clear()
    clients = [site.connected() for _ in range(THREADS)]
    for client in clients:
        client.sendall(CALL)
    wait_until(lambda: len(site.heard) == THREADS, "they are being heard")
    stopping = threading.Thread(target=receiver.stop)
    stopping.start()
    stopping.join(0.1)  # it would not wait that long without a reason
    site.gate.set()
    stopping.join()
    for client in clients:
        assert b" 202 " in client.makefile("rb").readline()
        client.close()
    with site.connected() as late:
        late.sendall(CALL)
        site.receiver()
        assert b" 202 " in late.makefile("rb").readline()
