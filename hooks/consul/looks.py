"""Reading one service of a Consul datacenter, and handing over what was read."""

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Literal

from hooks.consul.client import EVERYTHING, Answer, ConsulClient, unaskable
from hooks.consul.dirty import Dirty, Mark
from hooks.consul.recent import Recent
from hooks.consul.transport import longest_call
from hooks.consul.watcher import Surroundings
from hooks.found import Tally
from hooks.listener import Listener
from hooks.pulse import Pulse
from state.errors import RegistryError
from state.model import Reading, Snapshot

HASTE = 1.0  # seconds for a service to answer in; one that takes longer is asked again by the prober first


class Looks:
    """Makes every read that concludes something; for the reader's thread alone."""

    def __init__(self, around: Surroundings, listener: Listener, dirty: Dirty, tally: Tally) -> None:
        self.client = ConsulClient(around.settings, around.limits)
        self.recent = Recent(around.settings.parked)
        self.begun = 0  # passes
        self.hasty = False  # while there is no prober, nobody else would wait
        self.pulse = Pulse(f"{around.settings.name} reader", around.limits.deadline + longest_call(around.limits))
        self._around = around
        self._epochs = around.epochs
        self._listener = listener
        self._dirty = dirty
        self._tally = tally
        self._delivered: dict[str, float] = {}  # when each service was last handed over

    def look(self, service: str, mark: Mark) -> list[Snapshot]:
        """Read one service, and hand over what was read; return that, or what only a pass may conclude from.

        If it was emptied, everything that the list of services lacks joins it.
        """
        if not self.askable([service]):
            return []
        generation = self._epochs.generation
        joined: list[Snapshot] = []
        try:
            snapshot = self.read(service)
            # That a registered instance is critical is said by the answer itself: another life of the registry's data
            # can only make something seem gone. But nothing leaves while the probe fails.
            if self._listener.loses(snapshot):
                if self._around.trouble.of("pass"):
                    return [snapshot]  # nothing is removed while the registry cannot be read; a pass is wanted already
                if not snapshot.instances:
                    joined = self._gone_besides(snapshot, mark)
                self.confirm()
            elif self._listener.doubts(snapshot):
                self.client.probe()
        except RegistryError as error:
            self.could_not(service, mark, error)
            self._dirty.restore([one.service for one in joined], mark)
            return []
        snapshots = [snapshot, *joined]
        self._tally.changed(mark.source, len(self.deliver(snapshots, mark, generation) or ()), mark.heard)
        return snapshots

    def askable(self, services: Collection[str]) -> list[str]:
        """Return, sorted, the services that can be asked for; the others are reported and spoil nothing."""
        problems = {service: unaskable(service) for service in services}
        for service, problem in problems.items():
            if problem:
                self._dirty.reject(service, problem)
        return sorted(service for service, problem in problems.items() if not problem)

    def _gone_besides(self, emptied: Snapshot, mark: Mark) -> list[Snapshot]:
        """Return every other service that the list lacks; where ACLs may filter lists, only its own read counts."""
        gone = sorted(set(self._listener.services()) - self.client.services().body - {emptied.service})
        if self._around.settings.services == EVERYTHING:
            return [Snapshot(name, (), emptied.index) for name in gone]
        self.client.probe()  # before many reads that it would make void
        found, suspects = [], self._dirty.suspects()
        for name in gone:
            if name in suspects:
                continue
            self._dirty.drop(name)
            try:
                found.append(self.read(name))
            except RegistryError as error:
                self.could_not(name, mark, error)
        return found

    def read(self, service: str) -> Snapshot:
        """Read one service; an index that went back is read again before anything is concluded."""
        self.pulse.step()
        patience = HASTE if self.hasty and not self._dirty.has_answered(service) else self._around.limits.read_timeout
        patience = min(patience, self._around.limits.read_timeout)
        generation = self._epochs.generation
        snapshot = self.client.service(service, patience)
        if snapshot.index < self._epochs.last_read(service):
            self.confirm_epoch("critical", "nodes", "services")
            generation = self._epochs.generation
            snapshot = self.client.service(service, patience)
        self._epochs.read(service, snapshot.index, generation)
        self._dirty.read(service)
        self._around.trouble.last_read = time.monotonic()
        return snapshot

    def could_not(self, service: str, mark: Mark, error: RegistryError) -> None:
        """Leave a service dirty, with all its instances."""
        self._dirty.failed(service, mark, time.monotonic(), str(error))

    def confirm(self) -> None:
        """Before a removal is believed: the probe is readable, and the epoch is still the same."""
        self.client.probe()
        self.confirm_epoch("critical")

    def confirm_epoch(self, *lists: Literal["critical", "nodes", "services"]) -> None:
        """Read the indexes of lists anew; if one went back, another epoch begins."""
        asks: dict[str, Callable[[], Answer[Any]]] = {
            "critical": partial(self.client.state, "critical"),
            "nodes": self.client.nodes,
            "services": self.client.services,
        }
        for name in lists:
            generation, known = self._epochs.generation, self._epochs.known(name)
            self._epochs.compare(name, asks[name]().index, known, generation)

    def deliver(
        self, snapshots: list[Snapshot], mark: Mark, generation: int, complete: bool = False
    ) -> Mapping[str, float] | None:
        """Hand over a reading, or return None if its epoch ended meanwhile: it is read again.

        Returns what changed, and when each of these services had been handed over before.
        """
        if generation != self._epochs.generation:
            self._dirty.restore([snapshot.service for snapshot in snapshots], mark)
            return None
        changed = self._listener.hear(
            Reading(
                registry=self._around.settings.name,
                snapshots=tuple(snapshots),
                heard=mark.heard,
                begun=self.begun,
                complete=complete,
                index=self._epochs.highest,
            )
        )
        now, before = time.monotonic(), {}
        for snapshot in snapshots:
            service = snapshot.service
            self._epochs.handed_over(service, snapshot.index, generation)
            if service in changed:
                before[service] = self._delivered.get(service, mark.heard)
                self.recent.changed(service)
            if snapshot.instances:
                self._delivered[service] = now
            else:
                self._delivered.pop(service, None)
                self.recent.gone(service)
        return before
