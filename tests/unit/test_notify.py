import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where systemd listens."""
    path = f"@isthmus-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path.replace("@", "\0", 1))
        listening.settimeout(1)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield listening


def test_systemd_is_told(systemd: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready()
    assert systemd.recv(1000) == b"READY=1"
    notifier.reloading()
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=[0-9]+", systemd.recv(1000))
    notifier.stopping()
    assert systemd.recv(1000) == b"STOPPING=1"


def test_a_status_is_told_once(systemd: socket.socket) -> None:
    notifier = Notifier()
    for sentence in ("all is well", "all is well", "one is not"):
        notifier.status(sentence)
    assert [systemd.recv(1000), systemd.recv(1000)] == [b"STATUS=all is well", b"STATUS=one is not"]
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(1000)


def test_the_watchdog_hears_no_more_beats_than_it_wants(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    notifier = Notifier()
    assert notifier.interval == 20
    notifier.beat()
    notifier.beat()
    assert systemd.recv(1000) == b"WATCHDOG=1"
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(1000)


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "1"}])
def test_without_a_watchdog_of_ours_nothing_beats(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Notifier().beat()
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(1000)


def test_nobody_needs_to_listen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready()
    assert caplog.messages == []
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    Notifier().ready()
    assert caplog.messages == ["systemd cannot be told READY: No such file or directory"]
