"""What a lane may do about one place of its cluster now, and what it has to leave for later, and why."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.gate import Gate, gate, too_many
from agent.hosts import Place
from agent.lingering import Lingering
from agent.merge import Host, HostKey
from agent.mirror import Mirror, place_of
from agent.naming import host_label
from agent.plan import Action, Change, plan
from agent.repairs import Repairs
from agent.retry import content_digest
from agent.serving import Serving
from agent.translate import ISTIO_LABELS, Translation, translate
from agent.view import View
from state.checkpoint import Applied, Carried
from state.limits import Limits
from state.model import MANAGED_BY, OWNER_LABEL, PRODUCT, SERVICE_ENTRY, WORKLOAD_ENTRY, Held, Resource, ResourceKey

RECHECK = 60.0  # seconds after which a deletion that may not be yet is looked at again


class Proposer:
    """Plans the places of one cluster; used by one thread."""

    def __init__(
        self,
        serving: Serving,
        view: View,
        limits: Limits,
        applied: dict[ResourceKey, Applied],
        carried: Carried | None,
    ) -> None:
        self.serving = serving
        self.mirror = Mirror()
        self.read = False
        self.repairs = Repairs(limits.fight)
        self.applied = applied
        self._view = view
        self.unmet = carried is None and not applied  # nothing remembers this cluster
        self._trusted = carried is not None and self._trusts(carried)
        # Until the whole plan was made once: another place may want what seems to be here.
        self._suspect = True
        self._lost: set[ResourceKey] = set()  # what was gone at the start: perhaps we deleted it, and were killed
        self._vanished: set[ResourceKey] = set()  # desired, and told to be gone since they were last planned
        self._withheld: dict[ResourceKey, Held] = {}
        self._again: set[Place] = set()
        self._shut: dict[Place, float] = {}
        self._desired_at: dict[ResourceKey, Place] = {}
        self._desired: dict[Place, frozenset[ResourceKey]] = {}
        self._troubles: dict[Place, tuple[str, ...]] = {}
        self._lingering = Lingering(limits.service_entry_grace, applied.values(), time.monotonic())
        self._found: list[Applied] = []
        self._paused: dict[Place, int] = {}

    def _trusts(self, carried: Carried) -> bool:
        same = (carried.configuration, carried.version) == (self.serving.configuration, self.serving.version)
        return same or carried.accepted == self.serving.configuration

    @property
    def namespaces(self) -> frozenset[str]:
        """Return every namespace that the configuration or what was applied names."""
        return self.serving.namespaces | {self.serving.namespace} | {key.namespace for key in self.applied}

    def places(self) -> set[Place]:
        """Return every place that holds, or should hold, something."""
        return self.mirror.places() | self.places_of(self._view.hosts())

    def places_of(self, hosts: Iterable[HostKey]) -> set[Place]:
        """Return where hosts are in this cluster."""
        return {Place(host.namespace or self.serving.namespace, host_label(host.host)) for host in hosts}

    # The mirror

    def take(self, objects: Mapping[ResourceKey, Held]) -> set[Place]:
        """Take a whole picture of the cluster; return every place that it concerns."""
        if not self.read:
            self._lost = self.applied.keys() - objects.keys()
        self.unmet, self.read = False, True
        return self.mirror.replace({key: self._own(held) for key, held in objects.items()})

    def deliver(self, key: ResourceKey, held: Held | None) -> set[Place]:
        """Take what became of one object; return the places that it concerns, none if it is known."""
        desired_at = {self._desired_at[key]} if key in self._desired_at else set()
        if held is None:
            if desired_at:
                self._vanished.add(key)
            return self.mirror.drop(key) | desired_at
        self._vanished.discard(key)
        held, known = self._own(held), self.mirror.objects.get(key)
        if known is not None and replace(known, endpoint=held.endpoint) == held:
            return set()
        return self.mirror.put(held) | desired_at

    def _own(self, held: Held) -> Held:
        """Return an object with what we know to be ours in it, even if its labels were tampered with."""
        row = self.applied.get(held.key)
        # What an answer to a write has told can be newer than what was applied, whose turn comes later.
        own = {*held.own_labels, *(row.labels if row else ())}
        if held.key.kind == WORKLOAD_ENTRY:
            own.update(ISTIO_LABELS)  # also where nobody remembers writing them
        held = replace(held, own_labels=tuple(sorted(own)))
        if row is None:
            return held
        if held.uid == row.uid and held.owner != self.serving.owner and held.key.kind == WORKLOAD_ENTRY:
            return replace(held, labels={**held.labels, OWNER_LABEL: self.serving.owner}, spec_digest="")
        return held

    def is_of_isthmus(self, held: Held) -> bool:
        """Tell whether an object is ours, or another owner's of isthmus."""
        row = self.applied.get(held.key)
        return held.labels.get(MANAGED_BY) == PRODUCT or (row is not None and row.uid == held.uid)

    # Planning

    def propose(self, place: Place, now: float) -> list[Change]:
        """Return the changes that may be carried out at a place now."""
        host = self._view.host(place, self.serving.namespace)
        translation = self._translate(place, host)
        keys = frozenset(resource.key for resource in translation.resources)
        before = self._desired.pop(place, frozenset())
        for key in before - keys:
            self._desired_at.pop(key, None)
            if key in self.mirror.objects:  # perhaps elsewhere, by a label that was changed: to be deleted there
                self._again |= {place_of(self.mirror.objects[key])} - {place}
        if keys:
            self._desired[place] = keys
            self._desired_at.update(dict.fromkeys(keys, place))
        held = self.mirror.at(place, keys)
        self._shut.pop(place, None)
        self._vanished -= keys
        for one in held:
            self._withheld.pop(one.key, None)
            if one.key.kind == SERVICE_ENTRY and one.owner == self.serving.owner:
                self._need(one.key, one.key in keys or self.mirror.has_workloads(place), now)
        planned = plan(translation.resources, held, self.serving.owner)
        self.repairs.unneeded((before | keys | {one.key for one in held}) - {change.key for change in planned})
        changes = [self._tell_repair(change) for change in planned if self._may(change, place, now)]
        self._recognise(translation, held, {change.key for change in planned})
        if self.serving.policy == "paused":
            self._paused[place] = len(changes)
            return []
        return changes

    def propose_all(self) -> tuple[Change, ...]:
        """Return the changes that may be carried out anywhere, were the whole plan made and judged now."""
        now = time.monotonic()
        places = sorted(self.places())
        changes = [change for place in places for change in self.propose(place, now)]
        if self._suspect and self.conclude_suspicion(passed=self._view.passed()):
            changes = [change for place in places for change in self.propose(place, now)]
        return tuple(changes)

    def _recognise(self, translation: Translation, held: list[Held], changing: set[ResourceKey]) -> None:
        """Remember objects that are there as desired though nothing remembers writing just that."""
        there = {one.key: one for one in held if one.owner == self.serving.owner}
        for resource in translation.resources:
            key, row = resource.key, self.applied.get(resource.key)
            if key not in there or key in changing or resource.kept:
                continue
            if row is None or row.digest != content_digest(resource):
                row = self.applied[key] = _row(resource, there[key])
                self.mirror.put(self._own(there[key]))
                self._found.append(row)

    def found(self) -> list[Applied]:
        """Return what was recognised since the last call."""
        found, self._found = self._found, []
        return found

    def _translate(self, place: Place, host: Host | None) -> Translation:
        if host is None:
            self._troubles.pop(place, None)
            return Translation()
        serving = self.serving
        translation = translate(host, owner=serving.owner, cluster=serving.cluster, namespace=serving.namespace)
        troubles = (*translation.rejected, *host.disagreements)
        if troubles:
            self._troubles[place] = troubles
        else:
            self._troubles.pop(place, None)
        return translation

    def _may(self, change: Change, place: Place, now: float) -> bool:
        if change.action is not Action.DELETE:
            row = None if change.key in self._lost else self.applied.get(change.key)
            until = self.repairs.judge(change, row, now)
            if until is not None:
                self._shut_until(place, until)
            return until is None
        if self.serving.policy == "upsert-only" or change.held is None or change.key in self._desired_at:
            return False
        if change.key.kind == SERVICE_ENTRY:
            return self._view.passed() and self._lingering.over(change.key, now)
        decision = gate(change.held, self._view)
        if decision is Gate.SHUT:
            self._shut_until(place, now + RECHECK)
        elif decision is Gate.LISTED and self._suspect:
            self._withheld[change.key] = change.held
            return False
        return decision is not Gate.SHUT

    def _shut_until(self, place: Place, until: float) -> None:
        self._shut[place] = min(until, self._shut.get(place, until))

    def _tell_repair(self, change: Change) -> Change:
        return replace(change, why=f"repair: {change.why}") if self.repairs.is_repair(change.key) else change

    def _need(self, key: ResourceKey, needed: bool, now: float) -> None:
        """Count for how long a ServiceEntry of ours is of no use; a registry not yet read may need it."""
        if needed:
            if self._lingering.needed(key) and key in self.applied:
                self.applied[key] = replace(self.applied[key], unneeded=None)
                self._found.append(self.applied[key])
        elif self._view.passed():
            self._lingering.unneeded(key, now)

    # What comes back

    def acknowledge(self, change: Change, held: Held | None, now: float) -> Applied | None:
        """Note what the cluster took; return the row to remember, None when the object is gone."""
        key = change.key
        self._lost.discard(key)
        if held is None or change.resource is None:
            known = self.mirror.objects.get(key)
            same = known is not None and change.held is not None and known.uid == change.held.uid
            for place in self.mirror.drop(key) if same else ():  # else somebody created another meanwhile
                if not self.mirror.has_workloads(place):
                    self._again.add(place)  # its ServiceEntry begins to linger now
            self.applied.pop(key, None)
            self._lingering.needed(key)
            return None
        self.repairs.made(key, now)
        row = _row(change.resource, held)
        self.applied[key] = row
        if self.mirror.objects.get(key) is change.held and key not in self._vanished:  # else there is newer word
            self.mirror.put(self._own(held))
        return row

    def due(self, now: float) -> set[Place]:
        """Return the places at which something has become possible by time alone; each is returned once."""
        places, self._again = self._again, set()
        for key in self._lingering.due(now):
            if key in self.mirror.objects:
                places.add(place_of(self.mirror.objects[key]))
        for place, at in list(self._shut.items()):
            if at <= now:
                del self._shut[place]
                places.add(place)
        return places

    def next(self) -> float | None:
        """Return the monotonic time at which ``due`` will return something, if ever."""
        if self._again:
            return 0.0
        due = [self._lingering.next(), *self._shut.values()]
        return min((at for at in due if at is not None), default=None)

    def conclude_suspicion(self, *, passed: bool) -> bool:
        """Judge the whole plan, now that all of it was made; tell whether nothing is withheld from now on.

        Whether it is our own mistake shows only when every registry has ``passed``.
        """
        if self._suspect and (self._trusted or (passed and not too_many(len(self._withheld), self._ours()))):
            self._suspect = False
            self._release()
        return not self._suspect

    def carried(self) -> Carried | None:
        """Return under what the whole plan was carried out, None while some of it is to be done."""
        if self._suspect or self._again:
            return None
        return Carried(self.serving.configuration, self.serving.version)

    def _ours(self) -> int:
        return sum(1 for held in self.mirror.objects.values() if held.owner == self.serving.owner)

    def _release(self) -> None:
        self._again |= {place_of(held) for held in self._withheld.values()}
        self._withheld.clear()

    def accept(self) -> int:
        """Let withheld deletions be carried out; return how many."""
        count = len(self._withheld)
        self._suspect = False
        self._release()
        return count

    def withheld(self) -> tuple[Held, ...]:
        """Return the objects whose deletion is held as perhaps our own mistake."""
        return () if self._trusted else tuple(self._withheld.values())

    def lingering(self, now: float) -> list[Applied]:
        """Return the rows of ServiceEntries that are of no use, with for how long."""
        return self._lingering.rows(self.applied, now)

    def paused(self) -> int:
        """Return how many changes a paused cluster waits for."""
        return sum(list(self._paused.values()))

    def troubles(self) -> tuple[str, ...]:
        """Return what was rejected before it was sent, and what instances disagree about."""
        return tuple(trouble for troubles in list(self._troubles.values()) for trouble in troubles)


def _row(resource: Resource, held: Held) -> Applied:
    return Applied(
        key=resource.key,
        digest=content_digest(resource),
        uid=held.uid,
        generation=held.generation,
        resource_version=held.resource_version,
        labels=tuple(resource.labels),
    )
