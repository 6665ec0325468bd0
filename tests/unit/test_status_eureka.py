"""What `isthmus status` and the page show of a Eureka, beside a Consul."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import main
from agent.daemon import Agent
from agent.demo.eureka import EmbeddedEureka
from agent.demo.registry import EmbeddedRegistry
from agent.metrics import Metrics
from agent.report import status
from agent.web.control import ControlServer
from agent.web.status import create_app
from tests.dc import REGISTRY
from tests.testbed.processes import wait_until
from tests.unit.live import agent_on, start

EUREKA = "eureka-dc1"


@pytest.fixture
def eureka() -> Iterator[EmbeddedEureka]:
    with EmbeddedEureka() as eureka:
        eureka.register("BILLING", "billing-1", "10.3.0.1", 8080)
        eureka.register("BILLING", "billing-2", "127.0.0.1", 8080)
        yield eureka


@pytest.fixture
def both(registry: EmbeddedRegistry, eureka: EmbeddedEureka, tmp_path: Path) -> Iterator[Agent]:
    """An agent of both, which runs, and has heard of one change by a delta."""
    registries = {
        REGISTRY: {"type": "consul", "url": registry.url},
        EUREKA: {"type": "eureka", "urls": [eureka.url], "poll": "50ms"},
    }
    with agent_on(tmp_path, registry, registries=registries) as agent:
        start(agent)
        eureka.register("BILLING", "billing-3", "10.3.0.3", 8080)
        wait_until(lambda: status(agent)["registries"][EUREKA]["instances"] == 3, "it is heard of")
        yield agent


def lines(folder: Path) -> list[str]:
    answer = CliRunner().invoke(main, ["--config", str(folder / "isthmus.yaml"), "status"])
    assert answer.exit_code == 0
    return [" ".join(line.split()) for line in answer.stdout.splitlines()]


def test_status_says_how_a_eureka_is_polled(both: Agent, eureka: EmbeddedEureka, tmp_path: Path) -> None:
    server = ControlServer(lambda: both, both.config.control, lambda: None)
    server.start()
    shown = lines(tmp_path)
    server.stop()
    (told,) = [line for line in shown if line.startswith(f"{EUREKA}: version ")]
    assert f"asks {eureka.url}: " in told
    assert "of which" in told
    assert "1 full read (1 start), 0 mismatches, 0 confirmations" in told
    assert "parked" not in told
    assert any("services parked of" in line for line in shown if line.startswith(f"{REGISTRY}: index "))
    assert any(line.startswith(f"{EUREKA} delta ") for line in shown)
    (rejected,) = [line for line in shown if "BILLING/billing-2: " in line]
    assert "127.0.0.1" in rejected


def test_status_without_an_agent_claims_no_polls(both: Agent, tmp_path: Path) -> None:
    both.stop()
    (told,) = [line for line in lines(tmp_path) if line.startswith(f"{EUREKA}: version ")]
    assert "asks" not in told
    assert "polls" not in told


def test_the_page_shows_how_a_eureka_is_polled(both: Agent, eureka: EmbeddedEureka) -> None:
    answer = create_app(lambda: both, "127.0.0.1", Metrics(), lambda: None).test_client().get("/")
    assert answer.status_code == 200
    text = " ".join(answer.text.split())
    assert "<h2>How Eureka is polled</h2>" in text
    assert f"<td>{EUREKA}</td><td>{eureka.url}" in text
    assert "1 start" in text
    assert "BILLING/billing-2: " in text


def test_the_page_is_silent_of_eureka_where_there_is_none(agent: Agent) -> None:
    answer = create_app(lambda: agent, "127.0.0.1", Metrics(), lambda: None).test_client().get("/")
    assert "Eureka" not in answer.text
