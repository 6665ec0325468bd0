import json
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.clusters.settings import DirectorySettings
from agent.daemon import hold_name
from agent.demo.registry import EmbeddedRegistry, Trouble
from agent.holds import holds
from agent.report import asleep, remembered, status
from hooks.consul.settings import ConsulSettings
from hooks.receiver import Called, ReceiverReport, Result
from state.checkpoint import Checkpoint
from state.errors import ConfigurationError
from state.model import InstanceKey
from tests.dc import REGISTRY, configured
from tests.testbed.processes import wait_until
from tests.unit.live import agent_on, start, wipe


def test_a_running_agent_tells_of_every_registry(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    registry.register("orders", "orders-1", "node-2", 8080, address="10.1.0.1", meta={"port": "eighty"})
    with agent_on(tmp_path, registry) as agent:
        start(agent)
        report = status(agent)
    json.dumps(report)
    assert (report["owner"], report["state"], report["running"]) == ("dc1", str(tmp_path / "state.db"), True)
    one = report["registries"][REGISTRY]
    assert (one["state"], one["error"], one["failing_seconds"]) == ("ok", "", None)
    assert (one["services"], one["instances"]) == (3, 13)
    assert one["present"] == one["in_service"] == {"now": 12, "baseline": 12}
    assert one["index"] > 0
    assert one["passes"] >= 1
    assert 0 <= one["last_read_seconds"] < 60
    assert (one["epoch"], one["epoch_seconds"], one["waiting"], one["unreadable"]) == (1, None, {}, [])
    (rejected,) = one["rejected"]
    assert (rejected["service"], rejected["node"], rejected["id"]) == ("lost", "node-1", "lost-1")
    assert "127.0.0.1" in rejected["reason"]
    (dropped,) = one["dropped"]
    assert dropped["id"] == "orders-1"
    assert "eighty" in dropped["reason"]


def test_a_running_agent_tells_of_every_cluster(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with agent_on(tmp_path, registry) as agent:
        start(agent)
        clusters = status(agent)["clusters"]
    assert list(clusters) == ["east", "west"]
    assert clusters["east"] == {
        "policy": "sync",
        "paused": False,
        "state": "ok",
        "error": "",
        "objects": 15,
        "pending": 0,
        "oldest_pending_seconds": None,
        "writes": 15,
        "taken": {"create": 15, "update": 0, "delete": 0},
        "failed": {},
        "repairs": 0,
        "withheld": 0,
        "parked": [],
        "troubles": [],
    }


def test_how_changes_were_found_is_told_of_every_source(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with agent_on(tmp_path, registry) as agent:
        start(agent)
        registry.register("late", "late-1", "node-1", 80, address="10.9.0.1")
        wait_until(lambda: status(agent)["registries"][REGISTRY]["services"] == 4, "it is found")
        one = status(agent)["registries"][REGISTRY]
    assert list(one["found"]) == ["parked", "status", "list", "hint", "reread", "sweep"]
    found = [source for source in one["found"].values() if source["changes"]]
    assert sum(source["changes"] for source in found) == 1
    assert 0 < found[0]["mean_seconds"] <= found[0]["longest_seconds"]
    assert one["found"]["hint"] == {"wakeups": 0, "changes": 0, "mean_seconds": None, "longest_seconds": None}
    assert one["parked"].keys() == {"parked", "budget", "wakeups", "reconnects", "shrunk"}
    settings = agent.config.registries[REGISTRY]
    assert isinstance(settings, ConsulSettings)
    assert one["parked"]["budget"] == settings.parked


def test_a_receiver_tells_who_called_and_when(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    calls = {Called("dc1", "service", Result.HEARD): 3, Called("", "", Result.UNAUTHORISED): 2}
    report = ReceiverReport(
        calls=calls, last={"dc1": time.monotonic()}, body_bytes=7, faults=("port 1: no",), served=("hook.sock",)
    )
    with agent_on(tmp_path, registry) as agent:
        assert status(agent)["receiver"] is None
        told = status(agent, report)["receiver"]
    json.dumps(told)
    assert told["calls"] == [
        {"registry": "", "kind": "", "result": "unauthorised", "calls": 2},
        {"registry": "dc1", "kind": "service", "result": "heard", "calls": 3},
    ]
    assert 0 <= told["last_call_seconds"]["dc1"] < 60
    assert (told["body_bytes"], told["faults"], told["served"]) == (7, ["port 1: no"], ["hook.sock"])


def test_before_the_first_word_everything_is_starting(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with agent_on(tmp_path, registry) as agent:
        report = status(agent)
    assert report["registries"][REGISTRY]["state"] == "starting"
    assert report["registries"][REGISTRY]["last_read_seconds"] is None
    assert report["clusters"]["east"]["state"] == "starting"


def test_a_paused_cluster_tells_how_much_waits(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    clusters = {"east": {"directory": "east", "namespace": "legacy", "policy": "paused"}}
    with agent_on(tmp_path, registry, clusters=clusters) as agent:
        agent.start()
        wait_until(lambda: status(agent)["clusters"]["east"]["pending"] > 0, "changes wait")
        assert status(agent)["clusters"]["east"]["state"] == "paused"


def test_a_registry_that_cannot_be_read_says_why_and_for_how_long(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with agent_on(tmp_path, registry) as agent:
        start(agent)
        registry.trouble("*", Trouble.HTML)

        def one() -> dict[str, Any]:
            found: dict[str, Any] = status(agent)["registries"][REGISTRY]
            return found

        wait_until(lambda: one()["state"] == "unreadable", "the registry is unreadable")
        assert one()["error"].startswith(f"{REGISTRY}: /v1/")
        assert one()["failing_seconds"] >= 0
        assert one()["instances"] == 13


def test_a_service_that_cannot_be_read_is_named(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    for number in range(40):
        registry.register(f"more-{number}", "one", "node-1", 80, address=f"10.3.0.{number + 1}")
    registry.trouble("/v1/health/service/web", Trouble.ERROR)
    with agent_on(tmp_path, registry) as agent:
        start(agent)
        one = status(agent)["registries"][REGISTRY]
    assert one["state"] == "ok"
    assert [row["service"] for row in one["unreadable"]] == ["web"]
    assert "500" in one["unreadable"][0]["reason"]


def test_a_cluster_that_cannot_be_read_says_why(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    (tmp_path / "east").write_text("no folder")
    with agent_on(tmp_path, registry) as agent:
        agent.start()
        wait_until(lambda: status(agent)["clusters"]["east"]["state"] == "unreadable", "east is unreadable")
        assert "east" in status(agent)["clusters"]["east"]["error"]
        wait_until(lambda: status(agent)["clusters"]["west"]["writes"] == 15, "west is written")


def test_held_removals_are_counted_and_listed(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with agent_on(tmp_path, registry) as agent:
        start(agent)
        rows = wipe(agent, registry)
        one = status(agent)["registries"][REGISTRY]
    assert one["waiting"] == {"hold": 12}
    assert one["present"] == {"now": 0, "baseline": 12}
    assert one["epoch"] == 2
    assert one["epoch_seconds"] >= 0
    row = rows[0]
    key = InstanceKey("orders", "node-1", "orders-2")
    assert (row["service"], row["node"], row["id"]) == tuple(key)
    assert (row["name"], row["reason"], row["hold"]) == (REGISTRY, "hold", hold_name(REGISTRY, key))
    assert (row["address"], row["port"], row["host"]) == ("10.1.0.2", 8080, "orders.mesh.internal")
    assert row["waited_seconds"] >= 0
    assert row["ends"].startswith("Only `isthmus accept consul-dc1` removes it")


def test_the_last_of_a_host_waits_in_grace_and_cannot_be_accepted(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    registry.register("single", "single-1", "node-1", 80, address="10.4.0.1")
    with agent_on(tmp_path, registry, limits={"empty_grace": "1m", "pass_spacing": "20ms"}) as agent:
        start(agent)
        registry.deregister("node-1", "single-1")
        wait_until(lambda: bool(holds(agent)), "something waits")
        (row,) = holds(agent)
    assert (row["reason"], row["hold"], row["host"]) == ("grace", "", "single.mesh.internal")
    assert row["ends"].startswith("It is the last of its host, and goes in ")


def test_the_state_file_alone_tells_what_was_believed(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with agent_on(tmp_path, registry) as agent:
        start(agent)
        wipe(agent, registry)
        before, waiting, config = status(agent), holds(agent), agent.config
    with closing(Checkpoint.copy(config.state)) as checkpoint:
        report = remembered(config, checkpoint)
        rows = holds(asleep(config, checkpoint))
    assert report["running"] is False
    one, was = report["registries"][REGISTRY], before["registries"][REGISTRY]
    assert one["state"] == "not running"
    for name in ("services", "instances", "present", "in_service", "waiting", "epoch", "rejected"):
        assert one[name] == was[name]
    assert report["clusters"]["east"] == {"policy": "sync", "paused": False, "state": "not running", "objects": 15}
    assert [row["hold"] for row in rows] == [row["hold"] for row in waiting]
    assert rows[0]["waited_seconds"] >= waiting[0]["waited_seconds"] - 0.1


def test_the_state_file_of_another_owner_is_refused(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with agent_on(tmp_path, registry) as agent:
        config = agent.config
    with closing(Checkpoint.copy(config.state)) as checkpoint, pytest.raises(ConfigurationError, match="'dc2', but"):
        remembered(replace(config, owner="dc2"), checkpoint)


def test_a_report_needs_no_cluster_to_be_reachable(tmp_path: Path) -> None:
    config = configured(tmp_path, "http://127.0.0.1:1")
    nowhere = DirectorySettings(name="east", namespace="legacy", directory=tmp_path / "isthmus.yaml" / "x")
    with closing(Checkpoint.copy(config.state)) as checkpoint:
        report = remembered(replace(config, clusters={"east": nowhere}), checkpoint)
    assert report["clusters"]["east"]["objects"] == 0
    assert not config.state.exists()
