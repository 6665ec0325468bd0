"""The agent as a service: what systemd hears, reloads, health, and metrics."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.agents import RunningAgent, configuration
from tests.testbed.consul import Consul
from tests.testbed.processes import free_port, wait_until

LIMITS = {"pass_spacing": "300ms", "busy_spacing": "100ms", "deadline": "3s", "stop": "1s"}


class Systemd:
    """Hears what a service tells, as systemd does."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def listen(self) -> list[str]:
        """Return everything that was heard until now."""
        while True:
            try:
                self.heard.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self.heard

    def count(self, word: str) -> int:
        return sum(message.startswith(word) for message in self.listen())

    def wait_for(self, word: str, number: int = 1) -> None:
        wait_until(lambda: self.count(word) >= number, f"{word} is heard {number} times")

    def close(self) -> None:
        self._socket.close()


class Served(RunningAgent):
    """A running agent with a receiver, a status page and a systemd of its own."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        super().__init__(folder, config)
        self.folder = folder
        self.config = dict(config)
        self.url = f"http://{config['status']}"

    def write(self, **changes: Any) -> None:
        """Change the configuration file, and nothing else."""
        self.config.update(changes)
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False))

    def log(self) -> str:
        return self.process.log.read_text()

    def reload(self, outcome: str) -> None:
        """Have the agent load its configuration, and wait for a word of what came of it in the log."""
        before = self.log().count(outcome)
        self.process.signal(signal.SIGHUP)
        wait_until(lambda: self.log().count(outcome) > before, f"the log tells: {outcome}")

    def metrics(self) -> dict[str, float]:
        """Return the value of each sample by its name and labels."""
        families = text_string_to_metric_families(httpx.get(f"{self.url}/metrics", trust_env=False).text)
        return {
            f"{sample.name}{sorted(sample.labels.items())}": sample.value
            for family in families
            for sample in family.samples
        }

    def sum(self, name: str, *labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        return sum(
            value
            for key, value in self.metrics().items()
            if key.startswith(f"{name}[") and all(one in key for one in labels)
        )

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in (self.folder / "out" / "legacy").glob("*.yaml")}


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    found = Systemd(path)
    yield found
    found.close()


@pytest.fixture
def served(consul: Consul, tmp_path: Path, systemd: Systemd) -> Iterator[Served]:
    for number in range(20):
        consul.register(
            "orders", f"orders-{number}", port=80, node=f"n{number}", address=f"10.0.0.{number + 1}", status="passing"
        )
    config = configuration(consul, {"east": {"directory": "out", "namespace": "legacy"}}, limits=LIMITS)
    config["receiver"] = {"socket": "hook.sock"}
    config["status"] = f"127.0.0.1:{free_port()}"
    with Served(tmp_path / "agent", config) as agent:
        systemd.wait_for("READY=1")
        wait_until(agent.is_settled, "the agent has settled")
        yield agent


def test_systemd_hears_of_a_life(served: Served, systemd: Systemd) -> None:
    systemd.wait_for("WATCHDOG=1", 5)
    systemd.wait_for("STATUS=1 of 1 registries and 1 of 1 clusters work; 0 changes pending, 0 removals held")
    served.reload("reload: the new configuration is in force")
    systemd.wait_for("RELOADING=1\nMONOTONIC_USEC=")
    systemd.wait_for("READY=1", 2)
    served.stop()
    assert systemd.listen()[-1] == "STOPPING=1"


def test_a_registry_that_is_frozen_is_no_reason_to_restart(served: Served, systemd: Systemd, consul: Consul) -> None:
    consul.pause()
    try:
        before = systemd.count("WATCHDOG=1")
        systemd.wait_for("WATCHDOG=1", before + 30)  # more than the deadline
        assert httpx.get(f"{served.url}/healthz", trust_env=False).status_code == 200
    finally:
        consul.resume()
    assert "stuck" not in served.log()


def test_a_reload_that_changes_nothing_writes_nothing(served: Served) -> None:
    before = served.files()
    stamps = {path: path.stat().st_mtime_ns for path in (served.folder / "out" / "legacy").glob("*.yaml")}
    served.reload("reload: the new configuration is in force")
    wait_until(served.is_settled, "the agent has settled")
    assert served.files() == before
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert served.status()["clusters"]["east"]["writes"] == 0


def test_a_good_reload_is_in_force(served: Served, consul: Consul) -> None:
    served.write(rules=[{"match": {"service": "orders"}, "labels": {"team": "orders"}}])
    served.reload("reload: the new configuration is in force")
    wait_until(lambda: served.files()["orders.mesh.internal.yaml"].count("team: orders") == 20, "every endpoint has it")
    consul.set_status("orders-3", "critical", node="n3")
    wait_until(lambda: "10.0.0.4" not in served.files()["orders.mesh.internal.yaml"], "changes are heard")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rules": [{"match": {"service": "a"}}]}, "rules[0]: does nothing"),
        ({"clusters": {"east": {"directory": "out"}}}, "clusters.east.namespace: is required"),
        ({"owner": "dc2"}, "owner: a change of it needs a restart"),
        ({"status": "127.0.0.1:9", "state": "other.db"}, "state, status: a change of it needs a restart"),
    ],
)
def test_a_bad_reload_is_refused_whole(served: Served, consul: Consul, changes: dict[str, Any], why: str) -> None:
    served.write(**changes)
    served.reload("reload refused: the configuration that was loaded before stays in force")
    assert why in served.log()
    consul.set_status("orders-3", "critical", node="n3")
    wait_until(lambda: "10.0.0.4" not in served.files()["orders.mesh.internal.yaml"], "the old one is in force")


def test_a_reload_that_would_delete_everything_is_held(served: Served) -> None:
    before = served.files()
    served.write(rules=[{"match": {"service": "*"}, "skip": True}])
    served.reload("reload: the new configuration is in force")
    wait_until(lambda: served.status()["clusters"]["east"]["withheld"] == 20, "the deletions are withheld")
    assert served.files() == before
    served.write(rules=[])
    served.reload("reload: the new configuration is in force")
    wait_until(lambda: served.is_settled() and not served.status()["clusters"]["east"]["withheld"], "all is well")
    assert served.files() == before


def test_a_call_through_the_socket_is_heard(served: Served) -> None:
    hook = Path(__file__).parents[2] / "hooks" / "send.py"
    command = [sys.executable, "-I", "-S", str(hook)]
    for arguments, code in ((["consul-dc1", "service", "orders"], 0), (["unknown", "nodes"], 1)):
        done = subprocess.run(
            [*command, "--socket", str(served.folder / "hook.sock"), *arguments],
            input=b"[]",
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
    wait_until(lambda: served.sum("isthmus_receiver_calls_total", "consul-dc1", "heard") == 1, "the call is counted")
    assert served.sum("isthmus_receiver_calls_total", "unknown") == 1


def test_metrics_tell_what_happened(served: Served, consul: Consul) -> None:
    assert served.sum("isthmus_writes_total", "create") == 21
    consul.set_status("orders-3", "critical", node="n3")
    wait_until(lambda: served.sum("isthmus_writes_total", "delete") == 1, "the deletion is counted")
    assert served.sum("isthmus_write_lag_seconds_count", "consul-dc1", "east") == 22
    assert served.sum("isthmus_changes_total", "consul-dc1") == 1
    served.reload("reload: the new configuration is in force")
    assert served.sum("isthmus_write_lag_seconds_count", "consul-dc1", "east") == 22, "a reload forgets nothing"


def test_health_and_page(served: Served) -> None:
    health = httpx.get(f"{served.url}/healthz", trust_env=False)
    assert health.status_code == 200, health.text
    page = httpx.get(f"{served.url}/", trust_env=False)
    assert page.status_code == 200
    assert "consul-dc1" in page.text
    assert httpx.post(f"{served.url}/v1/status", trust_env=False).status_code == 405
    assert json.loads(httpx.get(f"{served.url}/v1/status", trust_env=False).text)["owner"] == "dc1"
