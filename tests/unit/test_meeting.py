"""A cluster that answers after the registries have had their first pass."""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from agent.clusters import Cluster
from agent.clusters.directory import DirectoryCluster
from agent.clusters.open import open_cluster
from agent.config import Config
from agent.daemon import Agent, remembering
from agent.demo.registry import EmbeddedRegistry
from agent.lane import Lane
from state.checkpoint import Checkpoint
from state.model import Held, ResourceKey
from tests.dc import configured, fill
from tests.testbed.processes import wait_until
from tests.unit.live import start
from tests.unit.world import World, orders

SKIP = [{"match": {"service": "*"}, "skip": True}]


@contextmanager
def agent_that_meets(config: Config, answer: threading.Event) -> Iterator[Agent]:
    """Give an agent whose clusters answer when they are let."""

    class Late(DirectoryCluster):
        def read(self, namespaces: frozenset[str]) -> Mapping[ResourceKey, Held]:
            assert answer.wait(30)
            return super().read(namespaces)

    def open_late(name: str) -> Cluster:
        found = open_cluster(config.clusters[name], config.limits)
        found.__class__ = Late
        return found

    with closing(Checkpoint.open(config.state)) as checkpoint:
        agent = Agent(config, remembering(config, checkpoint), open_late)
        try:
            yield agent
        finally:
            agent.stop()


@pytest.mark.parametrize("times", [1, 2])
def test_many_deletions_are_held_though_the_pass_was_over_before_the_cluster_was_read(
    tmp_path: Path, times: int
) -> None:
    answer = threading.Event()
    with EmbeddedRegistry() as registry:
        fill(registry)
        answer.set()
        with agent_that_meets(configured(tmp_path, registry.url), answer) as agent:
            start(agent)
        for _ in range(times):
            answer.clear()
            with agent_that_meets(configured(tmp_path, registry.url, rules=SKIP), answer) as agent:
                agent.start()
                lanes = agent.lanes.values()
                wait_until(agent.view.passed, "the first pass is over")
                wait_until(partial(_has_taken_all, lanes), "every lane has heard of it")
                answer.set()
                wait_until(partial(_hold, lanes, 12), "the deletions are held")
                assert sum(lane.report().writes for lane in lanes) == 0


def test_under_another_name_of_the_registry_nothing_goes_before_that_was_read(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.run():
        world.hear(*orders(*range(1, 21)))
    world.order, world.configuration = ("dc2",), "renamed"
    world.cluster.take_writes()
    with world.run():
        world.settle()
        world.lane.accept()
        world.settle()
        assert world.cluster.take_writes() == []
        world.hear(*orders(*range(1, 20)), registry="dc2")
        assert "-" not in {action for action, _ in world.cluster.take_writes()[:19]}
        world.eventually(lambda: len(world.cluster.addresses()) == 19)


def _has_taken_all(lanes: Collection[Lane]) -> bool:
    return not any(lane._inbox.has_news() for lane in lanes)


def _hold(lanes: Collection[Lane], number: int) -> bool:
    return all(len(lane.report().withheld) == number for lane in lanes)
