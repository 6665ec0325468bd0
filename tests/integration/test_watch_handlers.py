"""What `isthmus watch-config --install` writes, run by a real Consul, letter for letter."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from agent.cli import main
from agent.config import Config, load
from hooks.receiver import Receiver, Result
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.consul_log import calls_in
from tests.testbed.processes import free_port, wait_until

REGISTRY = "consul-dc1"
ODD = "My Svc/1 é"
WATCHES = Counter({"services": 1, "nodes": 1, "checks": 2, "service orders": 1, f"service {ODD}": 1})


class Site:
    """A Consul with two services to watch one by one, and a receiver beside it that notes what it hears."""

    def __init__(self, consul: Consul, folder: Path, handler: str) -> None:
        self.consul = consul
        self.handler = handler
        self.file = folder / "isthmus.yaml"
        self.heard: Counter[str] = Counter()
        folder.mkdir()
        (folder / "hook.token").write_text("sesame\n")
        self.config = self._configure()
        assert self.config.receiver is not None
        self.receiver = Receiver(self.config.receiver, self._hear)

    def _configure(self) -> Config:
        content: dict[str, Any] = {
            "owner": "dc1",
            "state": "state.db",
            "registries": {REGISTRY: {"type": "consul", "url": self.consul.url}},
            "clusters": {"east": {"directory": "east", "namespace": "legacy"}},
            "receiver": {
                "socket": f"{self.handler}.sock",
                "http": f"127.0.0.1:{free_port()}",
                "token_file": "hook.token",
            },
        }
        self.file.write_text(yaml.safe_dump(content))
        return load(self.file)

    def _hear(self, registry: str, kind: str, service: str) -> bool:
        self.heard[f"{kind} {service}".strip()] += 1
        return registry == REGISTRY

    def install(self) -> None:
        """Have `watch-config` write for Consul, and Consul read that."""
        services = ["--service", "ord*", "--service", ODD]
        place = ["--install", str(self.consul.drop_in)]
        answer = CliRunner().invoke(
            main, ["watch-config", REGISTRY, "--handler", self.handler, *services, *place, "--config", str(self.file)]
        )
        assert answer.exit_code == 0, answer.output
        self.consul.reload()

    def uninstall(self) -> None:
        (self.consul.drop_in / f"isthmus-{REGISTRY}.json").unlink()
        self.consul.reload()

    def log(self) -> str:
        return self.consul.process.log.read_text()

    def sent(self) -> Counter[str]:
        """Return the calls that Consul's log tells of, all of them delivered."""
        return calls_in(self.log(), REGISTRY)

    def expect(self, before: Counter[str], call: str, what: str) -> None:
        wait_until(lambda: self.heard[call] > before[call], f"{what} is told by a call for {call}")

    def settle(self) -> None:
        """Wait until every call that was sent is in Consul's log."""
        wait_until(lambda: self.sent() == self.heard, f"calls sent are calls received, of {self.heard}")


@pytest.fixture(params=["script", "http"])
def site(request: pytest.FixtureRequest, make_consul: MakeConsul, tmp_path: Path) -> Iterator[Site]:
    consul = make_consul(config={"log_level": "trace"})
    # More than a pipe holds, so that Consul would notice whether anybody reads it.
    for number in range(100):
        consul.register(
            "orders", f"orders-{number}", port=8080, node=f"node-{number % 5}", address=f"10.0.0.{number + 1}"
        )
    consul.register(ODD, "odd", port=80, node="node-1", address="10.1.0.1")
    site = Site(consul, tmp_path / "isthmus", request.param)
    assert site.receiver.start()
    yield site
    site.receiver.stop()


def test_every_change_arrives_and_as_many_calls_are_received_as_consul_sent(site: Site) -> None:
    consul = site.consul
    site.install()
    wait_until(lambda: site.heard >= WATCHES, "every watch tells once what there is")

    before = site.heard.copy()
    consul.register("payments", "payments-1", port=80, node="node-2", address="10.2.0.1")
    site.expect(before, "services", "a new service")

    before = site.heard.copy()
    consul.register("orders", "orders-new", port=8080, node="node-1", address="10.0.1.1")
    site.expect(before, "service orders", "a new instance")

    before = site.heard.copy()
    consul.set_status("orders-3", "critical", node="node-3")
    site.expect(before, "checks", "an instance that fails")
    site.expect(before, "service orders", "an instance that fails")

    before = site.heard.copy()
    consul.set_status("orders-3", "passing", node="node-3")
    site.expect(before, "checks", "an instance that recovers")

    before = site.heard.copy()
    consul.set_status("odd", "warning", node="node-1")
    site.expect(before, "checks", "an instance that warns")
    site.expect(before, f"service {ODD}", "an instance that warns")

    before = site.heard.copy()
    consul.register("orders", "orders-new", port=9090, node="node-1", address="10.0.1.1")
    site.expect(before, "service orders", "a port that changed")

    before = site.heard.copy()
    consul.register("other", "other-1", port=80, node="node-new", node_address="10.9.9.9")
    site.expect(before, "nodes", "a new node")

    before = site.heard.copy()
    consul.deregister("odd", node="node-1")
    site.expect(before, f"service {ODD}", "a service that is gone")

    site.uninstall()
    site.settle()
    report = site.receiver.report()
    assert sum(report.calls.values()) == site.heard.total()
    assert {called.result for called in report.calls} == {Result.HEARD}
    assert not [line for line in site.log().splitlines() if "[ERROR]" in line and "watch" in line]


def test_a_reload_tells_everything_again(site: Site) -> None:
    site.install()
    wait_until(lambda: site.heard >= WATCHES, "every watch tells once what there is")
    site.settle()
    before = site.heard.copy()
    site.consul.reload()
    wait_until(lambda: site.heard - before >= WATCHES, "every watch tells once more what there is")


def test_a_call_that_nobody_takes_shows_in_consuls_log_and_the_next_change_is_told(site: Site) -> None:
    site.install()
    wait_until(lambda: site.heard >= WATCHES, "every watch tells once what there is")
    site.settle()
    site.receiver.stop()
    site.consul.register("payments", "payments-1", port=80, node="node-2")
    words = "isthmus-hook: not delivered to " if site.handler == "script" else "connection refused"
    wait_until(lambda: words in site.log(), "Consul says that the call was not taken")
    before = site.heard.copy()
    assert site.receiver.start()
    site.consul.register("refunds", "refunds-1", port=80, node="node-2")
    site.expect(before, "services", "a change after that")
