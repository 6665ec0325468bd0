"""One loop on a Eureka cluster, with everything that believes, and no cluster to write to."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.rules import Rules
from agent.view import View
from hooks.eureka.loop import EurekaLoop
from hooks.eureka.report import EurekaReport
from hooks.eureka.settings import EurekaSettings
from state.checkpoint import Checkpoint
from state.limits import Limits
from state.model import Instance, Reason
from tests.hearing import LONG, Recorder
from tests.testbed.processes import wait_until

REGISTRY = "eureka-dc1"
QUICK: Mapping[str, Any] = {"pass_spacing": 0.05, "retry": (0.05,), "stop": 2.0, "sweep": LONG, "empty_grace": 0.0}


class EurekaHearing:
    """A loop that has made its first pass, inside ``with``; what it believes is remembered in the folder."""

    def __init__(self, folder: Path, *urls: str, limits: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self.checkpoint = Checkpoint.open(folder / "state.db")
        found = Limits(**{**QUICK, **(limits or {})})
        self.view = View((REGISTRY,), Rules((), "mesh.internal"), self.checkpoint, found, "configuration")
        self.listener = Recorder(self.view, REGISTRY)
        chosen = EurekaSettings(name=REGISTRY, urls=urls, **{"poll": 0.2, **settings})
        self.loop = EurekaLoop(chosen, found, self.listener, self.view.beliefs[REGISTRY].standing.versions)

    def __enter__(self) -> Self:
        self.loop.start()
        wait_until(self.view.passed, "the first pass is over")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it; what it believes stays in the folder."""
        self.loop.stop()
        self.checkpoint.close()

    def instances(self, app: str) -> list[Instance]:
        """Return the believed instances of an application."""
        with self.view.lock:
            return sorted(self.view.beliefs[REGISTRY].services.get(app, {}).values(), key=lambda one: one.key)

    def ids(self, app: str) -> list[str]:
        """Return the IDs of an application's believed instances."""
        return [instance.key.id for instance in self.instances(app)]

    def waiting(self) -> dict[str, Reason]:
        """Return why each removal waits, by instance ID."""
        with self.view.lock:
            return {key.id: row.reason for key, row in self.view.beliefs[REGISTRY].waiting.items()}

    @property
    def epoch(self) -> int:
        """Return the number of the life of the registry's data."""
        with self.view.lock:
            return self.view.beliefs[REGISTRY].standing.epoch

    def wait_for_ids(self, app: str, *ids: str, deadline: float = 30.0) -> None:
        """Wait until exactly these instances of an application are believed."""
        wait_until(lambda: self.ids(app) == sorted(ids), f"{app} has {ids}, not {self.ids(app)}", deadline)

    def wait_for_polls(self, more: int = 2) -> None:
        """Wait until so many more deltas were read, so that what was there before was heard."""
        wanted = self.report.polls + more
        wait_until(lambda: self.report.polls >= wanted, "more deltas were read")

    @property
    def report(self) -> EurekaReport:
        """Return how the cluster is being read."""
        found = self.loop.report().eureka
        assert found is not None
        return found
