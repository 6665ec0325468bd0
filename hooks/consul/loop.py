"""One Consul datacenter: what changed is heard from blocking queries, what is true is read anew.

Four watchers, the parked queries and hints only tell *that* something changed;
one reader makes every read that concludes something, so that no two reads of a
service ever race. https://developer.hashicorp.com/consul/api-docs/features/blocking
"""

import threading
from collections.abc import Mapping
from fnmatch import fnmatchcase

from hooks.consul.client import unaskable
from hooks.consul.dirty import Dirty
from hooks.consul.epoch import Epochs
from hooks.consul.parked import Parked
from hooks.consul.parse import CONSUL, Check
from hooks.consul.reader import Reader
from hooks.consul.settings import ConsulSettings
from hooks.consul.watcher import Watcher
from hooks.found import CONSUL_SOURCES, Source, Tally
from hooks.listener import Listener
from hooks.loop import LoopReport
from hooks.trouble import Trouble
from state.limits import Limits

LISTS = 4  # registry-wide lists that are watched
HINTED: Mapping[str, tuple[str, ...]] = {  # the lists that a hint of a kind means
    "services": ("services",),
    "nodes": ("nodes",),
    "checks": ("critical", "warning"),
}


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
        self._tally = Tally(CONSUL_SOURCES)
        self._dirty = Dirty(limits.retry, self._tally)
        self._parked = Parked(settings, limits, self._hear_parked)
        self._reader = Reader(self, listener, self._dirty, self._tally, self._parked)
        status, lists, spacing = Source.STATUS, Source.LIST, limits.busy_spacing
        self._services = Watcher(
            "services", lambda c, i, wait: c.services(i, wait), self._hear_services, self, source=lists, spacing=spacing
        )
        self._watchers = (
            Watcher(
                "critical", lambda c, i, wait: c.state("critical", i, wait), self._hear_checks, self, source=status
            ),
            Watcher("warning", lambda c, i, wait: c.state("warning", i, wait), self._hear_checks, self, source=status),
            self._services,
            Watcher(
                "nodes", lambda c, i, wait: c.nodes(i, wait), self._hear_nodes, self, source=lists, spacing=spacing
            ),
        )
        self._starter = threading.Thread(target=self._start_reader, name=f"{settings.name} start", daemon=True)

    def start(self) -> None:
        """Start listening; the first pass follows as soon as every watcher has a footing."""
        for watcher in self._watchers:
            watcher.start()
        self._parked.start()
        self._starter.start()

    def _start_reader(self) -> None:
        for watcher in self._watchers:
            watcher.wait_for_footing()
        if not self.stopping.is_set():
            self._reader.start(self._watchers)

    def stop(self) -> None:
        """End every query and thread."""
        self.stopping.set()
        for watcher in self._watchers:
            watcher.stop()
        if self._starter.is_alive():
            self._starter.join(self.limits.stop)
        self._parked.stop()
        self._reader.stop()

    def once(self) -> None:
        """Read everything, and again if that is all that removals wait for; RegistryError when it fails."""
        for watcher in self._watchers:
            watcher.look()
        self._reader.pass_until_judged()

    def pass_now(self) -> None:
        """Make one pass at once and wait for it; RegistryError when it was not complete."""
        self._reader.pass_now()

    def hint(self, kind: str, service: str = "") -> None:
        """Look at what a call of a watch handler speaks of: a ``service``, or ``services``, ``nodes`` or ``checks``.

        Never waits. What is out of scope, cannot be asked for or is no kind is ignored.
        """
        if kind != "service":
            self._reader.ask_lists(HINTED.get(kind, ()))
        elif service in (self._services.body or ()) or self.epochs.last_read(service):
            self._dirty.mark([service], Source.HINT)
        elif self._is_ours(service):
            # The list knows whether it is there: names that somebody makes up are not read one by one.
            self._reader.ask_lists(HINTED["services"])

    def _is_ours(self, service: str) -> bool:
        in_scope = any(fnmatchcase(service, glob) for glob in self.settings.services)
        return in_scope and service != CONSUL and not unaskable(service)

    def stuck(self, now: float) -> str:
        """Return what has been at one step for too long, or nothing; ``now`` is in monotonic seconds."""
        found = [watcher.stuck(now) for watcher in self._watchers]
        return next(filter(None, [*found, self._reader.stuck(now), self._parked.stuck(now)]), "")

    def report(self) -> LoopReport:
        """Return how the registry is being read."""
        passes = self._reader.passes
        return LoopReport(
            error=self.trouble.error,
            failing_since=self.trouble.since,
            last_read=self.trouble.last_read,
            index=self.epochs.highest,
            passes=passes.passes,
            pass_seconds=self._reader.pass_seconds,
            rereads=passes.rereads,
            repairs=passes.repairs,
            unreadable=self._dirty.troubles(),
            found=self._tally.report(),
            parked=self._parked.report(),
        )

    # What is heard

    def _hear_parked(self, service: str, index: int) -> None:
        if not self.epochs.is_known(service, index):
            self._dirty.mark([service], Source.PARKED)

    def _hear_checks(self, before: frozenset[Check], after: frozenset[Check], source: Source) -> None:
        services: set[str] = set()
        for check in before ^ after:
            if check.service_id:
                services |= {check.service} if self._is_ours(check.service) else set()
            else:
                services.update(self._listener.services_of(check.node))
        self._dirty.mark(services, source)

    def _hear_services(self, before: frozenset[str], after: frozenset[str], source: Source) -> None:
        self._dirty.mark(before ^ after, source)
        self._reader.want_reread()

    def _hear_nodes(self, before: Mapping[str, str], after: Mapping[str, str], source: Source) -> None:
        nodes = {node for node in before.keys() | after.keys() if before.get(node) != after.get(node)}
        self._dirty.mark({service for node in nodes for service in self._listener.services_of(node)}, source)
        self._reader.want_reread()

    def _begin_epoch(self) -> None:
        self._listener.begin_epoch()
        self._reader.want_pass()
