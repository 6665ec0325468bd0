"""What a lane may do about one place of its cluster now, and what it has to leave for later, and why."""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.alarms import Alarms
from agent.aliases import is_in, uncontested
from agent.applied import AppliedRows
from agent.authors import Authors
from agent.gate import Gate, gate
from agent.hosts import Place
from agent.merge import Host, HostKey
from agent.mirror import Mirror, place_of
from agent.naming import host_label
from agent.pausing import Pause
from agent.plan import Action, Change, plan
from agent.repairs import Repairs
from agent.serving import Serving
from agent.suspicion import Suspicion
from agent.translate import Translation, translate
from agent.view import View
from state.checkpoint import Applied, Carried, Forsaken
from state.limits import Limits
from state.model import SERVICE_ENTRY, Held, Resource, ResourceKey

logger = logging.getLogger(__name__)

RECHECK = 60.0  # seconds after which a place is looked at again where something may not be deleted, or planned, yet


class Proposer:
    """Plans the places of one cluster; used by one thread."""

    def __init__(
        self,
        serving: Serving,
        view: View,
        limits: Limits,
        applied: dict[ResourceKey, Applied],
        carried: Carried | None,
        forsaken: Iterable[Forsaken] = (),
    ) -> None:
        """``applied``, ``carried`` and ``forsaken`` are what is remembered of the cluster."""
        self.serving = serving
        self.mirror = Mirror()
        self.read = False
        self.repairs = Repairs(limits.fight)
        self.applied = AppliedRows(applied, serving.owner)
        self._view = view
        self.unmet = carried is None and not applied  # nothing remembers this cluster
        self._suspicion = Suspicion(serving, carried)
        self._lost: set[ResourceKey] = set()  # what was gone at the start: perhaps we deleted it, and were killed
        self._vanished: set[ResourceKey] = set()  # desired, and told to be gone since they were last planned
        self._again: set[Place] = set()
        self._shut: Alarms[Place] = Alarms()
        self._unplanned: set[Place] = set()  # that we failed to plan, by a mistake of our own
        self._early: set[Place] = set()  # planned before every registry had a pass, without which nothing is deleted
        self._desired_at: dict[ResourceKey, Place] = {}
        self._desired: dict[Place, frozenset[ResourceKey]] = {}
        self._troubles: dict[Place, tuple[str, ...]] = {}
        self.authors = Authors(
            serving.owner,
            self.mirror,
            self.applied,
            grace=limits.service_entry_grace,
            forsaken=forsaken,
            now=time.monotonic(),
        )
        self.pause = Pause(serving.policy == "paused")

    @property
    def namespaces(self) -> frozenset[str]:
        """Return every namespace that the configuration or what was applied names."""
        return self.serving.namespaces | {self.serving.namespace} | {key.namespace for key in self.applied.rows}

    def places(self) -> set[Place]:
        """Return every place that holds, or should hold, something."""
        return self.mirror.places() | self.places_of(self._view.hosts())

    def places_of(self, hosts: Iterable[HostKey]) -> set[Place]:
        """Return where hosts are in this cluster."""
        return {Place(host.namespace or self.serving.namespace, host_label(host.host)) for host in hosts}

    # The mirror

    def take(self, objects: Mapping[ResourceKey, Held]) -> set[Place]:
        """Take a whole picture of the cluster; return every place that it concerns."""
        self.authors.seen.regain(time.monotonic())
        if not self.read:
            self._lost = self.applied.rows.keys() - objects.keys()
            self.applied.meet(objects)
        self.unmet, self.read = False, True
        return self.mirror.replace({key: self.applied.own(held) for key, held in objects.items()})

    def deliver(self, key: ResourceKey, held: Held | None) -> set[Place]:
        """Take what became of one object; return the places that it concerns, none if it is known."""
        desired_at = {self._desired_at[key]} if key in self._desired_at else set()
        if held is None:
            if desired_at:
                self._vanished.add(key)
            elif self._suspicion.raised:  # not everything was planned yet: perhaps it is desired
                self._lost.add(key)
            else:
                self.applied.forget([key])
            return self.mirror.drop(key) | desired_at
        self._vanished.discard(key)
        known = self.mirror.objects.get(key)
        if known is not None and (_is_earlier(held, known) or (_is_same(known, held) and known.spec == held.spec)):
            return set()
        held = self.applied.own(held)
        if known is not None and replace(known, endpoint=held.endpoint) == held:
            return set()
        return self.mirror.put(held) | desired_at

    # Planning

    def propose(self, place: Place, now: float) -> list[Change]:
        """Return the changes that may be carried out at a place now; one that cannot be planned stops no other."""
        try:
            changes = self._propose(place, now)
        except Exception as error:  # one place's net: it is planned again
            logger.exception("cluster %s: host %s cannot be planned", self.serving.cluster, place.label)
            self._unplanned.add(place)
            self._troubles[place] = (f"host {place.label} cannot be planned: {error!r}",)
            self._shut.set(place, now + RECHECK)
            return []
        self._unplanned.discard(place)
        return changes

    def _propose(self, place: Place, now: float) -> list[Change]:
        host = self._view.host(place, self.serving.namespace)
        translation, troubles = self._translate(host)
        keys = frozenset(self.mirror.key(resource.key) for resource in translation.resources)
        before = self._desired.pop(place, frozenset())
        for key in before - keys:
            if self._desired_at.get(key) == place:  # else it is another host's by now
                del self._desired_at[key]
            if key in self.mirror.objects:  # perhaps elsewhere, by a label that was changed: to be deleted there
                self._again |= {place_of(self.mirror.objects[key])} - {place}
        if keys:
            self._desired[place] = keys
            self._desired_at.update(dict.fromkeys(keys, place))
        self._again |= self._aliased(before ^ keys) - {place}
        held = self.mirror.at(place, keys)
        self._shut.drop(place)
        self._vanished -= keys
        for one in held:
            self._suspicion.drop(one.key)
        settled = self.authors.settle(
            place, host, translation.resources, self._desired_at, now, passed=self._view.passed()
        )
        if settled.asks:
            self._shut.set_earlier(place, now + RECHECK)
        self._tell_troubles(place, (*troubles, *settled.troubles))
        planned = plan(settled.resources, held, self.serving.owner, settled.taken)
        if any(change.action is Action.DELETE for change in planned) and not self._view.passed():
            self._early.add(place)
        self.repairs.unneeded((before | keys | {one.key for one in held}) - {change.key for change in planned})
        changes = [self._tell_repair(change) for change in planned if self._may(change, place, now)]
        self._recognise(settled.resources, held, {change.key for change in planned})
        if self.pause.stands:
            self.pause.note(place, len(changes))
            return []
        return changes

    def propose_all(self) -> tuple[Change, ...]:
        """Return the changes that may be carried out anywhere, were the whole plan made and judged now."""
        now = time.monotonic()
        places = sorted(self.places())
        changes = [change for place in places for change in self.propose(place, now)]
        if self._suspicion.raised and self.conclude_suspicion(passed=self._view.passed()):
            changes = [change for place in places for change in self.propose(place, now)]
        return tuple(changes)

    def _recognise(self, resources: Iterable[Resource], held: list[Held], changing: set[ResourceKey]) -> None:
        """Remember objects that are there as desired though nothing remembers writing just that."""
        there = {one.key: one for one in held if one.owner == self.serving.owner}
        for resource in resources:
            key = resource.key
            if key not in there or key in changing or resource.kept:
                continue
            if self.applied.recognise(resource, there[key]):
                self.mirror.put(self.applied.own(there[key]))

    def _translate(self, host: Host | None) -> tuple[Translation, tuple[str, ...]]:
        """Return the objects of a host here, and what is wrong with it."""
        if host is None:
            return Translation(), ()
        owner, cluster, own = self.serving.owner, self.serving.cluster, self.serving.namespace
        translation = translate(host, owner=owner, cluster=cluster, namespace=own)
        resources, contested = uncontested(host, translation.resources, self._view, cluster=cluster, own=own)
        return replace(translation, resources=resources), (*translation.rejected, *host.disagreements, *contested)

    def _tell_troubles(self, place: Place, troubles: tuple[str, ...]) -> None:
        if troubles:
            self._troubles[place] = troubles
        else:
            self._troubles.pop(place, None)

    def _aliased(self, keys: Iterable[ResourceKey]) -> set[Place]:
        """Return where the hosts are of which these ServiceEntries are aliases: who has the name may be another now."""
        return {
            Place(key.namespace, host_label(host.key.host))
            for key in keys
            if key.kind == SERVICE_ENTRY
            for host in self._view.claimants(key.name, key.namespace, self.serving.namespace)
            if is_in(host, self.serving.cluster)
        }

    def _may(self, change: Change, place: Place, now: float) -> bool:
        if change.action is not Action.DELETE:
            row = None if change.key in self._lost else self.applied.rows.get(change.key)
            until = self.repairs.judge(change, row, now)
            if until is not None:
                self._shut.set_earlier(place, until)
            return until is None
        if self.serving.policy == "upsert-only" or change.held is None or change.key in self._desired_at:
            return False
        if change.key.kind == SERVICE_ENTRY:  # perhaps of a host that is not planned yet
            return self._view.passed() and not self._aliased([change.key]) and self.authors.may_delete(change.key, now)
        decision = gate(change.held, self._view)
        if decision is Gate.SHUT:
            self._shut.set_earlier(place, now + RECHECK)
        elif decision is Gate.LISTED and self._suspicion.raised:
            self._suspicion.withhold(change.held)
            return False
        return decision is not Gate.SHUT

    def _tell_repair(self, change: Change) -> Change:
        repair = change.action is not Action.DELETE and self.repairs.is_repair(change.key)
        return replace(change, why=f"repair: {change.why}") if repair else change

    # What comes back

    def acknowledge(self, change: Change, held: Held | None, now: float) -> Applied | None:
        """Note what the cluster took; return the row to remember, None when the object is gone."""
        key = change.key
        self._lost.discard(key)
        if held is None or change.resource is None:
            known = self.mirror.objects.get(key)
            same = known is not None and change.held is not None and known.uid == change.held.uid
            places = self.mirror.drop(key) if same else set()  # else somebody created another meanwhile
            self._again |= {at for at in places if not self.mirror.has_workloads(at)}  # its ServiceEntry lingers now
            self._again |= {self._desired_at[one] for one in {key} & self._desired_at.keys()}  # since it was planned
            self.applied.rows.pop(key, None)
            self.authors.gone(key)
            return None
        self.repairs.made(key, now)
        row = self.applied.acknowledge(change.resource, held)
        if self._shows(key, change.held) and key not in self._vanished:  # else there is newer word
            self.mirror.put(self.applied.own(held))
        return row

    def _shows(self, key: ResourceKey, held: Held | None) -> bool:
        """Tell whether the mirror shows an object in the very state that a write has replaced."""
        known = self.mirror.objects.get(key)
        if known is None or held is None:
            return known is held
        return _is_same(known, held)

    def due(self, now: float) -> set[Place]:
        """Return the places at which something has become possible by time alone; each is returned once."""
        places, self._again = self._again, set()
        for key in self.authors.due(now):
            if key in self._desired_at:
                places.add(self._desired_at[key])
            elif key in self.mirror.objects:
                places.add(place_of(self.mirror.objects[key]))
        return places.union(self._shut.due(now))

    def early(self) -> set[Place]:
        """Return the places at which something waited for registries to have a pass; each is returned once."""
        places, self._early = self._early, set()
        return places

    def next(self) -> float | None:
        """Return the monotonic time at which ``due`` will return something, if ever."""
        if self._again:
            return 0.0
        return min((at for at in (self.authors.next(), self._shut.next()) if at is not None), default=None)

    def conclude_suspicion(self, *, passed: bool) -> bool:
        """Judge the whole plan, now that all of it was made; tell whether nothing is withheld from now on.

        Whether it is our own mistake shows only when every registry has ``passed``.
        """
        if self.read and not self._unplanned:  # what a cluster holds that was not read yet is in no plan
            self._release(self._suspicion.conclude(self._ours, passed=passed))
            if passed and self._lost:
                gone = self._lost - self.mirror.objects.keys() - self._desired_at.keys()
                self._lost -= gone
                self.applied.forget(gone)
        return not self._suspicion.raised

    def carried(self) -> Carried | None:
        """Return under what the whole plan was carried out, None while some of it is to be done."""
        if not self.read or self._suspicion.raised or self._again or self._unplanned:
            return None
        return Carried(self.serving.configuration, self.serving.version)

    def _ours(self) -> int:
        return sum(1 for held in self.mirror.objects.values() if held.owner == self.serving.owner)

    def _release(self, released: Iterable[Held]) -> None:
        self._again |= {place_of(held) for held in released}

    def accept(self) -> None:
        """Let withheld deletions be carried out."""
        self._release(self._suspicion.end())

    def withheld(self) -> tuple[Held, ...]:
        """Return the objects whose deletion is held as perhaps our own mistake."""
        return self._suspicion.withheld()

    def troubles(self) -> tuple[str, ...]:
        """Return what was rejected before it was sent, and what instances disagree about."""
        return tuple(trouble for troubles in list(self._troubles.values()) for trouble in troubles)


def _is_same(one: Held, other: Held) -> bool:
    """Tell whether two are one state of one object."""
    return (one.uid, one.resource_version) == (other.uid, other.resource_version)


def _is_earlier(one: Held, other: Held) -> bool:
    """Tell whether one state is overtaken by another: a look and a watch tell of both, in whichever order."""
    versions = one.resource_version, other.resource_version
    return all(map(str.isdecimal, versions)) and int(versions[0]) < int(versions[1])
