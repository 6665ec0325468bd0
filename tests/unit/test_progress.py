import logging
import os
import pty
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from agent.cli.logs import Lines
from agent.cli.progress import FirstSync
from agent.serving import LaneReport


def report(planned: int, writes: int, **changes: Any) -> LaneReport:
    values: dict[str, Any] = {
        "policy": "sync",
        "read": True,
        "error": "",
        "objects": writes,
        "pending": planned,
        "planned": planned,
        "oldest": None,
        "writes": writes,
        "taken": {},
        "failed": {},
        "repairs": 0,
        "withheld": (),
        "parked": (),
        "troubles": (),
    }
    return LaneReport(**{"paused": False, **values, **changes})


class ScriptedLane:
    """Answers with one report after the other, and goes on with the last."""

    def __init__(self, *reports: LaneReport) -> None:
        self._reports = list(reports)

    def settle(self, timeout: float | None) -> bool:
        assert timeout == 0
        return not self._reports[0].planned and not self._reports[0].error

    def report(self) -> LaneReport:
        return self._reports.pop(0) if len(self._reports) > 1 else self._reports[0]


def follow(lines: Lines, **lanes: ScriptedLane) -> None:
    agent: Any = SimpleNamespace(lanes=lanes, view=SimpleNamespace(passed=lambda: True))
    first = FirstSync(lambda: agent, lines)
    while not first.look():
        pass


def shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, lines: Lines, **lanes: ScriptedLane) -> str:
    """Follow with a terminal as standard error, and return what was written to it."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "100")
        patch.setattr(sys, "stderr", stream)
        follow(lines, **lanes)
        print("end", file=sys.stderr, flush=True)
        text = os.read(ours, 100_000).decode()
    os.close(ours)
    return text


def test_each_cluster_has_a_line_when_it_has_caught_up(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        follow(Lines(), east=ScriptedLane(report(80, 0), report(0, 80)), west=ScriptedLane(report(0, 0)))
    assert caplog.messages == [
        "cluster west: caught up: 0 objects, 0 writes",
        "cluster east: caught up: 80 objects, 80 writes",
    ]


def test_a_cluster_that_cannot_be_read_has_not_caught_up(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        follow(Lines(), east=ScriptedLane(report(0, 0, error="refused", read=False), report(0, 9)))
    assert caplog.messages == ["cluster east: caught up: 9 objects, 9 writes"]


def test_a_long_first_sync_shows_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    east = ScriptedLane(report(60, 40), report(10, 90), report(0, 100))
    text = shown_on_a_terminal(monkeypatch, lines, east=east)
    assert "writing" in text
    assert "40/100" in text
    assert not lines.crowded


def test_a_short_first_sync_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown_on_a_terminal(monkeypatch, Lines(), east=ScriptedLane(report(50, 0), report(0, 50)))
    assert "writing" not in text
