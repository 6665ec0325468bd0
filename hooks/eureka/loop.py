"""One Eureka cluster: deltas merged into a view, full reads where that is not enough.

One thread makes every read, of one server at a time, and hands over what was read:
no two reads ever race. https://github.com/Netflix/eureka/wiki/Understanding-eureka-client-server-communication
"""

import logging
import threading
import time
from concurrent.futures import Future

from hooks.eureka.bounded import longest_call
from hooks.eureka.client import EurekaClient
from hooks.eureka.epochs import Epochs
from hooks.eureka.polling import Polling
from hooks.eureka.report import EurekaReport
from hooks.eureka.servers import Servers
from hooks.eureka.settings import EurekaSettings
from hooks.eureka.why import Why
from hooks.found import EUREKA_SOURCES, Tally
from hooks.listener import Listener
from hooks.loop import LoopReport
from hooks.pulse import Pulse
from hooks.trouble import Trouble
from state.errors import RegistryError
from state.limits import Limits
from state.model import Versions

logger = logging.getLogger(__name__)

SWEEPS = 2  # of the limits: a full read is a hundred times as dear as a delta
PASSES_AT_ONCE = 4  # that `once` makes at most: what is missing is asked for twice, and waits for a pass begun later


class EurekaLoop:
    """Hears one Eureka cluster and reads what changed, until it is stopped."""

    def __init__(self, settings: EurekaSettings, limits: Limits, listener: Listener, versions: Versions = ()) -> None:
        """``versions`` are those of the servers' last deltas, remembered: a lower one means another epoch."""
        self.settings = settings
        self.limits = limits
        self.stopping = threading.Event()
        self.trouble = Trouble(settings.name)
        self._listener = listener
        self._tally = Tally(EUREKA_SOURCES)
        self._pulse = Pulse(f"{settings.name} poller", limits.deadline + longest_call(limits))
        self._client = EurekaClient(settings, limits)
        self._epochs = Epochs(settings.name, settings.urls, versions)
        self._servers = Servers(settings.name, settings.urls)
        self._polling = Polling(settings, limits, self._client, listener, self._epochs, self._tally, self._pulse)
        self._wake = threading.Condition()
        self._awaited: list[Future[bool]] = []
        self._hinted = False
        self._failures = 0
        self._poll_due = 0.0
        self._thread = threading.Thread(target=self._run, name=f"{settings.name} poller", daemon=True)

    # Life

    def start(self) -> None:
        """Start polling; the first thing is a pass."""
        self._thread.start()

    def stop(self) -> None:
        """End every query and thread."""
        self.stopping.set()
        with self._wake:
            self._wake.notify_all()
        self._client.close()
        if self._thread.is_alive():
            self._thread.join(self.limits.stop)

    def once(self) -> None:
        """Read everything, and again if that is all that removals wait for; RegistryError when it fails."""
        for _ in range(PASSES_AT_ONCE):
            self.pass_now()
            end = self._polling.last_pass
            due = self._listener.next_pass(end)
            if not self._polling.confirmations.pending and (due is None or due > end):
                break
            self.stopping.wait(max(0.0, self._polling.rested() - time.monotonic()))

    def pass_now(self) -> None:
        """Make one pass, begun after this call, and wait for it; RegistryError when it was not complete."""
        if self._thread.is_alive():
            done: Future[bool] = Future()
            with self._wake:
                if self.stopping.is_set():
                    done.set_result(False)
                else:
                    self._awaited.append(done)
                self._wake.notify_all()
            complete = done.result()
        else:
            complete = self._turn(Why.ASKED)
        if not complete:
            why = (self.trouble.error or "it was interrupted").removeprefix(f"{self.settings.name}: ")
            raise RegistryError(f"{self.settings.name}: no complete pass: {why}")

    def hint(self, kind: str, service: str = "") -> None:  # noqa: ARG002
        """Poll soon, whatever the call speaks of; never waits."""
        with self._wake:
            self._hinted = True
            self._wake.notify_all()

    def stuck(self, now: float) -> str:
        """Return what has been at one step for too long, or nothing; ``now`` is in monotonic seconds."""
        return self._pulse.stuck(now)

    def report(self) -> LoopReport:
        """Return how the registry is being read."""
        polling, now = self._polling, time.monotonic()
        return LoopReport(
            error=self.trouble.error,
            failing_since=self.trouble.since,
            last_read=self.trouble.last_read,
            index=polling.version,
            passes=polling.passes,
            pass_seconds=polling.pass_seconds,
            repairs=polling.repairs,
            unreadable=dict(polling.confirmations.pending.copy()),
            found=self._tally.report(),
            eureka=EurekaReport(
                server=self._servers.current,
                polls=polling.polls,
                unchanged=polling.unchanged,
                full_reads={str(why): number for why, number in polling.full_reads.copy().items()},
                mismatches=polling.mismatches,
                confirmations=polling.confirmations.made,
                overlay=polling.overlay_size,
                shared=self._epochs.shared(now),
            ),
        )

    # The thread

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                turn = self._next()
                if turn is not None:
                    why, awaited = turn
                    self._awaited_turn(why, awaited)
            except Exception:  # the poller's one net: what it was about to hand over is read again
                logger.exception("registry %s: reading failed", self.settings.name)
                self._polling.forget()
                self.stopping.wait(self.limits.retry[-1])
            self._pulse.rest()
        with self._wake:
            for done in self._awaited:
                done.set_result(False)

    def _next(self) -> tuple[Why | None, list[Future[bool]]] | None:
        """Wait for the next turn; return why it must read everything, if so, and who awaits it; None at the end."""
        while not self.stopping.is_set():
            # Asked before the lock is taken: whoever believes may be asking for a report.
            why, due = self._pass_due()
            with self._wake:
                now = time.monotonic()
                if self._awaited:
                    awaited, self._awaited = self._awaited, []
                    return Why.ASKED, awaited
                if self._failures:
                    due = float("inf")  # nothing but another try
                if due <= now:
                    return why, []
                if self._hinted or self._poll_due <= now:
                    self._hinted = False
                    return None, []
                if not self.stopping.is_set():
                    self._wake.wait(min(due, self._poll_due) - now)
        return None

    def _pass_due(self) -> tuple[Why, float]:
        """Return when a pass is due that no delta calls for, and why."""
        last, rested = self._polling.last_pass, self._polling.rested()
        sweep, asked = last + SWEEPS * self.limits.sweep, self._listener.next_pass(last)
        if asked is not None and asked < sweep:
            return Why.WAITING, max(asked, rested)
        return Why.SWEEP, max(sweep, rested)

    def _awaited_turn(self, why: Why | None, awaited: list[Future[bool]]) -> None:
        complete = False
        try:
            complete = self._turn(why)
        finally:
            for done in awaited:
                done.set_result(complete)

    def _turn(self, why: Why | None) -> bool:
        """Poll, and make a pass if ``why`` or the poll calls for one; tell whether a server answered it all."""
        begun = time.monotonic()
        for url in self._servers.round():
            try:
                self._read(url, why)
            except RegistryError as error:
                if self.stopping.is_set():
                    return False
                self._servers.failed(url, error)
                self._epochs.failed(url)
                continue
            self._servers.answered(url)
            self.trouble.succeeded("poll")
            self._failures = 0
            self._poll_due = begun + self.settings.poll
            return True
        self.trouble.failed("poll", self._servers.error())
        pause = self.limits.retry[min(self._failures, len(self.limits.retry) - 1)]
        self._failures += 1
        self._poll_due = time.monotonic() + min(pause, self.settings.poll)
        return False

    def _read(self, url: str, why: Why | None) -> None:
        polling = self._polling
        if polling.knows(url):
            called = polling.poll(url)
            why = called if called is not None and why is not Why.ASKED else why
        elif not polling.passes:
            why = Why.START
        elif url != self._servers.current:
            why = Why.SERVER
        else:  # it began anew, or what it said last could not be handed over
            why = Why.GAP if polling.server else Why.EPOCH
        if why is not None and not self.stopping.is_set():
            polling.make_pass(url, why)
