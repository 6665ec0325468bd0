"""What the first sync shows: a bar on a terminal when it is long, and a line for each cluster that caught up."""

import logging
import sys
from collections.abc import Callable
from importlib import import_module

from agent.cli.logs import Lines
from agent.daemon import Agent
from agent.serving import LaneReport
from agent.words import count

logger = logging.getLogger(__name__)

LONG = 50  # objects to write; a sync with more of them is worth a bar


class FirstSync:
    """Follows the lanes of the agent that serves until each has caught up once."""

    def __init__(self, current: Callable[[], Agent], lines: Lines) -> None:
        self._current = current
        self._lines = lines
        self._behind = set(current().lanes)
        # Imported where somebody looks: a service would keep all of rich in memory for nothing.
        self._bar = import_module("agent.cli.bar").Bar() if sys.stderr.isatty() else None
        if self._bar is not None:
            self._bar.start()

    def look(self) -> bool:
        """Look once, and show it; tell whether every cluster is caught up."""
        if not self._behind:
            return True
        reports = self._look()
        if self._bar is not None:
            done = sum(report.writes for report in reports.values())
            ahead = sum(report.planned for report in reports.values())
            if ahead > LONG:
                self._lines.crowded = True
                self._bar.appear()
            self._bar.show(done, done + ahead)
        if not self._behind:
            self.stop()
        return not self._behind

    def stop(self) -> None:
        """Take the bar away."""
        self._lines.crowded = False
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _look(self) -> dict[str, LaneReport]:
        """Return how every lane is; one that caught up for the first time gets its line."""
        agent = self._current()
        read = agent.view.passed()
        self._behind &= agent.lanes.keys()  # one that a reload took away is not waited for
        reports = {}
        for name, lane in agent.lanes.items():
            settled = lane.settle(0)
            report = reports[name] = lane.report()
            if name in self._behind and read and settled and report.read and not report.error:
                self._behind.discard(name)
                logger.info("cluster %s: caught up: %s", name, _caught_up(report))
        return reports


def _caught_up(report: LaneReport) -> str:
    found = f"{count(report.objects, 'object')}, {count(report.writes, 'write')}"
    return f"{found}, {report.pending} pending" if report.pending else found
