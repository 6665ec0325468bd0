"""What the main thread of `isthmus run` does: it heeds signals, and tells systemd how the service is."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.cli.logs import Lines
from agent.cli.opening import clusters_of
from agent.cli.progress import FirstSync
from agent.cli.run import Signals
from agent.cli.running import Life, sentence
from agent.daemon import Agent, remembering
from agent.demo.registry import EmbeddedRegistry, Trouble
from agent.notify import Notifier
from agent.service import Service
from state.checkpoint import Checkpoint
from tests.dc import LIMITS, configured
from tests.testbed.processes import wait_until

# Imports that take their time, as on a machine that is busy.
SLOW = """
import sys, time
class Slow:
    def find_spec(self, name, *_):
        if name == "agent.cli.running":
            print("importing", flush=True)
            time.sleep(1)
sys.meta_path.insert(0, Slow())
from agent.cli import main
main(["run", "--config", sys.argv[1]])
"""


@pytest.fixture
def signals() -> Iterator[Signals]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield Signals()
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_signals_are_noted_and_end_the_waiting(signals: Signals) -> None:
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGHUP)
    for _ in range(3):
        signals.wait(600)
    assert (signals.reload, signals.stop) == (True, False)
    os.kill(os.getpid(), signal.SIGTERM)
    signals.wait(600)
    assert signals.stop


def test_a_second_interrupt_ends_at_once(signals: Signals) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    signals.wait(600)
    assert signals.stop
    assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def test_a_stop_that_comes_before_everything_is_imported_ends_with_0(tmp_path: Path) -> None:
    with EmbeddedRegistry() as registry:
        configured(tmp_path, registry.url)
        command = (sys.executable, "-c", SLOW, str(tmp_path / "isthmus.yaml"))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == "importing\n"
            run.send_signal(signal.SIGTERM)
            _, log = run.communicate(timeout=60)
    assert run.returncode == 0, log
    assert "INFO stopping" in log


class Told:
    """A main thread's look, and what systemd heard of it."""

    def __init__(self, folder: Path, url: str, listening: socket.socket, deadline: str) -> None:
        config = configured(folder, url, limits={**LIMITS, "deadline": deadline})
        self.file = folder / "isthmus.yaml"
        self.checkpoint = Checkpoint.open(config.state)
        remembering(config, self.checkpoint)
        self.service = Service(config, lambda new: Agent(new, self.checkpoint, clusters_of(new)))
        self.life = Life(self.service, Notifier(), FirstSync(self.service.current, Lines()))
        self._listening = listening

    def heard(self) -> list[str]:
        """Return what is heard since the last time."""
        found = []
        while True:
            try:
                found.append(self._listening.recv(1000).decode())
            except BlockingIOError:
                return found

    def look(self) -> list[str]:
        self.life.look()
        return self.heard()


@pytest.fixture
def deadline() -> str:
    return "60s"


@pytest.fixture
def told(registry: EmbeddedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadline: str) -> Iterator[Told]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "3")
        found = Told(tmp_path, registry.url, listening, deadline)
        with closing(found.checkpoint):
            yield found
            found.service.stop()


def test_it_is_ready_once_everything_was_read(told: Told) -> None:
    assert told.look() == [
        "WATCHDOG=1",
        "STATUS=0 of 1 registries and 0 of 2 clusters work; 0 changes pending, 0 removals held",
    ]
    told.service.start()
    wait_until(told.service.current().is_ready, "everything was read")
    assert "READY=1" in told.look()
    assert "READY=1" not in told.look()
    wait_until(lambda: sentence(told.service.current()).startswith("1 of 1 registries and 2 of 2"), "all work")


def test_what_cannot_be_read_does_not_hold_it_up(told: Told, registry: EmbeddedRegistry) -> None:
    registry.trouble("*", Trouble.ERROR)
    told.service.start()
    wait_until(told.service.current().is_ready, "the registry is known to fail")
    assert "READY=1" in told.look()
    assert sentence(told.service.current()).startswith("0 of 1 registries")


def test_a_reload_is_told_with_its_end(told: Told) -> None:
    told.service.start()
    wait_until(told.service.current().is_ready, "everything was read")
    told.look()
    told.life.reload(told.file)
    begun, done = told.heard()
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", begun)
    assert done == "READY=1"


def test_a_reload_before_it_is_ready_makes_it_ready_no_sooner(told: Told, registry: EmbeddedRegistry) -> None:
    registry.trouble("*", Trouble.SILENT)
    told.service.start()
    told.life.reload(told.file)
    assert told.heard() == []
    registry.mend()
    wait_until(lambda: "READY=1" in told.look(), "it is ready in the end")


@pytest.mark.parametrize("deadline", ["1s"])
def test_what_is_stuck_is_logged_once_and_ends_the_beat(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    told.service.start()
    agent = told.service.current()
    wait_until(agent.is_ready, "everything was read")
    told.look()
    with agent.view.lock:  # as a thread would that never gives it back
        wait_until(lambda: agent.stuck(time.monotonic()) != "", "it is stuck")
        told.heard()
        assert [told.look() for _ in range(3)] == [[], [], []]
    assert len([message for message in caplog.messages if message.startswith("stuck: ")]) == 1
    wait_until(lambda: "WATCHDOG=1" in told.look(), "it beats again when it moves")


def test_it_looks_as_often_as_the_watchdog_wants_to_hear(told: Told) -> None:
    assert told.life.look() == pytest.approx(1e-6)
