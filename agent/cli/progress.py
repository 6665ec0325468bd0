"""What the first sync shows: a bar on a terminal when it is long, and a line for each cluster that caught up."""

import logging
from threading import Event

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agent.cli.logs import Lines
from agent.daemon import Agent
from agent.serving import LaneReport
from agent.words import count

logger = logging.getLogger(__name__)

LONG = 50  # objects to write; a sync with more of them is worth a bar
LOOK = 0.25  # seconds between two looks


class FirstSync:
    """Follows the lanes of an agent until each has caught up once."""

    def __init__(self, agent: Agent, lines: Lines) -> None:
        self._agent = agent
        self._lines = lines
        self._behind = set(agent.lanes)

    def follow(self, stop: Event) -> None:
        """Return when every cluster is caught up, or when stopped."""
        console = Console(stderr=True)
        with Progress(
            TextColumn("writing"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            auto_refresh=False,
        ) as bar:
            task = bar.add_task("", visible=False)
            while self._behind and not stop.is_set():
                reports = self._look()
                done = sum(report.writes for report in reports.values())
                ahead = sum(report.planned for report in reports.values())
                if ahead > LONG and console.is_terminal:
                    self._lines.crowded = True
                    bar.update(task, visible=True)
                bar.update(task, completed=done, total=done + ahead)
                bar.refresh()
                stop.wait(LOOK)
        self._lines.crowded = False

    def _look(self) -> dict[str, LaneReport]:
        """Return how every lane is; one that caught up for the first time gets its line."""
        read = self._agent.view.passed()
        reports = {}
        for name, lane in self._agent.lanes.items():
            settled = lane.settle(0)
            report = reports[name] = lane.report()
            if name in self._behind and read and settled and report.read and not report.error:
                self._behind.discard(name)
                logger.info("cluster %s: caught up: %s", name, _caught_up(report))
        return reports


def _caught_up(report: LaneReport) -> str:
    found = f"{count(report.objects, 'object')}, {count(report.writes, 'write')}"
    return f"{found}, {report.pending} pending" if report.pending else found
