"""The hook's socket as systemd passes it, by systemd's own tool: it listens, and runs the command at the first call."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hooks import send
from tests.integration.agents import COMMAND, RunningAgent, configuration
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.processes import Process, wait_until

ACTIVATE = "systemd-socket-activate"
DIRECTORY = {"review": {"directory": "review", "namespace": "legacy"}}


def activated(socket: Path, *command: str) -> tuple[str, ...]:
    """Return the command that waits at a socket and becomes another one at the first call."""
    tool = shutil.which(ACTIVATE)
    assert tool, f"{ACTIVATE} is missing: `make needs` installs it"
    return (tool, "--listen", str(socket), *command)


class Activated(RunningAgent):
    """An agent, or a single run, that is not there before somebody calls."""

    def __init__(self, folder: Path, config: Mapping[str, Any], verb: str = "run") -> None:
        super().__init__(folder, config)
        self.folder = folder
        self.hook = folder / "hook.sock"
        run = (COMMAND, verb, "--config", str(self.config_file))
        self.process = Process("isthmus", activated(self.hook, *run), folder / "isthmus.log")

    def log(self) -> str:
        return self.process.log.read_text()

    def call(self, kind: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Call as a watch of Consul does."""
        command = (sys.executable, "-I", "-S", send.__file__, "--socket", str(path or self.hook), "consul-dc1", kind)
        return subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
        )

    def wake(self) -> None:
        """Let a call start the agent, and wait until it was heard: on a busy machine longer than a handler waits."""
        done = self.call("services")
        assert (done.returncode, done.stderr) == (0, "") or "no answer within 2 s" in done.stderr
        wait_until(self.control.is_socket, "the agent runs")
        wait_until(lambda: self.calls() == {"services": 1}, "the call was heard")

    def calls(self) -> dict[str, int]:
        """Count the calls that the agent has heard, by their type."""
        found: dict[str, int] = {}
        for row in self.status()["receiver"]["calls"]:
            found[row["kind"]] = found.get(row["kind"], 0) + row["calls"]
        return found


@pytest.fixture
def consul(make_consul: MakeConsul) -> Consul:
    consul = make_consul()
    consul.register("orders", "orders-1", port=8080, node="node-1", address="10.0.0.1")
    return consul


@pytest.mark.parametrize("other", ["", "hook.sock", "other.sock"])
def test_the_first_call_starts_the_agent_and_is_answered(consul: Consul, tmp_path: Path, other: str) -> None:
    config = configuration(consul, DIRECTORY) | ({"receiver": {"socket": other}} if other else {})
    with Activated(tmp_path / "isthmus", config) as agent:
        wait_until(agent.hook.is_socket, "somebody listens")
        before = agent.hook.stat()
        agent.wake()
        expected = [str(agent.hook)] + ([str(agent.folder / other)] if other == "other.sock" else [])
        report = agent.status()["receiver"]
        assert (report["served"], report["faults"]) == (expected, [])
        assert all(agent.call("nodes", Path(place)).returncode == 0 for place in expected)
        assert agent.calls() == {"services": 1, "nodes": len(expected)}
        wait_until((agent.folder / "review/legacy/orders.mesh.internal.yaml").exists, "the agent works")
        agent.stop()
        assert f"serving {agent.hook}, passed by systemd" in agent.log()
        after = agent.hook.stat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
        assert not (agent.folder / "other.sock").exists()


def test_calls_that_queue_up_while_the_agent_starts_are_all_heard(consul: Consul, tmp_path: Path) -> None:
    with Activated(tmp_path / "isthmus", configuration(consul, DIRECTORY)) as agent:
        wait_until(agent.hook.is_socket, "somebody listens")
        kinds = ("services", "nodes", "checks")
        command = (sys.executable, "-I", "-S", send.__file__, "--socket", str(agent.hook), "consul-dc1")
        callers = [subprocess.Popen((*command, kind), stdin=subprocess.DEVNULL) for kind in kinds * 7]
        for caller in callers:
            caller.wait(60)  # with 0 or, when the start takes longer than a handler waits, with 1
        wait_until(agent.control.is_socket, "the agent runs")
        wait_until(lambda: agent.calls() == dict.fromkeys(kinds, 7), "every call was heard")


def test_what_was_passed_wrongly_is_said_and_the_agent_runs(consul: Consul, tmp_path: Path) -> None:
    agent = Activated(tmp_path / "isthmus", configuration(consul, DIRECTORY))
    command = ("--seqpacket", *agent.process.command[1:])
    agent.process = Process("isthmus", (agent.process.command[0], *command), agent.folder / "isthmus.log")
    with agent:
        wait_until(agent.hook.is_socket, "somebody listens")
        poke = f"import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect({str(agent.hook)!r})"
        subprocess.run((sys.executable, "-c", poke), timeout=60, check=True)
        wait_until(agent.control.is_socket, "the agent runs")
        wait_until(agent.is_settled, "the agent works")
        assert "is no unix socket that listens; it is not used" in agent.log()
        assert agent.status()["receiver"] is None


def test_a_child_of_the_agent_hears_nothing_of_it(consul: Consul, tmp_path: Path) -> None:
    with Activated(tmp_path / "isthmus", configuration(consul, DIRECTORY)) as agent:
        wait_until(agent.hook.is_socket, "somebody listens")
        agent.wake()
        # What was unset stays in the process's first environment; what children would get is told by the descriptor.
        flags = [
            int(line.split()[1], 8)
            for line in Path(f"/proc/{agent.process.pid}/fdinfo/3").read_text().splitlines()
            if line.startswith("flags:")
        ]
        assert all(flag & os.O_CLOEXEC for flag in flags)
        assert flags


@pytest.mark.parametrize("verb", ["once", "plan"])
def test_a_single_run_leaves_the_calls_to_the_agent(consul: Consul, tmp_path: Path, verb: str) -> None:
    with Activated(tmp_path / "isthmus", configuration(consul, DIRECTORY), verb) as run:
        wait_until(run.hook.is_socket, "somebody listens")
        done = run.call("services")
        assert done.returncode == 1  # nobody took the call, and systemd would now start the agent for it
        wait_until(lambda: not run.process.is_alive(), "it has ended")
        assert run.process.exit_code == 0, run.process.last_words()
        assert run.hook.is_socket()
