"""From a configuration to an agent, and what all verbs do with one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from typing import TypeVar

from agent.clusters import Cluster
from agent.clusters.open import open_cluster
from agent.config import Config
from agent.daemon import Agent, OpenCluster, remembering
from state.checkpoint import Checkpoint
from state.errors import IsthmusError, StateError

T = TypeVar("T")


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
    with state_file(config) as checkpoint:
        agent = Agent(config, remembering(config, checkpoint), clusters_of(config))
        try:
            yield agent
        finally:
            agent.stop()


@contextmanager
def state_file(config: Config) -> Iterator[Checkpoint]:
    """Give the state file, whoever's it is; StateError while another isthmus has it."""
    with closing(Checkpoint.open(config.state)) as checkpoint:
        yield checkpoint


@contextmanager
def alone(opened: AbstractContextManager[T], told: Callable[[StateError], str]) -> Iterator[T]:
    """Give what has the state file to itself; when that is not to be had, a StateError that is ``told`` another way."""
    with ExitStack() as stack:
        try:
            given = stack.enter_context(opened)
        except StateError as error:
            raise StateError(told(error)) from error
        yield given


def unasked(silence: IsthmusError) -> Callable[[StateError], str]:
    """Return how to tell that no agent could be asked, although there is one."""
    return lambda error: f"{silence}; and {error}"


@contextmanager
def remembered_alone(config: Config, silence: IsthmusError) -> Iterator[Checkpoint]:
    """Give the state file, no agent being there to ask; StateError when there is one, which says why it was not."""
    with alone(state_file(config), unasked(silence)) as checkpoint:
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
