"""Section 7 of the design, told again as simply as possible: everything is counted anew, each time."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from state.model import Absence, Count, Instance, InstanceKey, Reading, Reason

MINUTE, TEN_MINUTES = 60.0, 600.0


@dataclass
class Row:
    """A removal that waits: ``number`` is the last pass begun when it began to."""

    reason: Reason
    word: Instance | None
    since: float
    number: int
    proofs: int = 0
    proved: float | None = None

    @property
    def missing(self) -> bool:
        return self.word is None or not here(self.word)


def here(one: Instance) -> bool:
    return one.address != "" and one.absent_because is not Absence.NODE_CRITICAL


def heard(before: Instance | None, word: Instance) -> Instance:
    """Return what to think of a word, which may be a rejected update."""
    if word.rejected and before is not None and before.address:
        healthy = word.absent_because is Absence.REJECTED
        said = before.absent_because if healthy else word.absent_because
        return replace(before, rejected=word.rejected, absent_because=said)
    return word


class Naive:
    """One registry's believed instances and waiting removals; ``now`` is the caller's clock."""

    def __init__(self, carries: Callable[[Instance], bool]) -> None:
        self.carries = carries
        self.believed: dict[InstanceKey, Instance] = {}
        self.rows: dict[InstanceKey, Row] = {}
        self.read: set[str] = set()  # services read in this epoch
        self.epoch_began = -1e9
        self.samples: list[Count] = []  # what was left, a minute apart
        self.sampled = 0.0

    # Counting

    def count(self, world: dict[InstanceKey, Instance], rows: dict[InstanceKey, Row]) -> Count:
        present = [key for key, one in world.items() if here(one) and not (key in rows and rows[key].missing)]
        serving = [key for key, one in world.items() if self.carries(one) and key not in rows]
        return Count(len(present), len(serving))

    @property
    def left(self) -> Count:
        return self.count(self.believed, self.rows)

    @property
    def with_what_waits(self) -> Count:
        return self.count(self.believed, {k: row for k, row in self.rows.items() if row.reason is Reason.GRACE})

    @property
    def undecided(self) -> bool:
        return any(row.reason is not Reason.GRACE for row in self.rows.values())

    @property
    def baseline(self) -> Count:
        return self.samples[0] if self.samples else self.with_what_waits

    # Time

    def new_epoch(self, now: float) -> None:
        self.read.clear()
        self.epoch_began = now

    def wait(self, now: float) -> None:
        for key in [k for k, row in self.rows.items() if row.reason is Reason.GRACE and now - row.since >= MINUTE]:
            del self.rows[key], self.believed[key]
        if self.samples and now - self.sampled >= MINUTE:
            floor = self.baseline if self.undecided else Count(0, 0)
            latest = [*self.samples[1:], self.left]
            self.samples = [Count(max(a, floor.present), max(b, floor.in_service)) for a, b in latest]
            self.sampled = now

    # Hearing

    def hear(self, reading: Reading, accepted: Collection[InstanceKey], now: float) -> None:
        base, first = self.baseline, not self.samples
        unseen = {snapshot.service for snapshot in reading.snapshots} - self.read
        whole = {snapshot.service for snapshot in reading.snapshots if not snapshot.unread}
        removals = self.take_in(reading)
        would = dict(self.believed)
        for key, word in removals.items():
            if word is None:
                del would[key]
            else:
                would[key] = word
        others = {key: row for key, row in self.rows.items() if key not in removals}
        left = self.count(would, others)
        panic = base.in_service >= 10 and left.in_service < base.in_service / 2
        released, rows = False, {}
        for key, word in removals.items():
            row = self.rows.get(key)
            stop, proofs, proved, proven = self.judge(key, word, row, reading, base.present, left.present, unseen, now)
            by_hand = key in accepted and row is not None and row.reason in (Reason.HOLD, Reason.PANIC)
            if by_hand:
                stop, proven = None, True
            if stop is None and panic and not by_hand and self.carries(self.believed[key]):
                stop, proven = Reason.PANIC, False
            released = released or proven
            newly = row is None or (not row.missing and (word is None or not here(word)))
            number = reading.begun if newly or row is None else row.number
            rows[key] = (
                Row(stop or Reason.LOOK, word, row.since if row else now, number, proofs, proved) if stop else None
            )
        for key, decided in rows.items():
            self.carry_out(key, removals[key], decided, now)
        if not panic:
            for key, row in [(k, r) for k, r in self.rows.items() if r.reason is Reason.PANIC and k not in rows]:
                if key.service in self.read:
                    self.carry_out(key, row.word, None, now)
        self.read |= whole
        self.rebase(base, released, first and reading.complete, now)

    def take_in(self, reading: Reading) -> dict[InstanceKey, Instance | None]:
        """Believe what is no removal; return the removals, with what is said now."""
        removals: dict[InstanceKey, Instance | None] = {}
        told = {one.key: one for snapshot in reading.snapshots for one in snapshot.instances}
        services = {snapshot.service for snapshot in reading.snapshots}
        unread = {key for snapshot in reading.snapshots for key in snapshot.unread}
        for key, before in list(self.believed.items()):
            if key.service not in services or key in unread:
                continue  # nothing is said of it
            word = heard(before, told[key]) if key in told else None
            in_grace = key in self.rows and self.rows[key].reason is Reason.GRACE
            if in_grace and word is None:
                continue
            loses = (
                word is None or (here(before) and not here(word)) or (self.carries(before) and not self.carries(word))
            )
            if not in_grace and here(before) and loses:
                removals[key] = word
            else:
                self.rows.pop(key, None)
                if word is None:
                    del self.believed[key]
                else:
                    self.believed[key] = word
        for key in told.keys() - self.believed.keys():
            self.believed[key] = told[key]
        return removals

    def judge(
        self,
        key: InstanceKey,
        word: Instance | None,
        row: Row | None,
        reading: Reading,
        base: int,
        left: int,
        unseen: set[str],
        now: float,
    ) -> tuple[Reason | None, int, float | None, bool]:
        """Return why a removal must wait, its proofs, when the last was, and whether it was released."""
        proofs, proved = (row.proofs, row.proved) if row else (0, None)
        if word is not None and here(word):
            return None, 0, None, False
        if word is None and key.service in unseen:
            return Reason.HOLD, 0, None, False
        few = left > 0 and base - left <= max(3, int(base * 0.05 + 1e-9))
        some = left > 0 and base - left <= max(3, int(base * 0.30 + 1e-9))
        if row is None or not row.missing or (not self.samples and row.reason is Reason.LOOK):
            at_once = few and (bool(self.samples) or reading.complete)
            return (None if at_once else Reason.LOOK), 0, None, False
        if row.reason is Reason.PANIC:
            return None, proofs, proved, False
        if not reading.complete or reading.begun <= row.number:
            return row.reason, proofs, proved, False
        if row.reason is Reason.LOOK:
            return (None, 0, None, False) if some else (Reason.HOLD, 1, now, False)
        if proved is None or now - proved >= MINUTE:
            proofs, proved = proofs + 1, now
        old = now - self.epoch_began >= TEN_MINUTES
        if proofs >= 3 and old and (base < 10 or left >= base / 2):
            return None, proofs, proved, True
        return Reason.HOLD, proofs, proved, False

    def carry_out(self, key: InstanceKey, word: Instance | None, decided: Row | None, now: float) -> None:
        row = self.rows.pop(key, None)
        since = row.since if row else now
        if decided is not None:
            self.rows[key] = decided
        elif word is None and self.carries(self.believed[key]) and now - since < MINUTE:
            self.rows[key] = Row(Reason.GRACE, None, since, 0)
        elif word is None:
            del self.believed[key]
        else:
            self.believed[key] = word

    def rebase(self, base: Count, released: bool, first: bool, now: float) -> None:
        """Let the first pass, or a release, set the baseline to what is left and what still waits."""
        if released or first:
            new = self.with_what_waits
            if self.undecided and not first:
                new = Count(max(new.present, min(10, base.present)), max(new.in_service, min(10, base.in_service)))
            self.samples = [new] * 10
            if first:
                self.sampled = now
