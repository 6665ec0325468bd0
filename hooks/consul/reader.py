"""The one reader of a Consul datacenter: every read that concludes something is made by its thread, one at a time."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from functools import partial

from hooks.consul.dirty import Dirty
from hooks.consul.looks import Looks
from hooks.consul.parked import Parked
from hooks.consul.passes import Passes
from hooks.consul.prober import Prober
from hooks.consul.timetable import Timetable
from hooks.consul.watcher import Surroundings, Watcher
from hooks.found import Source, Tally
from hooks.listener import Listener
from state.errors import RegistryError

logger = logging.getLogger(__name__)

HINT_SPACING = 0.1  # seconds between two reads of one list that hints ask for
IN_A_ROW = 64  # dirty services that are read while something else is due
PARKING_SPACING = 1.0  # seconds between two changes of what is parked


class Reader:
    """Reads what is dirty, and passes over everything when that is due."""

    def __init__(self, around: Surroundings, listener: Listener, dirty: Dirty, tally: Tally, parked: Parked) -> None:
        self._around = around
        self._listener = listener
        self._dirty = dirty
        self._parked = parked
        self._looks = Looks(around, listener, dirty, tally)
        self._prober = Prober(around, dirty)
        self.passes = Passes(around, listener, self._looks, dirty, parked, tally, self._ask_lists)
        self._times = Timetable(around.limits)
        self._lists: dict[str, Watcher] = {}
        self._hinted: dict[str, float] = {}  # lists to be read because of a hint, and when
        self._asked: dict[str, float] = {}
        self._awaited: list[Future[bool]] = []
        self._had_footing: frozenset[str] = frozenset()
        self._parking_due = 0.0
        self._in_a_row = 0
        self._thread = threading.Thread(target=self._run, name=f"{around.settings.name} reader", daemon=True)

    # Life

    def start(self, lists: Sequence[Watcher]) -> None:
        """Start reading; a pass comes first. ``lists`` are those that hints may have read anew."""
        self._lists = {watcher.name: watcher for watcher in lists}
        self._looks.hasty = True
        self.want_pass()
        self._prober.start()
        self._thread.start()

    def stop(self) -> None:
        """End the reads that are under way, and the threads."""
        with self._dirty.wake:
            self._dirty.wake.notify_all()
        self._looks.client.close()
        self._prober.stop()
        if self._thread.is_alive():
            self._thread.join(self._around.limits.stop)

    def want_pass(self) -> None:
        """Ask for a pass as soon as the last one has rested."""
        with self._dirty.wake:
            self._times.want_pass(time.monotonic())
            self._dirty.wake.notify_all()

    def want_reread(self) -> None:
        """Ask for all services to be compared with what was read of them, as soon as the last time has rested."""
        with self._dirty.wake:
            self._times.want_reread(time.monotonic())
            self._dirty.wake.notify_all()

    def ask_lists(self, names: Collection[str]) -> None:
        """Ask for lists to be read now, beside their watchers; what is asked for already is asked once."""
        now = time.monotonic()
        with self._dirty.wake:
            for name in names:
                self._hinted.setdefault(name, max(now, self._asked.get(name, 0.0)))
            self._dirty.wake.notify_all()

    def pass_now(self) -> None:
        """Make one pass at once and wait for it; RegistryError when it was not complete."""
        if self._thread.is_alive():
            done: Future[bool] = Future()
            with self._dirty.wake:
                if self._around.stopping.is_set():
                    done.set_result(False)
                else:
                    self._awaited.append(done)
                self._dirty.wake.notify_all()
            complete = done.result()
        else:
            complete = self._pass()
        if not complete:
            why = self._around.trouble.error or "it was interrupted"
            raise RegistryError(f"{self._around.settings.name}: no complete pass: {why}")

    def pass_until_judged(self) -> None:
        """Make one pass, and another if removals wait for no more than a pass begun later."""
        self.pass_now()
        end = self._times.last_pass
        due = self._listener.next_pass(end)
        if due is not None and due <= end:
            self._around.stopping.wait(max(0.0, self._times.rested() - time.monotonic()))
            self.pass_now()

    @property
    def pass_seconds(self) -> float:
        """Return how long the last pass took."""
        return self._times.pass_seconds

    def stuck(self, now: float) -> str:
        """Return what has been at one step for too long, or nothing."""
        return self._looks.pulse.stuck(now) or self._prober.pulse.stuck(now)

    # The thread

    def _run(self) -> None:
        while not self._around.stopping.is_set():
            try:
                if step := self._next():
                    self._looks.pulse.step()
                    step()
            except Exception:  # the reader's one net: what it was about to hand over is read again
                logger.exception("registry %s: reading failed", self._around.settings.name)
                self.want_pass()
                self._around.stopping.wait(self._around.limits.retry[-1])
            self._looks.pulse.rest()
        with self._dirty.wake:
            for done in self._awaited:
                done.set_result(False)

    def _next(self) -> Callable[[], object] | None:
        """Wait for the next thing to do; None at the end."""
        while not self._around.stopping.is_set():
            # What changes all the time must not keep everything else away.
            first = self._in_a_row < IN_A_ROW
            taken = self._dirty.take() if first else None
            # Asked before the lock is taken: whoever believes may be asking for a report, which needs it.
            asked = None if taken else self._listener.next_pass(self._times.last_pass)
            with self._dirty.wake:
                if self._around.stopping.is_set():
                    return None
                if taken := taken or (self._dirty.take() if first else None):
                    self._in_a_row += 1
                    return partial(self._looks.look, *taken)
                now, self._in_a_row = time.monotonic(), 0
                due = {
                    self._ask_lists: min(self._hinted.values(), default=float("inf")),
                    self._pass: now if self._awaited else self._times.pass_due(asked),
                    self._reread: self._times.reread_due(),
                    self._park: self._parking_due if self._looks.recent.budget else float("inf"),
                }
                for step, when in due.items():
                    if when <= now:
                        return step
                if not first:
                    continue
                # After a pass: what answers, and still cannot be believed, must not keep it away.
                if taken := self._dirty.take(answered=True):
                    return partial(self._looks.look, *taken)
                # A removal can begin to wait without a reading: a cluster that is met holds what nobody lists.
                self._dirty.wake.wait(max(0.0, min(*due.values(), now + self._around.limits.release_spacing) - now))
        return None

    def _pass(self) -> bool:
        begun, complete = time.monotonic(), False
        needed = self._listener.next_pass(self._times.last_pass) is not None
        with self._dirty.wake:
            # A pass that somebody awaits, or that a removal waits for, is no sweep: what it finds was known.
            asked = bool(self._awaited) or needed
            heard = self._times.begin_pass()
            awaited, self._awaited = self._awaited, []
        try:
            complete = self.passes.make(
                begun if heard is None else heard,
                sweep=heard is None and not asked,
                prober=self._prober.is_alive(),
            )
        finally:
            self._times.end_pass(begun, time.monotonic(), complete=complete)
            for done in awaited:
                done.set_result(complete)
        if not complete:
            self.want_pass()
        return complete

    def _reread(self) -> None:
        with self._dirty.wake:
            heard = self._times.begin_reread()
        seconds = self.passes.reread(heard, self._lists["services"].body or ())
        self._times.end_reread(time.monotonic(), seconds)

    def _ask_lists(self) -> None:
        """Read the lists that hints have named, and hear what their watchers have not told yet."""
        now = time.monotonic()
        with self._dirty.wake:
            names = [name for name, when in self._hinted.items() if when <= now]
            for name in names:
                del self._hinted[name]
        for name in names:
            watcher = self._lists[name]
            try:
                watcher.look_beside(self._looks.client)
            except RegistryError as error:  # the watcher, which asks the same, will tell how that ends
                logger.debug("registry %s: a hint led to nothing", error)
            self._asked[name] = time.monotonic() + max(watcher.spacing, HINT_SPACING)

    def _park(self) -> None:
        """Park what changed most recently; look at what is parked no more, as its query may have been about to tell."""
        footing = self._parked.parked()
        self._dirty.mark(self._had_footing - footing.keys(), Source.REREAD)
        self._had_footing = frozenset(footing)
        unknown = {name for name, index in footing.items() if not self._around.epochs.is_known(name, index)}
        if unknown - self._dirty.failing():
            self.want_reread()  # a read can be answered by a server that is behind the one that wakes us
        if self._looks.recent.is_stale():
            self._parked.want(self._looks.recent.wanted())
        self._parking_due = time.monotonic() + PARKING_SPACING
