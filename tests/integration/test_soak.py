"""A random history, heard in every way at once: status sets, parked queries, both kinds of watch handlers, sweeps.

`make soak` plays it for ten minutes, `make test` for less.
"""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.agents import COMMAND, RunningAgent, configuration, served_by
from tests.integration.history import RULES
from tests.integration.stage import Stage, witnesses_of
from tests.testbed.apiserver import ApiServer
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.consul_log import calls_in
from tests.testbed.processes import free_port, wait_until

SECONDS = float(os.environ.get("SOAK_SECONDS", "40"))
SEED = int(os.environ.get("SOAK_SEED", "20261125"))
REGISTRY = "consul-dc1"
LIMITS = {"empty_grace": "300ms", "service_entry_grace": "500ms", "sweep": "7s"}


@pytest.mark.timeout(SECONDS + 200)
def test_nothing_is_missed_though_it_is_heard_in_every_way(
    two_api_servers: tuple[ApiServer, ApiServer], namespace: str, make_consul: MakeConsul, tmp_path: Path
) -> None:
    consul = make_consul(config={"log_level": "trace"})
    servers = dict(zip(("east", "west"), two_api_servers, strict=True))
    clusters = {name: served_by(server, namespace) for name, server in servers.items()}
    config = configuration(consul, clusters, rules=RULES, limits=LIMITS)
    config["registries"][REGISTRY]["parked"] = 8  # of more than twenty services
    config["receiver"] = {"socket": "hook.sock", "http": f"127.0.0.1:{free_port()}", "token_file": "hook.token"}
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "hook.token").write_text("sesame\n")
    with witnesses_of(servers, namespace) as witnesses, RunningAgent(folder, config) as agent:
        stage = Stage(consul, SEED, witnesses)
        stage.settle(30)
        watch(consul, agent)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or stage.history.unplayed:
            stage.move_and_settle()
        unwatch(consul)
        wait_until(lambda: heard(agent) == sent(consul), "calls sent are calls received")
        report = agent.status()["registries"][REGISTRY]
        assert heard(agent) > 0
        assert report["repairs"] == 0, report
        assert report["waiting"] == {}
        wait_until(agent.is_settled, "isthmus has heard that all of it is written", 20)
        assert {source for source, found in report["found"].items() if found["changes"]} >= {"parked", "hint"}
        for cluster in agent.status()["clusters"].values():
            assert (cluster["repairs"], cluster["pending"], cluster["parked"]) == (0, 0, [])


def watch(consul: Consul, agent: RunningAgent) -> None:
    """Let Consul run what `watch-config` prints: scripts for what is registry-wide, HTTP for every service."""
    command = [COMMAND, "watch-config", REGISTRY, "--config", str(agent.config_file), "--handler"]
    for arguments in (["script"], ["http", "--service", "*"]):
        printed = subprocess.run([*command, *arguments], capture_output=True, check=True, timeout=60).stdout
        (consul.drop_in / f"{arguments[0]}.json").write_bytes(printed)
    consul.reload()
    wait_until(lambda: heard(agent) > 20, "every watch has told what there is")


def unwatch(consul: Consul) -> None:
    for path in consul.drop_in.glob("*.json"):
        path.unlink()
    consul.reload()


def sent(consul: Consul) -> int:
    return calls_in(consul.process.log.read_text(), REGISTRY).total()


def heard(agent: RunningAgent) -> int:
    return sum(row["calls"] for row in agent.status()["receiver"]["calls"] if row["result"] == "heard")
