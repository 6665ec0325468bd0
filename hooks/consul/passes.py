"""Reading all of a Consul datacenter: whole passes, and re-reads of what may have changed unheard."""

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from hooks.consul.dirty import Dirty, Mark, too_many
from hooks.consul.looks import Looks
from hooks.consul.parked import Parked
from hooks.consul.watcher import Surroundings
from hooks.found import Source, Tally
from hooks.listener import Listener
from state.errors import RegistryError
from state.model import Snapshot

AT_ONCE = 8  # dirty services that are read before a pass goes on: it must end even where something changes all the time
PEEK = 32  # services whose indexes are asked for at a time: what is heard meanwhile must not wait for a thousand


class Passes:
    """Makes passes and re-reads; for the reader's thread alone.

    Only a pass is complete: it has truly read every service, and so may prove that
    something is missing. A re-read asks for indexes, and has the reader look at the
    services whose index is not the one that was read last; it concludes nothing.
    """

    def __init__(
        self,
        around: Surroundings,
        listener: Listener,
        looks: Looks,
        dirty: Dirty,
        parked: Parked,
        tally: Tally,
        between: Callable[[], None],
    ) -> None:
        """``between`` is called now and then, for what must not wait for the end of a pass."""
        self._around = around
        self._epochs = around.epochs
        self._listener = listener
        self._looks = looks
        self._dirty = dirty
        self._parked = parked
        self._tally = tally
        self._between = between
        self.passes = 0
        self.rereads = 0
        self.repairs = 0

    # Passes

    def make(self, heard: float, *, sweep: bool, prober: bool) -> bool:
        """Read every service in scope; the removals are judged together at the end.

        A ``sweep`` should find nothing new up to the index that the lists are known to
        have. With a ``prober`` suspects are left to it. Tells whether the pass was complete.
        """
        self._looks.begun += 1
        if sweep:
            self._tally.woke(Source.SWEEP)
        try:
            complete = self._read_all(heard, self._epochs.highest if sweep else -1, prober)
        except RegistryError as error:
            self._around.trouble.failed("pass", error)
            return False
        if complete:
            self.passes += 1
            self._around.trouble.succeeded("pass")
            self._looks.recent.listed(self._listener.services())
        return complete

    def _read_all(self, heard: float, known: int, prober: bool) -> bool:
        generation, mark = self._epochs.generation, Mark(heard, Source.REREAD)
        listed = self._looks.client.services().body
        names = self._looks.askable(listed | set(self._listener.services()))
        if prober:
            self._dirty.hurry()
        doubtful: dict[str, Snapshot] = {}
        for name in names:
            self._look_at_dirty(doubtful)
            if self._around.stopping.is_set() or generation != self._epochs.generation:
                return False
            if prober and self._dirty.is_suspect(name):
                continue
            try:
                snapshot = self._looks.read(name)
            except RegistryError as error:
                self._looks.could_not(name, mark, error)
                if too_many(len(self._dirty.failing()), len(names)):
                    self._looks.client.probe()  # unless nothing can be read, what comes and changes elsewhere counts
                continue
            if self._listener.doubts(snapshot):
                doubtful[name] = snapshot
            else:
                self._count([snapshot], self._looks.deliver([snapshot], mark, generation), mark, known)
        self._read_doubtful_again(doubtful, mark)
        self._looks.confirm()
        unread = self._dirty.failing().intersection(names)
        if too_many(len(unread), len(names)):
            raise RegistryError(self._dirty.troubles()[min(unread)])
        snapshots = list(doubtful.values())
        changed = self._looks.deliver(snapshots, mark, generation, complete=True)
        self._count(snapshots, changed, mark, known)
        there = listed.union(names, self._listener.services())
        self._epochs.keep(there)
        self._dirty.keep(there)
        return changed is not None

    def _read_doubtful_again(self, doubtful: dict[str, Snapshot], mark: Mark) -> None:
        """Read once more what seems gone: a pass can take so long that it is back."""
        self._look_at_dirty(doubtful)
        for name in tuple(doubtful):
            try:
                doubtful[name] = self._looks.read(name)
            except RegistryError as error:
                self._looks.could_not(name, mark, error)
                del doubtful[name]

    def _look_at_dirty(self, doubtful: dict[str, Snapshot], most: int = AT_ONCE) -> None:
        """Let changes that are heard during a pass go first; they supersede what the pass read."""
        self._between()
        for _ in range(most):
            taken = self._dirty.take()
            if taken is None:
                break
            doubtful.pop(taken[0], None)
            for snapshot in self._looks.look(*taken):
                doubtful.pop(snapshot.service, None)
                if self._listener.doubts(snapshot):
                    doubtful[snapshot.service] = snapshot

    def _count(self, snapshots: list[Snapshot], changed: Mapping[str, float] | None, mark: Mark, known: int) -> None:
        """Count what was found; up to ``known`` the watchers were told of everything, so only a sweep finds it."""
        if not changed or self.passes == 0:
            return
        for snapshot in snapshots:
            if snapshot.service in changed:
                missed = snapshot.index <= known
                self.repairs += missed
                since, source = Mark(changed[snapshot.service], Source.SWEEP) if missed else mark
                self._tally.changed(source, 1, since)

    # Re-reads

    def reread(self, heard: float, listed: Iterable[str]) -> float:
        """Look at every service whose index is not the one that was read last; those parked tell it themselves.

        ``listed`` are the names of the last list of services. The index of a service
        moves with whatever changes in it, so in one epoch an equal index is equal
        content (https://developer.hashicorp.com/consul/api-docs/features/blocking).
        If another epoch has begun unnoticed, a pass follows as soon as it is noticed.
        Returns the seconds that it took, without those in which changes were read.
        """
        names = set(self._listener.services()).union(listed)
        # One whose query waits with another index than the one that was read is no more heard than the others.
        names -= {name for name, index in self._parked.parked().items() if self._epochs.is_known(name, index)}
        names -= self._dirty.suspects()
        asking = looking = 0.0
        before = self._tally.report()[Source.REREAD]
        remaining = iter(sorted(names))
        while chunk := list(islice(remaining, PEEK)):
            self._looks.pulse.step()
            begun = time.monotonic()
            told = self._epochs.told(chunk)
            same = self._parked.peek(told) if told else frozenset()
            asked = time.monotonic()
            self._dirty.mark([name for name in chunk if name not in same], Source.REREAD, heard)
            self._look_at_dirty({}, 2 * PEEK)
            asking, looking = asking + asked - begun, looking + time.monotonic() - asked
            if self._around.stopping.is_set():
                break
        self.rereads += 1
        after = self._tally.report()[Source.REREAD]
        marked, changed = after.wakeups - before.wakeups, after.changes - before.changes
        return asking + looking * max(0, marked - changed) / max(1, marked)
