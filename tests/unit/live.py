"""An agent in this process, on an embedded registry and directories."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from agent.clusters.open import open_cluster
from agent.daemon import Agent, Tell, remembering
from agent.demo.registry import EmbeddedRegistry
from agent.holds import accepts, removals
from agent.report import status
from state.checkpoint import Checkpoint
from state.errors import RegistryError
from tests.dc import REGISTRY, configured, empty
from tests.testbed.processes import wait_until


@contextmanager
def agent_on(folder: Path, registry: EmbeddedRegistry, tell: Tell = lambda _: None, **changes: Any) -> Iterator[Agent]:
    """Give an agent that has not been started; it is stopped at the end."""
    folder.mkdir(exist_ok=True)
    config = configured(folder, registry.url, **changes)
    with closing(Checkpoint.open(config.state)) as checkpoint:
        clusters = config.clusters
        agent = Agent(
            config, remembering(config, checkpoint), lambda name: open_cluster(clusters[name], config.limits), tell
        )
        try:
            yield agent
        finally:
            agent.stop()


def start(agent: Agent) -> None:
    """Start an agent and wait until every cluster has everything."""
    agent.start()
    wait_until(lambda: agent.view.passed() and all(ok(agent, name) for name in agent.lanes), "all is written")


def ok(agent: Agent, cluster: str) -> bool:
    report = status(agent)["clusters"][cluster]
    return report["state"] == "ok" and not report["pending"]


def wipe(agent: Agent, registry: EmbeddedRegistry) -> list[dict[str, Any]]:
    """Lose the registry's data and return what is held then."""
    believed = sum(len(service) for service in agent.view.beliefs[REGISTRY].services.values())
    registry.wipe()
    empty(registry)

    def all_is_held() -> bool:
        with suppress(RegistryError):
            agent.loops[REGISTRY].pass_now()
        return len([row for row in removals(agent) if accepts(row)]) >= believed - 1  # one is rejected and simply goes

    wait_until(all_is_held, "what the registry lost is held")
    wait_until(lambda: not agent.loops[REGISTRY].report().error, "every query that was cut is asked again")
    return removals(agent)
