"""From a configuration to an agent, and what all verbs do with one."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from agent.clusters import Cluster
from agent.clusters.open import open_cluster
from agent.config import Config
from agent.daemon import Agent, OpenCluster, remembering
from state.checkpoint import Checkpoint
from state.errors import IsthmusError, StateError


def clusters_of(config: Config) -> OpenCluster:
    """Return what opens the clusters of a configuration by name."""

    def open_by_name(name: str) -> Cluster:
        return open_cluster(config.clusters[name], config.limits)

    return open_by_name


@contextmanager
def working(config: Config) -> Iterator[Agent]:
    """Give an agent that has the state file to itself, and stop it at the end.

    Raises StateError while another isthmus has the file, ConfigurationError when it is another owner's.
    """
    with closing(Checkpoint.open(config.state)) as checkpoint:
        agent = Agent(config, remembering(config, checkpoint), clusters_of(config))
        try:
            yield agent
        finally:
            agent.stop()


@contextmanager
def remembered_alone(config: Config, silence: IsthmusError) -> Iterator[Checkpoint]:
    """Give the state file, no agent being there to ask; StateError when there is one, which says why it was not."""
    with ExitStack() as stack:
        try:
            checkpoint = stack.enter_context(closing(Checkpoint.open(config.state)))
        except StateError as error:
            raise StateError(f"{silence}; and {error}") from error
        yield remembering(config, checkpoint)


@contextmanager
def rehearsing(config: Config) -> Iterator[Agent]:
    """Give an agent on a copy of the state in memory: whatever it concludes is forgotten."""
    with closing(Checkpoint.copy(config.state)) as checkpoint:
        agent = Agent(config, remembering(config, checkpoint), clusters_of(config))
        try:
            yield agent
        finally:
            agent.stop()
