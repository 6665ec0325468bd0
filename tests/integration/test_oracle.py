"""After every change in Consul, every cluster is what an independent oracle computes: kill -9 or not."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

from tests.integration.agents import RunningAgent, configuration, served_by
from tests.integration.history import RULES
from tests.integration.oracle import written
from tests.integration.stage import Stage, witnesses_of
from tests.integration.witness import FolderWitness, Witness
from tests.testbed.apiserver import PLURALS, ApiServer
from tests.testbed.consul import Consul
from tests.testbed.processes import wait_until

SEED = 20260731
KILLS = 20
LIMITS = {"empty_grace": "300ms", "service_entry_grace": "500ms", "busy_spacing": "200ms"}


def test_a_directory_follows_every_change_within_the_promised_time(consul: Consul, tmp_path: Path) -> None:
    stage = Stage(consul, SEED, [FolderWitness("east", tmp_path / "agent" / "out" / "legacy")])
    config = configuration(consul, {"east": {"directory": "out", "namespace": "legacy"}}, rules=RULES, limits=LIMITS)
    with RunningAgent(tmp_path / "agent", config) as agent:
        stage.settle(30)
        for _ in range(40):
            stage.move_and_settle()
        assert_calm(agent)
    assert_prompt(stage.lags[True])
    assert median(stage.lags[False]) < 3.0


def test_two_clusters_follow_every_change_though_the_agent_is_killed_twenty_times(
    two_api_servers: tuple[ApiServer, ApiServer], namespace: str, consul: Consul, tmp_path: Path
) -> None:
    servers = dict(zip(("east", "west"), two_api_servers, strict=True))
    clusters = {name: served_by(server, namespace) for name, server in servers.items()}
    config = configuration(consul, clusters, rules=RULES, limits={**LIMITS, "pass_spacing": "500ms"})
    chance = random.Random(SEED)
    with witnesses_of(servers, namespace) as witnesses, RunningAgent(tmp_path / "agent", config) as agent:
        stage = Stage(consul, SEED + 1, witnesses)
        kill_in_first_sync(agent, witnesses, chance)
        stage.settle(30)
        for _ in range(KILLS - 3):
            kill_amid_moves(agent, stage, chance)
            stage.move_and_settle()
        while stage.history.unplayed:
            stage.move_and_settle()
        agent.look_again(consul)
        stage.settle(0)
        assert_calm(agent)
        for name, server in servers.items():
            held = [found for kind in PLURALS for found in server.objects(kind, namespace)]
            assert written(held) == stage.wanted[name], "the witness has seen everything"
    assert_prompt(stage.lags[True])
    assert median(stage.lags[False]) < 2.0


def assert_prompt(lags: list[float]) -> None:
    """Changes of status are there at once, but for the few nodes whose loss must wait for a second look."""
    assert median(lags) < 0.3, lags
    assert quantiles(lags, n=5)[-1] < 1.0, lags


def assert_calm(agent: RunningAgent) -> None:
    """Nothing had to be found by a sweep, repaired, held or tried again."""
    report = agent.status_command()
    assert report["registries"]["consul-dc1"]["repairs"] == 0
    assert report["registries"]["consul-dc1"]["waiting"] == {}
    for cluster in report["clusters"].values():
        assert (cluster["repairs"], cluster["pending"], cluster["parked"]) == (0, 0, [])


def kill_in_first_sync(agent: RunningAgent, witnesses: Sequence[Witness], chance: random.Random) -> None:
    """Kill the agent three times while it fills the clusters, and start it again."""
    for number in (1, 2, 3):
        wait_for_objects(chance.choice(witnesses), 20 * number + chance.randint(-9, 9))
        agent.kill()
        agent.start()


def wait_for_objects(witness: Witness, number: int) -> None:
    """Wait until a cluster holds so many objects."""
    wait_until(lambda: len(witness.look()) >= number, f"{witness.name} holds {number} objects")


def kill_amid_moves(agent: RunningAgent, stage: Stage, chance: random.Random) -> None:
    """Kill the agent at some moment after a few changes, let another happen behind its back, and start it again."""
    for _ in range(chance.randint(1, 3)):
        stage.move()
    time.sleep(chance.choice((0.0, 0.02, 0.3, 0.7)) * chance.random())  # the moment is the point
    agent.kill()
    if chance.random() < 0.5:
        stage.move()
    agent.start()
    stage.settle(30)
