import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import main
from agent.demo.registry import EmbeddedRegistry
from agent.report import status
from agent.web.control import ControlServer
from hooks.receiver import Called, ReceiverReport, Result
from tests.dc import REGISTRY, fill
from tests.testbed.processes import wait_until
from tests.unit.live import agent_on, start


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def shown(folder: Path) -> list[str]:
    """Return the lines of `isthmus status`, with one space between columns."""
    answer = CliRunner().invoke(main, ["--config", str(folder / "isthmus.yaml"), "status"])
    assert answer.exit_code == 0
    return [" ".join(line.split()) for line in answer.stdout.splitlines()]


def test_status_shows_how_changes_were_found_what_was_written_and_who_called(tmp_path: Path) -> None:
    calls = {Called(REGISTRY, "service", Result.HEARD): 3, Called("", "", Result.UNAUTHORISED): 2}
    report = ReceiverReport(
        calls=calls, last={REGISTRY: time.monotonic()}, body_bytes=7, faults=("port 1: no",), served=("/run/hook.sock",)
    )
    with EmbeddedRegistry() as registry, agent_on(tmp_path, registry) as agent:
        fill(registry)
        start(agent)
        registry.register("late", "late-1", "node-1", 80, address="10.9.0.1")
        wait_until(lambda: status(agent)["clusters"]["east"]["taken"]["create"] == 17, "it is written")
        server = ControlServer(lambda: agent, agent.config.control, lambda: report)
        server.start()
        lines = shown(tmp_path)
        server.stop()
        alone = shown(tmp_path)
    assert any("services parked of 150 at most" in line for line in lines)
    (found,) = (line for line in lines if line.startswith(f"{REGISTRY} list "))
    assert found.split()[2:4] == ["1", "1"]
    assert "east: 17 created" in lines
    assert "- - unauthorised 2 -" in lines
    assert any(line.startswith(f"{REGISTRY} service heard 3 ") and line.endswith(" ago") for line in lines)
    assert "port 1: no" in lines
    assert lines[lines.index("served (1):") + 1] == "/run/hook.sock"
    assert not any("parked" in line or "FOUND BY" in line or "CALLED FOR" in line for line in alone)
