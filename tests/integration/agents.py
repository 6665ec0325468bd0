"""Agents as they run in production: the real command in a process of its own, on a configuration and a state file."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.testbed.apiserver import ApiServer
from tests.testbed.consul import Consul
from tests.testbed.processes import Process, wait_until

_numbers = count(1)
COMMAND = str(Path(sys.executable).with_name("isthmus"))
Report = dict[str, Any]


def configuration(
    consul: Consul,
    clusters: Mapping[str, Mapping[str, Any]],
    *,
    rules: Sequence[Mapping[str, Any]] = (),
    limits: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a configuration for one registry, `consul-dc1`, and the owner `dc1`."""
    return {
        "owner": "dc1",
        "state": "state.db",
        "control": "control.sock",
        "registries": {"consul-dc1": {"type": "consul", "url": consul.url}},
        "clusters": {name: dict(cluster) for name, cluster in clusters.items()},
        "rules": [dict(rule) for rule in rules],
        "limits": dict(limits or {}),
    }


def served_by(server: ApiServer, namespace: str) -> dict[str, Any]:
    """Write the part of a configuration that is for one API server."""
    return {
        "server": server.url,
        "ca_file": str(server.ca_file),
        "token_file": str(server.token_file),
        "namespace": namespace,
    }


class _Connection(HTTPConnection):
    """Speaks HTTP on a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("isthmus", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # closed with the connection, come what may
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class RunningAgent:
    """One `isthmus run`, which can be stopped, killed and started again on the same state file."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.config_file = folder / "isthmus.yaml"
        self.config_file.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        self.control = folder / "control.sock"
        command = (COMMAND, "run", "--config", str(self.config_file))
        self.process = Process("isthmus", command, folder / "isthmus.log")

    def start(self) -> Self:
        """Start the agent, and wait for nothing."""
        self.process.start(lambda: True)
        return self

    def kill(self) -> None:
        """Kill the agent, as by `kill -9`."""
        self.process.kill()

    def stop(self) -> None:
        """Stop the agent by SIGTERM, which must end it with 0."""
        self.process.signal(signal.SIGTERM)
        wait_until(lambda: not self.process.is_alive(), "the agent has ended", 15)
        assert self.process.exit_code == 0, self.process.last_words()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()

    def status(self) -> Report:
        """Ask the agent how it is."""
        return self.ask("/v1/status")

    def ask(self, path: str) -> Report:
        """Ask the agent something, through its control socket."""
        with closing(_Connection(self.control)) as connection:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            report: Report = json.loads(answer.read())
        assert answer.status == 200, report
        return report

    def status_command(self) -> Report:
        """Ask `isthmus status -o json`."""
        done = subprocess.run(
            (COMMAND, "status", "-o", "json", "--config", str(self.config_file)),
            capture_output=True,
            text=True,
            env=os.environ,
            timeout=60,
            check=True,
        )
        report: Report = json.loads(done.stdout)
        return report

    def passes(self) -> int:
        """Count the passes and re-reads of the registry since the agent was started; -1 while it does not answer."""
        try:
            registry = self.status()["registries"]["consul-dc1"]
            return int(registry["passes"]) + int(registry["rereads"])
        except (OSError, HTTPException):
            return -1

    def look_again(self, consul: Consul, times: int = 2) -> None:
        """Let the agent pass over the registry, although nothing that it publishes has changed, and be done with it."""
        for _ in range(times):
            passes = max(self.passes(), 0)
            consul.request("PUT", "/v1/catalog/register", {"Node": "idle", "Address": f"10.255.2.{next(_numbers)}"})
            self.wait_for_pass(passes + 1)

    def wait_for_pass(self, number: int) -> None:
        """Wait until so many passes since the start are over, and every cluster has what they showed."""
        wait_until(lambda: self.passes() >= number and self.is_settled(), f"pass {number} is over", 60)

    def is_settled(self) -> bool:
        """Tell whether every registry was read and every cluster has everything."""
        try:
            report = self.status()
        except (OSError, HTTPException):
            return False
        return all(registry["state"] == "ok" for registry in report["registries"].values()) and all(
            cluster["state"] == "ok" and not cluster["pending"] for cluster in report["clusters"].values()
        )
