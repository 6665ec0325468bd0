"""Which removals to believe: one judge per registry (design: stale beats partial, held beats wiped).

Pure: time is an argument, and nothing is changed here. ``judge`` returns a
Verdict; the belief applies it and the checkpoint stores it, in one step each.

A removal goes through three stages, and waits at the first that stops it:

1. *present*: registrations that vanished, or whose node is critical.
   A look believes up to max(3, 5 %) of the baseline at once; a pass begun later
   believes up to max(3, 30 %); what is beyond, would leave nothing, or was not
   yet seen in this epoch is held, until three passes have proved it. Before the
   first pass ever, which is itself a look, everything waits for it.
2. *panic*: whatever the reason, half of a baseline of 10 or more stays in service.
3. *grace*: what vanished stays while its host has nothing else (decided after the merge).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from agent.removal import Case, Outcome, is_dark, is_gone, keep_rejected
from agent.standing import HELD, Carries, Services, added, contribution, count_kept, half, released, within
from state.limits import Limits
from state.model import Count, Instance, InstanceKey, Observed, Reading, Reason, Snapshot, Standing, Waiting

LOOK_SHARE = 5  # per cent of the baseline that one look may remove at once
PASS_SHARE = 30  # per cent that a later pass may remove
PROOFS = 3  # passes that must have shown a held removal


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """What one registry is believed to hold, as the guard reads it.

    ``services`` holds each service's instances by key, and ``epochs`` the epoch in
    which the service was last read; ``waiting`` the removals that are not believed.
    """

    services: Services
    epochs: Mapping[str, int]
    waiting: Mapping[InstanceKey, Waiting]
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to believe from now on: only what differs from before.

    ``services`` without instances are gone. ``waits`` are new or changed
    removals that wait, ``ended`` those that wait no longer. ``left`` are the
    instances whose removal was believed.
    """

    services: tuple[Observed, ...] = ()
    waits: tuple[Waiting, ...] = ()
    ended: tuple[InstanceKey, ...] = ()
    left: tuple[Instance, ...] = ()
    standing: Standing


def doubts(believed: Believed, snapshot: Snapshot, carries: Carries) -> bool:
    """Tell whether a snapshot removes anything, or speaks of a removal that waits."""
    words = {instance.key: instance for instance in snapshot.instances}
    for key, before in believed.services.get(snapshot.service, {}).items():
        if key in snapshot.unread:
            continue
        word = words.get(key)
        if key in believed.waiting or word is None:
            return True
        if word != before:
            word = keep_rejected(before, word)
            if is_gone(before, word) or is_dark(before, word, carries):
                return True
    return False


def judge(
    believed: Believed,
    reading: Reading,
    *,
    carries: Carries,
    limits: Limits,
    now: float,
    accepted: Collection[InstanceKey] = (),
) -> Verdict:
    """Judge everything that a reading has shown.

    ``accepted`` are held removals that an operator accepts: if they are still
    missing they are believed at once.
    """
    judgement = _Judgement(believed, reading, carries, limits, now, frozenset(accepted))
    judgement.hear()
    judgement.rule()
    return judgement.verdict()


class _Judgement:
    """The working memory of one call of ``judge``."""

    def __init__(
        self,
        believed: Believed,
        reading: Reading,
        carries: Carries,
        limits: Limits,
        now: float,
        accepted: frozenset[InstanceKey],
    ) -> None:
        self.believed = believed
        self.reading = reading
        self.carries = carries
        self.limits = limits
        self.now = now
        self.accepted = accepted
        self.after: dict[str, dict[InstanceKey, Instance]] = {}
        self.cases: list[Case] = []
        self.rows: dict[InstanceKey, Waiting | None] = {}  # changed ones; None ends it
        self.outcomes: dict[InstanceKey, Outcome] = {}
        self.left: list[Instance] = []
        self.present, self.in_service = believed.standing.left
        self.first = not believed.standing.minutes  # no pass has ever ended
        self.baseline = believed.standing.baseline
        if self.first:
            self.baseline = added(self.baseline, count_kept(believed.services, believed.waiting.values(), carries))

    def hear(self) -> None:
        """Take in additions and updates, and set the removals aside as cases."""
        for snapshot in self.reading.snapshots:
            before = self.believed.services.get(snapshot.service, {})
            words = {instance.key: instance for instance in snapshot.instances}
            unseen = self.believed.epochs.get(snapshot.service, 0) < self.believed.standing.epoch
            self.after[snapshot.service] = dict(before)
            for key, word in words.items():
                self._hear_word(before.get(key), word)
            for key, instance in before.items():
                if key not in words and key not in snapshot.unread:
                    self._hear_silence(instance, unseen)

    def _hear_word(self, before: Instance | None, word: Instance) -> None:
        row = self.believed.waiting.get(word.key)
        if row is None and word == before:
            return
        word = keep_rejected(before, word)
        if before is not None and not (row and row.reason is Reason.GRACE):
            gone, dark = is_gone(before, word), is_dark(before, word, self.carries)
            if gone or dark:
                self._set_aside(Case(before, word, row, gone, dark, unseen=False))
                return
        self._count(before, row, -1)
        self._count(word, None, 1)
        self.after[word.key.service][word.key] = word
        if row:
            self.rows[word.key] = None

    def _hear_silence(self, before: Instance, unseen: bool) -> None:
        row = self.believed.waiting.get(before.key)
        if row and row.reason is Reason.GRACE:
            return
        if not before.present:  # and so counted nowhere
            self.left.append(before)
            del self.after[before.key.service][before.key]
            if row:
                self.rows[before.key] = None
            return
        self._set_aside(Case(before, None, row, before.present, self.carries(before), unseen))

    def _set_aside(self, case: Case) -> None:
        self.cases.append(case)
        self._count(case.before, case.row, -1)
        self.present += int(case.before.present and not case.gone)

    def _count(self, instance: Instance | None, row: Waiting | None, sign: int) -> None:
        if instance is not None:
            count = contribution(instance, row, self.carries)
            self.present += sign * count.present
            self.in_service += sign * count.in_service

    def rule(self) -> None:
        """Decide every case; ``present`` and ``in_service`` are now what would be left."""
        for case in self.cases:
            self.outcomes[case.key] = self._rule_present(case)
        panic = not half(self.baseline.in_service, self.in_service)
        for case in self.cases:
            outcome = self.outcomes[case.key]
            if outcome.reason is None and case.dark and panic and not self._is_accepted(case):
                outcome = replace(outcome, reason=Reason.PANIC, released=False)
                self.outcomes[case.key] = outcome
            self._carry_out(case, outcome)
        if not panic:
            self._end_panic()

    def _rule_present(self, case: Case) -> Outcome:
        """Judge a vanished registration, or one whose node is critical."""
        row = case.row
        if self._is_accepted(case):
            return Outcome(None, released=True)
        if not case.gone:
            return Outcome(None)
        if case.unseen:
            # Whatever another life of the registry's data has proved, this one has not.
            return Outcome(Reason.HOLD)
        if case.fresh or row is None or (self.first and row.reason is Reason.LOOK):
            early = self.first and not self.reading.complete
            believed = not early and within(self.baseline.present, self.present, LOOK_SHARE)
            return Outcome(None if believed else Reason.LOOK)
        if not self.reading.complete or row.pass_begun >= self.reading.begun:
            return Outcome(None if row.reason is Reason.PANIC else row.reason, row.proofs, row.proved)
        if row.reason is Reason.LOOK:
            believed = within(self.baseline.present, self.present, PASS_SHARE)
            return Outcome(None) if believed else Outcome(Reason.HOLD, 1, self.now)
        if row.reason is Reason.HOLD:
            return self._rule_held(row)
        return Outcome(None, row.proofs, row.proved)

    def _is_accepted(self, case: Case) -> bool:
        """Tell whether an operator accepts this very removal, which was held when asked about."""
        return case.key in self.accepted and case.row is not None and case.row.reason in HELD

    def _rule_held(self, row: Waiting) -> Outcome:
        """Count this pass as a proof, and release what was proved often enough."""
        proofs, proved = row.proofs, row.proved
        if proofs == 0 or self.now - proved >= self.limits.release_spacing:
            proofs, proved = proofs + 1, self.now
        began = self.believed.standing.epoch_began
        old = began is None or self.now - began >= self.limits.epoch
        if proofs >= PROOFS and old and half(self.baseline.present, self.present):
            return Outcome(None, proofs, proved, released=True)
        return Outcome(Reason.HOLD, proofs, proved)

    def _carry_out(self, case: Case, outcome: Outcome) -> None:
        since = case.row.since if case.row else self.now
        reason = outcome.reason
        if reason is None and case.word is None and case.dark and self.now - since < self.limits.empty_grace:
            reason = Reason.GRACE
        if reason is not None:
            # What began to wait stays known by the pass that it must outlive.
            begun = case.row.pass_begun if case.row and not case.fresh else self.reading.begun
            self.rows[case.key] = Waiting(
                key=case.key,
                reason=reason,
                word=case.word,
                since=since,
                proofs=outcome.proofs,
                proved=outcome.proved,
                pass_begun=begun,
            )
        else:
            self._believe(case)
        if reason in (None, Reason.GRACE):
            self.left.append(case.before)

    def _believe(self, case: Case) -> None:
        """Let a removal through: the instance becomes what the registry says, or goes."""
        name = case.key.service
        service = self.after.setdefault(name, dict(self.believed.services.get(name, {})))
        if case.word is None:
            del service[case.key]
        else:
            service[case.key] = case.word
        if case.row:
            self.rows[case.key] = None

    def _end_panic(self) -> None:
        """Believe what only panic held, in services that were not read now too.

        Words of an epoch that has ended wait for what this one says.
        """
        heard = {case.key for case in self.cases}
        epoch = self.believed.standing.epoch
        for key, row in self.believed.waiting.items():
            current = self.believed.epochs.get(key.service, 0) >= epoch
            if row.reason is Reason.PANIC and current and key not in heard and self.rows.get(key, row) is row:
                before = self.believed.services[key.service][key]
                case = Case(before, row.word, row, row.gone, self.carries(before), unseen=False)
                self._carry_out(case, Outcome(None))

    def verdict(self) -> Verdict:
        """Return what differs from before."""
        epoch = self.believed.standing.epoch
        indexes = {snapshot.service: snapshot.index for snapshot in self.reading.snapshots}
        # What this epoch was not asked about yet, it has not shown.
        whole = {snapshot.service for snapshot in self.reading.snapshots if not snapshot.unread}
        services = []
        for service, instances in self.after.items():
            before = self.believed.services.get(service, {})
            seen = epoch if service in whole else self.believed.epochs.get(service, 0)
            if instances != before or (instances and seen != self.believed.epochs.get(service)):
                services.append(Observed(service, tuple(instances.values()), seen, indexes.get(service, 0)))
        rows = {key: row for key, row in self.rows.items() if row != self.believed.waiting.get(key)}
        return Verdict(
            services=tuple(services),
            waits=tuple(row for row in rows.values() if row is not None),
            ended=tuple(key for key, row in rows.items() if row is None),
            left=tuple(self.left),
            standing=self._standing(),
        )

    def _standing(self) -> Standing:
        """Count what is left now; a first pass or a release sets the baseline to it."""
        old = self.believed.standing
        standing = replace(
            old,
            left=self._left(),
            index=max(old.index, self.reading.index),
            versions=self.reading.versions or old.versions,
        )
        first = self.first and self.reading.complete
        if first or any(outcome.released for outcome in self.outcomes.values()):
            before = self.believed.services
            rows = {**self.believed.waiting, **self.rows}.values()
            kept = count_kept({**before, **self.after}, (row for row in rows if row), self.carries)
            standing = released(standing, standing.left, kept)
        return replace(standing, counted=self.now) if first else standing

    def _left(self) -> Count:
        """Return what is believed and does not wait, after this verdict."""
        present, in_service = self.believed.standing.left
        for service, instances in self.after.items():
            before = self.believed.services.get(service, {})
            for key in before.keys() | instances.keys():
                old = self.believed.waiting.get(key)
                new = self.rows.get(key, old)
                if old is new and before.get(key) == instances.get(key):
                    continue
                for instance, row, sign in ((before.get(key), old, -1), (instances.get(key), new, 1)):
                    if instance is not None:
                        count = contribution(instance, row, self.carries)
                        present += sign * count.present
                        in_service += sign * count.in_service
        return Count(present, in_service)
