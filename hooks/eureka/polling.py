"""Reading one Eureka server: deltas, which are looks, and passes, which alone prove that something is missing."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from hashlib import sha256
from itertools import islice

from hooks.eureka import parse
from hooks.eureka.client import EurekaClient
from hooks.eureka.confirmations import Confirmations
from hooks.eureka.epochs import Epochs
from hooks.eureka.overlay import Overlay
from hooks.eureka.settings import EurekaSettings
from hooks.eureka.view import DeltaView
from hooks.eureka.why import Why
from hooks.found import Source, Tally
from hooks.listener import Listener
from hooks.pulse import Pulse
from state.errors import RegistryError
from state.limits import Limits
from state.model import Reading, Snapshot

logger = logging.getLogger(__name__)

REST = 10  # a pass rests ten times its own duration
WINDOW = 120.0  # seconds: deltas tell of the last 180, and are up to 30 old
CHUNK = 20  # services that are handed over at a time: whoever believes them is locked meanwhile
MISMATCHES = 5  # in a row, after which full reads are spaced
RETRY_DELTA = 3600.0  # seconds after which a server that gave no deltas is asked again
LONGEST_SPACING = 600.0  # seconds between two full reads of a server whose hash never matches

_breathe = partial(time.sleep, 0.0001)  # lets other threads run


class Polling:
    """What is known of one server, and the two ways of reading it; for one thread, but for its counts."""

    def __init__(
        self,
        settings: EurekaSettings,
        limits: Limits,
        client: EurekaClient,
        listener: Listener,
        epochs: Epochs,
        tally: Tally,
        pulse: Pulse,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._client = client
        self._listener = listener
        self._epochs = epochs
        self._tally = tally
        self._pulse = pulse
        self._view = DeltaView()
        self._overlay = Overlay()
        self.confirmations = Confirmations(settings, client, listener, self._view, self._overlay)
        self.server = ""  # the one whose word is known; none before the first full read, and after an epoch's end
        self.full_reads: Counter[Why] = Counter()
        self.begun = self.passes = self.polls = self.unchanged = self.mismatches = self.repairs = 0
        self.last_pass = -float("inf")  # when it ended
        self.pass_seconds = 0.0
        self._whole = False  # all that is known of the server was handed over
        # The digest of the last delta: that of a server which began anew is as large as all that it has.
        self._seen = b""
        self._agreed = False  # the hashes, then
        self._last_delta = 0.0  # when it, or everything, was read; monotonic, as all times here
        self._last_read = 0.0
        self._no_delta_until = 0.0
        self._in_a_row = 0  # mismatches
        self._full_after = 0.0

    @property
    def version(self) -> int:
        """Return the version of the last delta."""
        return self._view.version

    @property
    def overlay_size(self) -> int:
        """Return how many uncached words overrule the server's cache."""
        return len(self._overlay)

    def knows(self, url: str) -> bool:
        """Tell whether everything that this server said was handed over, so that a delta is enough."""
        return self._whole and url == self.server

    def rested(self) -> float:
        """Return until when the last pass rests."""
        return self.last_pass + max(self._limits.pass_spacing, REST * self.pass_seconds)

    # Looks

    def poll(self, url: str) -> Why | None:
        """Read a delta of the server that is known and hear what it says; return why everything must be read.

        RegistryError when the server did not answer.
        """
        self.confirmations.begin()
        now = time.monotonic()
        if now < self._no_delta_until:
            return self._rests(Why.DISABLED)
        self.polls += 1
        self._pulse.step()
        body = self._client.delta(url)
        heard = time.monotonic()
        if body is None:
            return self._rests(Why.DISABLED)
        if heard - self._last_delta > WINDOW:
            return Why.GAP
        digest = sha256(body).digest()
        if digest == self._seen and self._agreed:
            self.unchanged += 1
            self._last_delta = self._last_read = heard
            changed: set[str] = set()
        else:
            self._whole = False  # until it is handed over
            try:
                took = self._take_delta(url, body, digest, heard)
            except RegistryError as error:
                logger.warning("registry %s: %s/apps/delta: %s; reading everything", self._settings.name, url, error)
                self._whole = True
                return self._rests(Why.UNREADABLE)
            if took is None:
                return Why.EPOCH
            changed = took
        if self._overlay:
            changed |= self._overlay.settle(self._view, heard)
        if changed:
            self._tally.woke(Source.DELTA, len(changed))
        self._look(url, changed.union(self.confirmations.pending), heard)
        self._whole = True
        return self._mismatch(heard)

    def _rests(self, why: Why) -> Why | None:
        """Return why everything must be read, or None while the last pass rests: the next poll will say the same."""
        return why if time.monotonic() >= self.rested() else None

    def _take_delta(self, url: str, body: bytes, digest: bytes, now: float) -> set[str] | None:
        """Merge a delta; return the applications that changed, or None when it is of another life of the registry."""
        delta = parse.applications(self._settings, body, _breathe, self._listener.known)
        if self._epochs.began(url, delta.version, digest, now):
            self._listener.begin_epoch()
            self.forget()
            return None
        if delta.version < self._view.version:  # several servers at one address: what was known is another's
            self.forget()
            return None
        changed = self._view.take_delta(delta, now)
        self._seen, self._last_delta, self._last_read = digest, now, now
        self._agreed = self._view.hashcode == delta.hashcode
        return changed

    def _mismatch(self, now: float) -> Why | None:
        """Count a mismatch; tell whether a full read is due because of it."""
        if self._agreed:
            self._in_a_row = 0
            return None
        if now < max(self._full_after, self.rested()):
            return None
        self.mismatches += 1
        self._in_a_row += 1
        if self._in_a_row == MISMATCHES:
            logger.warning(
                "registry %s: the hash of %s differed %d times in a row: full reads are spaced from now on",
                self._settings.name,
                self.server,
                MISMATCHES,
            )
        if self._in_a_row >= MISMATCHES:
            spacing = self._settings.poll * 2.0 ** min(self._in_a_row - MISMATCHES + 1, 20)
            self._full_after = now + min(spacing, LONGEST_SPACING)
        return Why.MISMATCH

    def _look(self, url: str, applications: set[str], heard: float) -> None:
        """Hand over what a delta, or an uncached read, has changed."""
        if not applications:
            return
        self._pulse.step()
        self.confirmations.confirm(url, applications)
        snapshots = [self.confirmations.snapshot(app) for app in sorted(applications)]
        self._tally.changed(Source.DELTA, self._hear(snapshots, heard), heard)

    # Passes

    def make_pass(self, url: str, why: Why) -> None:
        """Read everything, prove that it is of one life, and hand it over; RegistryError when that fails."""
        started = time.monotonic()
        self.begun += 1
        self.full_reads[why] += 1
        self._whole = False
        if why is Why.SWEEP:
            self._tally.woke(Source.SWEEP)
        before = self._last_read
        # Its version went back meanwhile: what was read is mixed of two lives. Thrice, and it is no life at all.
        heard = next((heard for _ in range(3) if (heard := self._read_all(url))), None)
        if heard is None:
            raise RegistryError(f"{self._settings.name}: {url}: its version went back in three reads in a row")
        changed = self._deliver(heard)
        if self.passes:
            if why is Why.SWEEP:
                self.repairs += changed
                self._tally.changed(Source.SWEEP, changed, before)
            else:
                self._tally.changed(Source.FULL, changed, heard)
        self.passes += 1
        self._whole = True
        self._last_read = heard
        self.last_pass = time.monotonic()
        self.pass_seconds = self.last_pass - started

    def _read_all(self, url: str) -> float | None:
        """Read and confirm everything; return when it was told, None when another life of the data began."""
        self._pulse.step()
        body = self._client.full(url)
        heard = time.monotonic()
        try:
            full = parse.applications(self._settings, body, _breathe, self._listener.known)
        except RegistryError as error:
            raise RegistryError(f"{self._settings.name}: {url}/apps/: {error}") from error
        del body
        without_deltas = url == self.server and heard < self._no_delta_until  # and so without versions
        if without_deltas and not self._view.survives(full) and self._epochs.outlived(url, heard):
            self._listener.begin_epoch()
            self.forget()
        if url != self.server:
            self.forget()  # the times of two servers do not compare
            self.server = url
            self.confirmations.begin()
        self._view.take_full(full, heard)
        self._last_delta = heard
        consistent = full.computed == full.hashcode == self._view.hashcode
        del full
        self.confirmations.confirm(url, self._applications())
        if not self._prove(url):
            return None
        # What it says of itself is right, and all of it was taken: the delta's cache is another one.
        self._agreed = self._agreed or consistent
        if self._overlay:
            self._overlay.settle(self._view, time.monotonic())
        return heard

    def _prove(self, url: str) -> bool:
        """Read a delta, whose version tells whether what was read is of one life; what it deletes is confirmed too."""
        now = time.monotonic()
        if now < self._no_delta_until:
            return True
        self._pulse.step()
        body = self._client.delta(url)
        now = time.monotonic()
        if body is None:
            self._no_delta_until = now + RETRY_DELTA
            logger.warning(
                "registry %s: %s gives no deltas (eureka.server.disable-delta): everything is read at each poll",
                self._settings.name,
                url,
            )
            return True
        self._no_delta_until = 0.0
        try:
            changed = self._take_delta(url, body, sha256(body).digest(), now)
        except RegistryError as error:
            logger.warning("registry %s: %s/apps/delta: %s", self._settings.name, url, error)
            self._agreed = False
            return True
        if changed is None:
            return False
        self.confirmations.confirm(url, changed)
        return True

    def _applications(self) -> set[str]:
        return self._view.applications().union(self._listener.services(), self.confirmations.pending)

    def _deliver(self, heard: float) -> int:
        """Hand over all services, those that lose nothing first; return how many changed."""
        doubtful: list[Snapshot] = []
        changed = 0
        for snapshots in _chunks(self._snapshots()):
            self._pulse.step()
            clear: list[Snapshot] = []
            for snapshot in snapshots:
                (doubtful if self._listener.doubts(snapshot) else clear).append(snapshot)
            changed += self._hear(clear, heard)
            _breathe()
        return changed + self._hear(doubtful, heard, complete=True)

    def _snapshots(self) -> Iterator[Snapshot]:
        return (self.confirmations.snapshot(app) for app in sorted(self._applications()))

    def _hear(self, snapshots: list[Snapshot], heard: float, *, complete: bool = False) -> int:
        if not snapshots and not complete:
            return 0
        return len(
            self._listener.hear(
                Reading(
                    registry=self._settings.name,
                    snapshots=tuple(snapshots),
                    heard=heard,
                    begun=self.begun,
                    complete=complete,
                    versions=self._epochs.versions,
                )
            )
        )

    def forget(self) -> None:
        """Forget all that one server said in one life; everything is read anew at the next turn."""
        self._view.clear()
        self._overlay.clear()
        self.confirmations.clear()
        self.server, self._seen = "", b""
        self._whole = self._agreed = False
        self._in_a_row, self._full_after, self._no_delta_until = 0, 0.0, 0.0


def _chunks(snapshots: Iterable[Snapshot]) -> Iterator[list[Snapshot]]:
    remaining = iter(snapshots)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk
