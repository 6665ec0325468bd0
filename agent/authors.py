"""The ServiceEntries of one cluster: whose each is, and which of them its lane may write now."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.applied import AppliedRows
from agent.authorship import judge, stated
from agent.hosts import Place
from agent.lingering import RECHECK, Abandonment, Lingering, SeenTime
from agent.merge import Host
from agent.mirror import Mirror, selected_at
from state.checkpoint import Applied, Forsaken
from state.model import SERVICE_ENTRY, WORKLOAD_ENTRY, Held, Resource, ResourceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What the objects of a place should be, as far as it is for us to say.

    ``taken`` are ServiceEntries that become ours, with the reason; ``asks`` tells that one must be looked at first.
    """

    resources: tuple[Resource, ...]
    taken: Mapping[ResourceKey, str] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()
    asks: bool = False


class Authors:
    """Counts for how long ServiceEntries have been of no use, ours or another owner's; used by one thread."""

    def __init__(
        self,
        owner: str,
        mirror: Mirror,
        applied: AppliedRows,
        *,
        grace: float,
        forsaken: Iterable[Forsaken],
        now: float,
    ) -> None:
        """``grace`` is for how many seconds, of those in which the cluster was seen."""
        self.seen = SeenTime(now)
        self._owner = owner
        self._mirror = mirror
        self._applied = applied
        self._lingering = Lingering(grace, applied.rows.values(), self.seen, now)
        self._abandonment = Abandonment(grace, forsaken, self.seen, now)
        self._asked: dict[ResourceKey, tuple[str, float]] = {}
        self._questions: set[ResourceKey] = set()

    def settle(
        self,
        place: Place,
        host: Host | None,
        resources: Sequence[Resource],
        needed: Container[ResourceKey],
        now: float,
        *,
        passed: bool,
    ) -> Settlement:
        """Decide about the ServiceEntries of a place; ``needed`` are the objects that any place desires.

        What nobody has needed counts only when every registry has ``passed``: one that was not read may need it.
        """
        entries = [resource for resource in resources if resource.key.kind == SERVICE_ENTRY]
        there = {one.key: one for one in self._mirror.at(place, [entry.key for entry in entries])}
        there = {key: one for key, one in there.items() if key.kind == SERVICE_ENTRY}
        asks = False
        for one in {**there, **{one.key: one for one in self._mirror.selecting(place)}}.values():
            asks |= self._count(one, place, now, needed=one.key in needed, passed=passed)
        if host is None or not entries:
            return Settlement(resources=tuple(resources), asks=asks)
        rules, some = stated(host), any(map(self._has, resources))
        settled: dict[ResourceKey, Resource] = {}
        taken: dict[ResourceKey, str] = {}
        troubles: list[str] = []
        for entry in entries:
            key, held = entry.key, there.get(entry.key)
            if held is None:
                self.gone(key)  # nothing that was counted is true of the one that comes
            over = self._abandonment.over(key, now)
            verdict = judge(entry, held, self._owner, rules, forsaken=over, some=some)
            settled[key] = verdict.resource or entry
            if verdict.taken:
                taken[key] = verdict.taken
            if verdict.unseen and held is not None:
                asks = self._ask(held, now)
            troubles.extend(verdict.differs)
        return Settlement(
            resources=tuple(settled.get(resource.key, resource) for resource in resources),
            taken=taken,
            troubles=tuple(troubles),
            asks=asks,
        )

    def _has(self, resource: Resource) -> bool:
        """Tell whether an endpoint is there as ours."""
        held = self._mirror.objects.get(resource.key) if resource.key.kind == WORKLOAD_ENTRY else None
        return held is not None and held.owner == self._owner

    def _count(self, held: Held, place: Place, now: float, *, needed: bool, passed: bool) -> bool:
        """Count for how long one is of no use; tell whether its spec must be seen for that."""
        key, at = held.key, selected_at(held)
        if held.owner == self._owner:
            self._abandonment.stays(key)
            if needed or at is None or self._mirror.has_workloads(at):
                if self._lingering.end(key):
                    self._applied.need(key)
            elif passed:
                self._lingering.begin(key, now)
            return at is None and not needed and self._ask(held, now)
        self._lingering.end(key)
        if held.owner:
            self._applied.forget([key])  # whatever we wrote there once
        if needed and not (held.owner and self._mirror.has_workloads(at or place, held.owner)):
            self._abandonment.left(held, now)
        else:
            self._abandonment.stays(key)
        return False

    def _ask(self, held: Held, now: float) -> bool:
        """Note that an object must be looked at, unless that was asked lately."""
        version, at = self._asked.get(held.key, ("", 0.0))
        if version != held.resource_version or now - at >= RECHECK:
            self._asked[held.key] = held.resource_version, now
            self._questions.add(held.key)
        return True

    def gone(self, key: ResourceKey) -> None:
        """Note that a ServiceEntry is not there any more."""
        self._lingering.end(key)
        self._abandonment.stays(key)
        self._asked.pop(key, None)

    def may_delete(self, key: ResourceKey, now: float) -> bool:
        """Tell whether a ServiceEntry of ours has been of no use for long enough."""
        return self._lingering.over(key, now)

    def questions(self) -> set[ResourceKey]:
        """Return the objects that must be looked at; each is returned once."""
        questions, self._questions = self._questions, set()
        return questions

    # Time

    def due(self, now: float) -> list[ResourceKey]:
        """Return the ServiceEntries about which time alone may have decided; each is returned once in a while."""
        return self._lingering.due(now) + self._abandonment.due(now)

    def next(self) -> float | None:
        """Return when ``due`` may return something, if ever."""
        return min((at for at in (self._lingering.next(), self._abandonment.next()) if at is not None), default=None)

    def lingering(self, now: float) -> list[Applied]:
        """Return the rows of ServiceEntries of ours that are of no use, with for how long."""
        return self._lingering.rows(self._applied.rows, now)

    def forsaken(self, now: float) -> list[Forsaken]:
        """Return the ServiceEntries that their authors have left, and for how long."""
        return self._abandonment.rows(now)

    def has_returned(self) -> bool:
        """Tell, once, whether an author of which it may be remembered that it left its host is there again."""
        return self._abandonment.has_ended()
