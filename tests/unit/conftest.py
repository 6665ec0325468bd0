"""What tests of a whole agent in this process stand on: a small embedded registry, and an agent that serves it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.daemon import Agent
from agent.demo.registry import EmbeddedRegistry
from tests.dc import fill
from tests.unit.live import agent_on, start


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    """A registry with what `tests.dc` puts into it."""
    with EmbeddedRegistry() as registry:
        fill(registry)
        yield registry


@pytest.fixture
def agent(registry: EmbeddedRegistry, tmp_path: Path) -> Iterator[Agent]:
    """An agent of that registry, which runs."""
    with agent_on(tmp_path, registry) as agent:
        start(agent)
        yield agent
