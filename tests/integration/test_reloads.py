"""Reloads of an agent that serves a real API server: what they write, what they hold, and how they end."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.agents import RunningAgent, configuration, served_by
from tests.testbed.apiserver import ApiServer
from tests.testbed.consul import Consul
from tests.testbed.processes import wait_until

LIMITS = {"pass_spacing": "300ms", "busy_spacing": "100ms", "stop": "5s"}
DONE = "reload: the new configuration is in force"
KINDS = ("ServiceEntry", "WorkloadEntry")


class Estate:
    """Four services of five instances, and an agent that can be told to reload."""

    def __init__(self, consul: Consul, server: ApiServer, namespace: str, folder: Path) -> None:
        self.consul = consul
        for number in range(20):
            name, node, address = f"svc-{number % 4}", f"n{number}", f"10.0.0.{number + 1}"
            consul.register(name, f"i-{number}", port=80, node=node, address=address, status="passing")
        self._server = server
        self._namespace = namespace
        self._config = configuration(consul, {"east": served_by(server, namespace)}, limits=LIMITS)
        self.agent = RunningAgent(folder, self._config)

    def log(self) -> str:
        return self.agent.process.log.read_text()

    def write(self, **changes: Any) -> None:
        self._config.update(changes)
        self.agent.config_file.write_text(yaml.safe_dump(self._config, sort_keys=False))

    def hang_up(self) -> None:
        self.agent.process.signal(signal.SIGHUP)

    def reload(self, **changes: Any) -> None:
        """Reload, and wait until the new agent has done everything."""
        done = self.log().count(DONE)
        self.write(**changes)
        self.hang_up()
        wait_until(lambda: self.log().count(DONE) > done, "the reload is over")
        self.settle()

    def settle(self) -> None:
        wait_until(self.agent.is_settled, "the agent has settled")

    def cluster(self, name: str = "east") -> dict[str, Any]:
        found: dict[str, Any] = self.agent.status()["clusters"][name]
        return found

    def waiting(self) -> dict[str, int]:
        found: dict[str, int] = self.agent.status()["registries"]["consul-dc1"]["waiting"]
        return found

    def versions(self) -> dict[tuple[str, str], str]:
        """Return every object in the cluster and which version of it is there."""
        return {
            (kind, one["metadata"]["name"]): one["metadata"]["resourceVersion"]
            for kind in KINDS
            for one in self._server.objects(kind, self._namespace)
        }


@pytest.fixture
def estate(consul: Consul, api_server: ApiServer, namespace: str, tmp_path: Path) -> Iterator[Estate]:
    found = Estate(consul, api_server, namespace, tmp_path / "agent")
    with found.agent:
        found.settle()
        yield found


def test_a_reload_that_changes_nothing_writes_nothing_and_hears_on(estate: Estate) -> None:
    before = estate.versions()
    assert len(before) == 24
    for _ in range(3):
        estate.reload()
    assert estate.versions() == before
    assert estate.cluster()["writes"] == 0
    estate.consul.set_status("i-3", "critical", node="n3")
    wait_until(lambda: len(estate.versions()) == 23, "changes are heard")


def test_a_rule_that_comes_and_goes_costs_one_write_for_each_object(estate: Estate) -> None:
    before = estate.versions()
    estate.reload(rules=[{"match": {"service": "svc-1"}, "labels": {"team": "one"}}])
    changed = {key for key, version in estate.versions().items() if before[key] != version}
    assert {kind for kind, _ in changed} == {"WorkloadEntry"}
    assert len(changed) == estate.cluster()["writes"] == 5
    estate.reload(rules=[])
    assert estate.cluster()["writes"] == 5
    assert estate.versions().keys() == before.keys()


def test_a_reload_that_takes_much_away_is_held_through_further_reloads(estate: Estate) -> None:
    before = estate.versions()
    skip = [{"match": {"service": f"svc-{number}"}, "skip": True} for number in range(3)]
    for _ in range(2):
        estate.reload(rules=skip)
        wait_until(lambda: estate.cluster()["withheld"] == 15, "the deletions are withheld")
    assert estate.versions() == before
    estate.reload(rules=[])
    wait_until(lambda: estate.cluster()["withheld"] == 0, "nothing is withheld")
    assert estate.versions() == before


def test_what_waits_for_a_grace_goes_on_waiting(estate: Estate) -> None:
    estate.reload(limits={**LIMITS, "empty_grace": "6s"})
    for number in (0, 4, 8, 12, 16):
        estate.consul.deregister(f"i-{number}", node=f"n{number}")
    wait_until(lambda: set(estate.waiting()) == {"grace"}, "the last ones wait")
    waiting = estate.waiting()
    estate.reload()
    assert estate.waiting() == waiting
    wait_until(lambda: len(estate.versions()) == 19, "the grace is over")  # the host itself stays for longer


def test_many_signals_are_few_reloads_and_a_stop_among_them_ends_it(estate: Estate) -> None:
    for _ in range(30):
        estate.hang_up()
    wait_until(lambda: DONE in estate.log(), "the reload is over")
    estate.settle()
    assert estate.log().count(DONE) <= 3
    estate.hang_up()
    estate.agent.stop()
    assert "Traceback" not in estate.log()


def test_a_reload_before_the_registry_has_ever_answered_is_no_harm(estate: Estate) -> None:
    before = estate.versions()
    estate.agent.stop()
    estate.consul.pause()
    try:
        estate.agent.start()
        wait_until(lambda: estate.log().count("serves as dc1") == 2, "it has started")
        done = estate.log().count(DONE)
        estate.hang_up()
        wait_until(lambda: estate.log().count(DONE) > done, "the reload is over", 60)
    finally:
        estate.consul.resume()
    wait_until(estate.agent.is_settled, "the agent has settled", 60)
    assert estate.versions() == before


def test_a_cluster_that_cannot_be_opened_is_told_and_stops_nothing(estate: Estate) -> None:
    east = estate._config["clusters"]["east"]
    estate.write(clusters={"east": east, "west": {"kubeconfig": "none.kubeconfig", "context": "x", "namespace": "y"}})
    estate.hang_up()
    wait_until(lambda: DONE in estate.log(), "the reload is over")
    wait_until(lambda: estate.cluster("west")["state"] == "unreadable", "west is unreadable")
    assert "none.kubeconfig" in estate.cluster("west")["error"]
    estate.consul.set_status("i-3", "critical", node="n3")
    wait_until(lambda: len(estate.versions()) == 23, "east is served")
