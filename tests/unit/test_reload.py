"""One agent in place of another, on the state file that both share."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.cli.opening import clusters_of
from agent.clusters import Cluster
from agent.config import Config
from agent.daemon import Agent, remembering
from agent.demo.registry import EmbeddedRegistry
from agent.holds import removals
from agent.report import status
from agent.service import Service
from state.checkpoint import Checkpoint
from state.errors import ClusterError, Fault, ReloadingError
from tests.dc import REGISTRY, configuration, configured
from tests.testbed.processes import wait_until
from tests.unit.live import ok, wipe


class Reloadable:
    """A service that has started, its configuration file, and what its agents are made with."""

    def __init__(self, folder: Path, registry: EmbeddedRegistry, config: Config, checkpoint: Checkpoint) -> None:
        self.file = folder / "isthmus.yaml"
        self.opened: Callable[[Config], Callable[[str], Cluster]] = clusters_of
        self.made: list[Agent] = []
        self._url = registry.url
        self._checkpoint = checkpoint
        self.service = Service(config, self._make)

    def _make(self, config: Config) -> Agent:
        self.made.append(Agent(config, self._checkpoint, self.opened(config)))
        return self.made[-1]

    @property
    def agent(self) -> Agent:
        return self.service.current()

    def reload(self, **changes: Any) -> bool:
        self.file.write_text(yaml.safe_dump(configuration(self._url, **changes)))
        return self.service.reload(self.file)

    def is_settled(self) -> bool:
        agent = self.agent
        return agent.view.passed() and all(ok(agent, name) for name in agent.lanes)

    def settle(self) -> None:
        wait_until(self.is_settled, "all is written")


@pytest.fixture
def one(registry: EmbeddedRegistry, tmp_path: Path) -> Iterator[Reloadable]:
    config = configured(tmp_path, registry.url)
    with closing(Checkpoint.open(config.state)) as checkpoint:
        found = Reloadable(tmp_path, registry, config, remembering(config, checkpoint))
        found.service.start()
        try:
            found.settle()
            yield found
        finally:
            found.service.stop()


def writes(agent: Agent) -> int:
    return sum(lane["writes"] for lane in status(agent)["clusters"].values())


def test_a_good_configuration_is_served_by_another_agent(one: Reloadable) -> None:
    before = one.agent
    assert one.reload(rules=[{"match": {"service": "web"}, "labels": {"team": "web"}}])
    one.settle()
    assert one.agent is not before
    assert writes(one.agent) == 12  # six endpoints in two clusters


def test_one_that_changes_nothing_writes_nothing(one: Reloadable) -> None:
    assert one.reload()
    one.settle()
    assert writes(one.agent) == 0


def test_a_cluster_may_come_and_one_may_go(one: Reloadable, tmp_path: Path) -> None:
    east = sorted((tmp_path / "east").rglob("*.yaml"))
    clusters = {name: {"directory": name, "namespace": "legacy"} for name in ("west", "north")}
    assert one.reload(clusters=clusters)
    one.settle()
    assert sorted(one.agent.lanes) == ["north", "west"]
    assert len(list((tmp_path / "north").rglob("*.yaml"))) == len(east) == 3
    assert sorted((tmp_path / "east").rglob("*.yaml")) == east


def test_what_is_held_stays_held_and_its_time_goes_on(one: Reloadable, registry: EmbeddedRegistry) -> None:
    held = {row["hold"]: row["waited_seconds"] for row in wipe(one.agent, registry) if row["reason"] == "hold"}
    assert len(held) == 12
    assert one.reload()
    wait_until(lambda: one.agent.view.passed(), "the first pass is over")
    after = {row["hold"]: row["waited_seconds"] for row in removals(one.agent)}
    assert all(after[hold] >= waited for hold, waited in held.items())
    assert writes(one.agent) == 0


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"owner": "dc2"}, "owner"),
        ({"state": "other.db"}, "state"),
        ({"control": "other.sock"}, "control"),
        ({"receiver": {"socket": "hook.sock"}}, "receiver"),
        ({"status": "127.0.0.1:9412"}, "status"),
    ],
)
def test_what_needs_a_restart_refuses_all_of_it(
    one: Reloadable, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], key: str
) -> None:
    before = one.agent
    assert not one.reload(**changes, rules=[{"match": {"service": "*"}, "skip": True}])
    assert f"reload refused: {one.file}: {key}: a change of it needs a restart" in caplog.messages
    assert one.agent is before


def test_every_problem_of_a_bad_file_is_logged(one: Reloadable, caplog: pytest.LogCaptureFixture) -> None:
    before = one.agent
    assert not one.reload(limits={"stop": "soon"}, rules=[{"match": {}}])
    assert sum(message.startswith(f"reload refused: {one.file}:") for message in caplog.messages) >= 2
    one.file.unlink()
    assert not one.service.reload(one.file)
    assert f"reload refused: {one.file}: cannot be read: No such file or directory" in caplog.messages
    assert one.agent is before


def test_a_configuration_whose_agent_cannot_be_made_gives_way_to_the_old_one(
    one: Reloadable, registry: EmbeddedRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    def opened(config: Config) -> Callable[[str], Cluster]:
        if "north" in config.clusters:
            raise ClusterError(Fault.CLUSTER, "north: no such key")
        return clusters_of(config)

    one.opened = opened
    assert not one.reload(clusters={"north": {"directory": "north", "namespace": "legacy"}})
    assert "reload: north: no such key" in caplog.messages
    assert "Traceback" not in caplog.text
    one.settle()
    registry.register("late", "late-1", "node-1", 80, address="10.9.0.1")
    wait_until(lambda: one.is_settled() and writes(one.agent) == 4, "the old one goes on")


def test_half_an_agent_does_not_stay(one: Reloadable, caplog: pytest.LogCaptureFixture) -> None:
    class Unwatchable(Agent):
        def start(self) -> None:
            super().start()
            raise RuntimeError("half started")

    def make(config: Config, sound: Callable[[Config], Agent] = one.service._make) -> Agent:
        if config.rules:
            half.append(Unwatchable(config, sound(config).checkpoint, clusters_of(config)))
            return half[-1]
        return sound(config)

    half: list[Agent] = []
    one.service._make = make
    assert not one.reload(rules=[{"match": {"service": "*"}, "skip": True}])
    assert "half started" in caplog.text
    assert [thread.is_alive() for lane in half[0].lanes.values() for thread in [lane._thread]] == [False, False]
    one.settle()
    assert one.agent.config.rules == ()


def test_during_a_reload_questions_wait_and_hints_are_taken(one: Reloadable) -> None:
    begun, go_on = threading.Event(), threading.Event()
    sound = one.service._make

    def make(config: Config) -> Agent:
        begun.set()
        assert go_on.wait(30)
        return sound(config)

    one.service._make = make
    before = one.agent
    found: list[Agent] = []
    threads = [threading.Thread(target=one.reload), threading.Thread(target=lambda: found.append(one.agent))]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    assert one.service.hint("unknown", "nodes", "")
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [one.made[-1]] != [before]
    assert not one.service.hint("unknown", "nodes", "")
    assert one.service.hint(REGISTRY, "nodes", "")


def test_a_question_gives_up_in_the_end(one: Reloadable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.service.PATIENCE", 0.01)
    asked: list[str] = []
    sound = one.service._make

    def make(config: Config) -> Agent:
        with pytest.raises(ReloadingError, match="try again") as found:
            one.service.current()
        asked.append(str(found.value))
        return sound(config)

    one.service._make = make
    assert one.reload()
    assert len(asked) == 1


def test_a_reload_is_refused_while_the_disk_fails(one: Reloadable, caplog: pytest.LogCaptureFixture) -> None:
    before = one.agent
    before.view.unsaved = "state.db: disk full"
    with caplog.at_level(logging.ERROR):
        assert not one.reload()
    assert "could not be saved, and would be lost: state.db: disk full" in caplog.text
    assert one.agent is before
