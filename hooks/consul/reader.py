"""The one reader of a Consul datacenter: every read that concludes something is made here, one at a time."""

import logging
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future

from hooks.consul.client import EVERYTHING, ConsulClient, unaskable
from hooks.consul.dirty import Dirty, too_many
from hooks.consul.watcher import Surroundings
from hooks.listener import Listener
from state.errors import RegistryError
from state.model import Reading, Snapshot

logger = logging.getLogger(__name__)

PASS_REST = 10  # a pass rests ten times its own duration


class Reader:
    """Reads what is dirty, and passes over everything when that is due."""

    def __init__(self, around: Surroundings, listener: Listener) -> None:
        self._around = around
        self._registry = around.settings.name
        self._limits = around.limits
        self._listener = listener
        self._client = ConsulClient(around.settings, around.limits)
        self._wake = threading.Condition()
        self._dirty = Dirty(around.limits.retry)
        self._pass_wanted: float | None = None
        self._awaited: list[Future[bool]] = []
        self._seen: dict[str, int] = {}  # each service's index, in this epoch
        self._begun = 0
        self._last_pass = (-float("inf"), 0.0)  # when it ended, how long it took
        self.passes = 0
        self.repairs = 0
        self._thread = threading.Thread(target=self._run, name=f"{self._registry} reader", daemon=True)

    # Life

    def start(self) -> None:
        """Start reading; a pass comes first."""
        self.want_pass()
        self._thread.start()

    def stop(self) -> None:
        """End the read that is under way, and the thread."""
        with self._wake:
            self._wake.notify_all()
        self._client.close()
        if self._thread.is_alive():
            self._thread.join(self._limits.stop)

    def mark(self, services: Collection[str]) -> None:
        """Mark services dirty: each is read anew."""
        with self._wake:
            self._dirty.mark(services, time.monotonic())
            self._wake.notify_all()

    def want_pass(self) -> None:
        """Ask for a pass as soon as the last one has rested."""
        with self._wake:
            if self._pass_wanted is None:
                self._pass_wanted = time.monotonic()
            self._wake.notify_all()

    def forget_indexes(self) -> None:
        """Forget what belonged to an epoch that has ended."""
        self._seen = {}

    def pass_now(self) -> None:
        """Make one pass at once and wait for it; RegistryError when it was not complete."""
        if self._thread.is_alive():
            done: Future[bool] = Future()
            with self._wake:
                self._awaited.append(done)
                self._wake.notify_all()
            complete = done.result()
        else:
            complete = self._pass(time.monotonic())
        if not complete:
            why = self._around.trouble.error or "it was interrupted"
            raise RegistryError(f"{self._registry}: no complete pass: {why}")

    def pass_until_judged(self) -> None:
        """Make one pass, and another if removals wait for no more than a pass begun later."""
        self.pass_now()
        due = self._listener.next_pass(self._last_pass[0])
        if due is not None and due <= self._last_pass[0]:
            self._around.stopping.wait(max(0.0, self._rest_until() - time.monotonic()))
            self.pass_now()

    @property
    def pass_seconds(self) -> float:
        """Return how long the last pass took."""
        return self._last_pass[1]

    @property
    def unreadable(self) -> dict[str, str]:
        """Return the services that cannot be read now, and why."""
        return self._dirty.troubles()

    # The thread

    def _run(self) -> None:
        stopping = self._around.stopping
        while not stopping.is_set():
            service, heard = self._next()
            if stopping.is_set():
                break
            try:
                if service is None:
                    self._pass(heard)
                else:
                    self._look(service, heard)
            except Exception:  # the reader's one net: what it was about to hand over is read again
                logger.exception("registry %s: reading failed", self._registry)
                self.mark([service] if service else [])
                self.want_pass()
                stopping.wait(self._limits.retry[-1])
        for done in self._awaited:
            done.set_result(False)

    def _next(self) -> tuple[str | None, float]:
        """Wait for the next thing to read: a dirty service, or None for a pass."""
        with self._wake:
            while not self._around.stopping.is_set():
                now = time.monotonic()
                taken = self._dirty.take(now, failed=False)
                if taken:
                    return taken
                due = self._pass_due()
                if due <= now or self._awaited:
                    return None, now if self._pass_wanted is None else self._pass_wanted
                taken = self._dirty.take(now, failed=True)  # after a pass, which those that fail must not keep away
                if taken:
                    return taken
                # A removal can begin to wait without a reading: a cluster that is met holds what nobody lists.
                self._wake.wait(max(0.0, min(due, self._dirty.next(), now + self._limits.release_spacing) - now))
        return None, 0.0

    def _rest_until(self) -> float:
        end, duration = self._last_pass
        return end + max(self._limits.pass_spacing, PASS_REST * duration)

    def _pass_due(self) -> float:
        end = self._last_pass[0]
        due = [end + self._limits.sweep, self._pass_wanted, self._listener.next_pass(end)]
        return max(self._rest_until(), min(at for at in due if at is not None))

    # Looks

    def _look(self, service: str, heard: float) -> list[Snapshot]:
        """Read one service, and hand over what was read.

        If it was emptied, everything that the list of services lacks joins it.
        """
        if not self._askable([service]):
            return []
        generation = self._around.epochs.generation
        joined: list[Snapshot] = []
        try:
            snapshot = self._service(service)
            if self._listener.doubts(snapshot):
                if not snapshot.instances:
                    joined = self._gone_besides(snapshot, heard)
                self._confirm()
        except RegistryError as error:
            self._could_not(service, heard, error)
            self.mark([one.service for one in joined])
            return []
        self._deliver([snapshot, *joined], heard, generation)
        return [snapshot, *joined]

    def _askable(self, services: Collection[str]) -> list[str]:
        """Return, sorted, the services that can be asked for; the others are reported and spoil nothing."""
        problems = {service: unaskable(service) for service in services}
        with self._wake:
            for service, problem in problems.items():
                if problem:
                    self._dirty.reject(service, problem)
        return sorted(service for service, problem in problems.items() if not problem)

    def _gone_besides(self, emptied: Snapshot, heard: float) -> list[Snapshot]:
        """Return every other service that the list lacks; where ACLs may filter lists, only its own read counts."""
        gone = sorted(set(self._listener.services()) - self._client.services().body - {emptied.service})
        if self._around.settings.services == EVERYTHING:
            return [Snapshot(name, (), emptied.index) for name in gone]
        self._client.probe()  # before many reads that it would make void
        found = []
        for name in gone:
            with self._wake:
                self._dirty.drop(name)
            try:
                found.append(self._service(name))
            except RegistryError as error:
                self._could_not(name, heard, error)
        return found

    def _service(self, service: str) -> Snapshot:
        """Read one service; an index that went back is read again before anything is concluded."""
        snapshot = self._client.service(service)
        if snapshot.index < self._seen.get(service, 0):
            self._confirm_epoch()
            snapshot = self._client.service(service)
        self._seen[service] = snapshot.index
        with self._wake:
            self._dirty.read(service)
        self._around.trouble.last_read = time.monotonic()
        return snapshot

    def _could_not(self, service: str, heard: float, error: RegistryError) -> None:
        """Leave a service dirty, with all its instances."""
        with self._wake:
            self._dirty.failed(service, heard, time.monotonic(), str(error))

    def _confirm(self) -> None:
        """Before a removal is believed: the probe is readable, and the epoch is still the same."""
        self._client.probe()
        self._confirm_epoch()

    def _confirm_epoch(self) -> None:
        epochs = self._around.epochs
        generation, known = epochs.generation, epochs.known("critical")
        epochs.compare("critical", self._client.state("critical").index, known, generation)

    def _deliver(
        self, snapshots: list[Snapshot], heard: float, generation: int, complete: bool = False
    ) -> Collection[str] | None:
        """Hand over a reading; return what changed, or None if its epoch ended meanwhile: it is read again."""
        if generation != self._around.epochs.generation:
            self.mark([snapshot.service for snapshot in snapshots])
            return None
        reading = Reading(
            registry=self._registry, snapshots=tuple(snapshots), heard=heard, begun=self._begun, complete=complete
        )
        return self._listener.hear(reading)

    # Passes

    def _pass(self, heard: float) -> bool:
        """Read every service in scope; the removals are judged together at the end."""
        begin, complete = time.monotonic(), False
        with self._wake:
            # A pass that somebody awaits, or that a removal waits for, is no sweep: what it finds was known.
            asked = self._awaited or self._listener.next_pass(self._last_pass[0]) is not None
            sweep = self._pass_wanted is None and not asked
            self._pass_wanted = None
            self._begun += 1
            awaited, self._awaited = self._awaited, []
        try:
            complete = self._read_all(heard, self._around.epochs.highest if sweep else -1)
        except RegistryError as error:
            self._around.trouble.failed("pass", error)
        finally:
            end = time.monotonic()
            self._last_pass = (end, end - begin)
            for done in awaited:
                done.set_result(complete)
        if complete:
            self.passes += 1
            self._around.trouble.succeeded("pass")
        else:
            self.want_pass()
        return complete

    def _read_all(self, heard: float, known: int) -> bool:
        """Read all services; a sweep should find nothing new up to the index ``known``."""
        generation = self._around.epochs.generation
        names = self._askable(self._client.services().body | set(self._listener.services()))
        doubtful: dict[str, Snapshot] = {}
        failures: list[RegistryError] = []
        for name in names:
            self._look_at_dirty(doubtful)
            if self._around.stopping.is_set() or generation != self._around.epochs.generation:
                return False
            try:
                snapshot = self._service(name)
            except RegistryError as error:
                self._could_not(name, heard, error)
                failures.append(error)
                if too_many(len(failures), len(names)):
                    self._client.probe()  # unless nothing can be read, what comes and changes elsewhere still counts
                continue
            if self._listener.doubts(snapshot):
                doubtful[name] = snapshot
            else:
                self._count_repairs([snapshot], self._deliver([snapshot], heard, generation), known)
        self._read_doubtful_again(doubtful, heard)
        self._confirm()
        if too_many(len(failures), len(names)):
            raise failures[-1]
        snapshots = list(doubtful.values())
        changed = self._deliver(snapshots, heard, generation, complete=True)
        self._count_repairs(snapshots, changed, known)
        return changed is not None

    def _read_doubtful_again(self, doubtful: dict[str, Snapshot], heard: float) -> None:
        """Read once more what seems gone: a pass can take so long that it is back."""
        self._look_at_dirty(doubtful)
        for name in tuple(doubtful):
            try:
                doubtful[name] = self._service(name)
            except RegistryError as error:
                self._could_not(name, heard, error)
                del doubtful[name]

    def _look_at_dirty(self, doubtful: dict[str, Snapshot]) -> None:
        """Let changes that are heard during a pass go first; they supersede what the pass read."""
        while True:
            with self._wake:
                taken = self._dirty.take(time.monotonic(), failed=False)
            if not taken:
                return
            doubtful.pop(taken[0], None)
            for snapshot in self._look(*taken):
                doubtful.pop(snapshot.service, None)
                if self._listener.doubts(snapshot):
                    doubtful[snapshot.service] = snapshot

    def _count_repairs(self, snapshots: list[Snapshot], changed: Collection[str] | None, known: int) -> None:
        """Count what only a sweep found: the watchers were told of everything up to ``known``."""
        self.repairs += sum(
            1 for snapshot in snapshots if snapshot.service in (changed or ()) and snapshot.index <= known
        )
