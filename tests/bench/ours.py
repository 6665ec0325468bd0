"""isthmus as it runs in production: a child `isthmus run`, told by systemd's protocol when it is ready."""

import contextlib
import json
import secrets
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.bench.estate import SCOPE
from tests.bench.wire import Server
from tests.integration.agents import COMMAND, RunningAgent, served_by
from tests.testbed.apiserver import ApiServer
from tests.testbed.processes import POLL, Process, ProcessError, free_port, wait_until

NAMESPACE = "legacy"
REGISTRY = "consul-dc1"
EUREKA = "eureka-dc1"
PATIENCE = 600.0
UNIT = Path(__file__).parents[2] / "agent.service"
Registry = Mapping[str, Any]


def consul(url: str, **more: object) -> dict[str, Any]:
    """Write the part of a configuration that is for the Consul of a bench."""
    return {"type": "consul", "url": url, "services": list(SCOPE), "probe": "consul", **more}


def configuration(
    registries: Mapping[str, Registry], server: ApiServer, folder: Path, limits: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Write the configuration of a bench: production's defaults, all of isthmus' parts on, files in a folder."""
    token = folder / "hook.token"
    if not token.exists():
        token.write_text(secrets.token_hex(16) + "\n")
        token.chmod(0o600)
    return {
        "owner": "dc1",
        "state": "state.db",
        "control": "control.sock",
        "receiver": {"socket": "hook.sock", "http": f"127.0.0.1:{free_port()}", "token_file": str(token)},
        "registries": {name: dict(registry) for name, registry in registries.items()},
        "clusters": {"east": served_by(server, NAMESPACE)},
        "limits": dict(limits or {}),
    }


def given() -> list[str]:
    """Return the environment that the service gives isthmus, from its unit."""
    return [
        line.removeprefix("Environment=") for line in UNIT.read_text().splitlines() if line.startswith("Environment=")
    ]


class Ours(RunningAgent):
    """One `isthmus run` of a bench."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        super().__init__(folder, config)
        self.config = config
        self.folder = folder
        self.started = 0.0
        self._notify = folder / "notify.sock"
        self._said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.unlink(missing_ok=True)
        self._said.bind(str(self._notify))
        self._ready: float | None = None
        threading.Thread(target=self._listen, daemon=True).start()
        command = ("env", f"NOTIFY_SOCKET={self._notify}", *given(), COMMAND, "run", "--config", str(self.config_file))
        self.process = Process("isthmus", command, folder / "isthmus.log")

    def start(self) -> Self:
        """Start the agent, and wait for nothing."""
        self.started = time.monotonic()
        return super().start()

    @property
    def hook(self) -> Server:
        """Where watch calls of type http go."""
        receiver = self.config["receiver"]
        return Server(f"http://{receiver['http']}", Path(receiver["token_file"]).read_text().strip())

    def wait_until_settled(self, patience: float = PATIENCE) -> float:
        """Return when every registry was read and every cluster has everything, asked ten times a second."""
        give_up = time.monotonic() + patience
        while True:
            asked = time.monotonic()
            if self.is_settled():
                return asked
            if not self.process.is_alive():
                raise ProcessError(f"isthmus ended with {self.process.exit_code}:\n{self.process.last_words()}")
            if time.monotonic() > give_up:
                raise TimeoutError(
                    f"after {patience:g} s isthmus is not settled:\n{json.dumps(self.status(), indent=1)}"
                )
            time.sleep(5 * POLL)

    def _listen(self) -> None:
        while words := self._said.recv(4096):
            if b"READY=1" in words.split(b"\n") and self._ready is None:
                self._ready = time.monotonic()

    def ready_at(self, patience: float = 2.0) -> float | None:
        """Return when the agent told systemd that it is ready, or None if it has not after so many seconds.

        https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
        """
        with contextlib.suppress(ProcessError):
            wait_until(lambda: self._ready is not None, "READY=1 was said", patience)
        return self._ready

    def watches(self, *globs: str) -> dict[str, Any]:
        """Return the watches for Consul, as `isthmus watch-config` prints them, with handlers of type http."""
        services = [word for glob in globs for word in ("--service", glob)]
        command = (COMMAND, "watch-config", REGISTRY, "--handler", "http", *services, "--config", str(self.config_file))
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        watches: dict[str, Any] = json.loads(done.stdout)
        return watches

    def found(self) -> Counter[str]:
        """Return how many changes were found by what since the start, as far as the status tells."""
        told: dict[str, Any] = self.status()["registries"][REGISTRY].get("found", {})
        return Counter({source: int(one["changes"]) for source, one in told.items()})

    def close(self) -> None:
        """End the agent, whatever it is doing."""
        with contextlib.suppress(AssertionError, ProcessError):
            if self.process.is_alive():
                self.stop()
        self.process.kill()
        self._said.shutdown(socket.SHUT_RDWR)  # ends the thread that listens
