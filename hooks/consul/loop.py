"""One Consul datacenter: what changed is heard from blocking queries, what is true is read anew.

Four watchers only tell *that* something changed; one reader makes every read
that concludes something, so that no two reads of a service ever race.
https://developer.hashicorp.com/consul/api-docs/features/blocking
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from hooks.consul.epoch import Epochs
from hooks.consul.parse import Check
from hooks.consul.reader import Reader
from hooks.consul.settings import ConsulSettings
from hooks.consul.trouble import Trouble
from hooks.consul.watcher import Watcher
from hooks.listener import Listener
from state.limits import Limits

LISTS = 4  # registry-wide lists that are watched


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopReport:
    """How one registry is being read; times are monotonic seconds."""

    error: str
    failing_since: float | None
    last_read: float | None
    index: int
    passes: int
    pass_seconds: float
    repairs: int
    unreadable: Mapping[str, str]


class ConsulLoop:
    """Hears one Consul datacenter and reads what changed, until it is stopped."""

    def __init__(self, settings: ConsulSettings, limits: Limits, listener: Listener, floor: int = 0) -> None:
        """``floor`` is the highest index remembered: a lower one means another epoch."""
        self.settings = settings
        self.limits = limits
        self.stopping = threading.Event()
        self.trouble = Trouble(settings.name)
        self.epochs = Epochs(settings.name, LISTS, floor, self._begin_epoch)
        self._listener = listener
        self._reader = Reader(self, listener)
        spacing = limits.busy_spacing
        self._watchers = (
            Watcher("critical", lambda c, index, wait: c.state("critical", index, wait), self._hear_checks, self),
            Watcher("warning", lambda c, index, wait: c.state("warning", index, wait), self._hear_checks, self),
            Watcher("services", lambda c, index, wait: c.services(index, wait), self._hear_services, self, spacing),
            Watcher("nodes", lambda c, index, wait: c.nodes(index, wait), self._hear_nodes, self, spacing),
        )
        self._starter = threading.Thread(target=self._start_reader, name=f"{settings.name} start", daemon=True)

    def start(self) -> None:
        """Start listening; the first pass follows as soon as every watcher has a footing."""
        for watcher in self._watchers:
            watcher.start()
        self._starter.start()

    def _start_reader(self) -> None:
        for watcher in self._watchers:
            watcher.wait_for_footing()
        if not self.stopping.is_set():
            self._reader.start()

    def stop(self) -> None:
        """End every query and thread."""
        self.stopping.set()
        for watcher in self._watchers:
            watcher.stop()
        if self._starter.is_alive():
            self._starter.join(self.limits.stop)
        self._reader.stop()

    def once(self) -> None:
        """Read everything, and again if that is all that removals wait for; RegistryError when it fails."""
        for watcher in self._watchers:
            watcher.look()
        self._reader.pass_until_judged()

    def pass_now(self) -> None:
        """Make one pass at once and wait for it; RegistryError when it was not complete."""
        self._reader.pass_now()

    def report(self) -> LoopReport:
        """Return how the registry is being read."""
        return LoopReport(
            error=self.trouble.error,
            failing_since=self.trouble.since,
            last_read=self.trouble.last_read,
            index=self.epochs.highest,
            passes=self._reader.passes,
            pass_seconds=self._reader.pass_seconds,
            repairs=self._reader.repairs,
            unreadable=self._reader.unreadable,
        )

    # What the watchers hear

    def _hear_checks(self, before: frozenset[Check], after: frozenset[Check]) -> None:
        services: set[str] = set()
        for check in before ^ after:
            if check.service_id:
                services.add(check.service)
            else:
                services.update(self._listener.services_of(check.node))
        self._reader.mark(services)

    def _hear_services(self, before: frozenset[str], after: frozenset[str]) -> None:
        self._reader.mark(before ^ after)
        self._reader.want_pass()

    def _hear_nodes(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        nodes = {node for node in before.keys() | after.keys() if before.get(node) != after.get(node)}
        self._reader.mark({service for node in nodes for service in self._listener.services_of(node)})
        self._reader.want_pass()

    def _begin_epoch(self) -> None:
        self._listener.begin_epoch()
        self._reader.forget_indexes()
        self._reader.want_pass()
