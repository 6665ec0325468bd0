"""One loop on a registry, with everything that believes, and no cluster: what was read, and by whose word."""

from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.listening import RegistryListener
from agent.rules import Rules
from agent.view import View
from hooks.consul.loop import ConsulLoop
from hooks.consul.settings import ConsulSettings
from hooks.found import Source
from state.checkpoint import Checkpoint
from state.limits import Limits
from state.model import Instance, Reading
from tests.testbed.processes import wait_until

REGISTRY = "consul-dc1"
LONG = 3600.0
QUICK: dict[str, Any] = {"pass_spacing": 0.05, "busy_spacing": 0.02, "retry": (0.02,), "stop": 2.0, "sweep": LONG}


class Recorder(RegistryListener):
    """Believes what it is told, and remembers every reading."""

    def __init__(self, view: View, registry: str) -> None:
        super().__init__(view, registry)
        self.readings: list[Reading] = []

    def hear(self, reading: Reading) -> Collection[str]:
        """Judge a reading and act on it; return the services whose content changed."""
        changed = super().hear(reading)
        self.readings.append(reading)
        return changed


class Hearing:
    """A loop that has made its first pass, inside ``with``."""

    def __init__(self, folder: Path, url: str, limits: dict[str, Any] | None = None, **settings: Any) -> None:
        self._checkpoint = Checkpoint.open(folder / "state.db")
        found = Limits(**{**QUICK, **(limits or {})})
        self.view = View((REGISTRY,), Rules((), "mesh.internal"), self._checkpoint, found, "configuration")
        self.listener = Recorder(self.view, REGISTRY)
        self.loop = ConsulLoop(ConsulSettings(name=REGISTRY, url=url, **settings), found, self.listener)

    def __enter__(self) -> Self:
        self.loop.start()
        wait_until(self.view.passed, "the first pass is over")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.stop()
        self._checkpoint.close()

    def instances(self, service: str) -> list[Instance]:
        """Return the believed instances of a service."""
        with self.view.lock:
            return sorted(self.view.beliefs[REGISTRY].services.get(service, {}).values(), key=lambda one: one.key)

    def ports(self, service: str) -> list[int]:
        """Return the ports of a service's believed instances, sorted."""
        return sorted(instance.port for instance in self.instances(service))

    def wait_for_ports(self, service: str, *ports: int) -> None:
        """Wait until a service has exactly these ports."""
        wait_until(lambda: self.ports(service) == sorted(ports), f"{service} has the ports {ports}")

    def changes(self) -> dict[Source, int]:
        """Count the changes that each source has found, where it has found any."""
        return {source: one.changes for source, one in self.loop.report().found.items() if one.changes}

    def parked(self) -> int:
        """Count the services whose own query waits now."""
        report = self.loop.report().parked
        return report.parked if report else 0

    def wakeups(self, source: Source) -> int:
        """Count the services that a source was the first to mark."""
        return self.loop.report().found[source].wakeups

    def wait_for_changes(self, **changes: int) -> None:
        """Wait until so many changes were found, by their sources."""
        wanted = {Source(source): number for source, number in changes.items()}
        wait_until(lambda: self.changes() == wanted, f"the changes found are {changes}, not {self.changes()}")
