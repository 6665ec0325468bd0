"""What all registries together say of every host: believed, merged, remembered, and handed to the lanes.

One lock guards it all: a change is judged, remembered and placed before the next.
"""

import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from agent import guard
from agent.belief import Belief
from agent.hosts import HostIndex, Place
from agent.merge import Host, HostKey, Registration, host_key, merge
from agent.naming import host_label
from agent.rules import Rules
from agent.serving import Heard
from agent.standing import HELD, added, begin_epoch, count_kept, count_minute
from state.checkpoint import Checkpoint
from state.errors import StateError
from state.limits import Limits
from state.model import Count, Instance, InstanceKey, Observed, Reading, Reason, Waiting

logger = logging.getLogger(__name__)


class Follower(Protocol):
    """Whoever must act when hosts change: a lane."""

    def mark(self, hosts: Collection[HostKey], heard: Heard) -> None:
        """Note that these hosts may have changed; ``heard`` is who told, and when."""

    def note_pass(self) -> None:
        """Note that a registry had its first pass: what waited for that may change, also where no host is known."""


@dataclass(slots=True)
class _Changes:
    """What one step changes in one registry, to be remembered as one."""

    services: dict[str, Observed]
    waits: dict[InstanceKey, Waiting]
    ended: set[InstanceKey]


class View:
    """The believing side of all registries."""

    def __init__(
        self, order: Sequence[str], rules: Rules, checkpoint: Checkpoint, limits: Limits, configuration: str
    ) -> None:
        """``order`` are the registries as configured; ``configuration`` is the digest of what decides the rules."""
        self.order = tuple(order)
        self.limits = limits
        self.unsaved = ""
        self.lock = threading.RLock()
        self._checkpoint = checkpoint
        self._configuration = configuration
        self._followers: list[Follower] = []
        self._passed: set[str] = set()
        self._accepted: dict[str, frozenset[InstanceKey]] = {}
        self._index = HostIndex()
        self._unsaved: dict[str, _Changes] = {}
        now = time.monotonic()
        self.beliefs = {
            name: Belief(name, rules, checkpoint.registry(name, now), configuration, now) for name in self.order
        }
        for name, belief in self.beliefs.items():
            for service in belief.services:
                self._place(name, service)

    def follow(self, follower: Follower) -> None:
        """Tell a follower of every change from now on."""
        self._followers.append(follower)

    # Hearing

    def hear(self, reading: Reading) -> Collection[str]:
        """Judge a reading, remember the verdict and tell the lanes; return the services that changed."""
        with self.lock:
            belief = self.beliefs[reading.registry]
            verdict = guard.judge(
                belief.view(),
                reading,
                carries=belief.carries,
                limits=self.limits,
                now=time.monotonic(),
                accepted=self._accepted.get(reading.registry, frozenset()) if reading.complete else (),
            )
            reasons = {row.key: belief.waiting[row.key].reason for row in verdict.waits if row.key in belief.waiting}
            belief.apply(verdict)
            if reading.complete:
                self._accepted.pop(reading.registry, None)
                first = reading.registry not in self._passed
                self._passed.add(reading.registry)
            else:
                first = False
            _log(reading.registry, verdict, reasons)
            heard = Heard(reading.heard, reading.registry)
            changed = {observed.service for observed in verdict.services}
            touched = changed | {row.key.service for row in verdict.waits} | {key.service for key in verdict.ended}
            if touched or (verdict.standing.minutes and first):
                changes = _Changes(
                    {observed.service: observed for observed in verdict.services},
                    {row.key: row for row in verdict.waits},
                    set(verdict.ended),
                )
                self._settle({reading.registry: changes}, reading.registry, touched, heard)
            if first:
                for follower in self._followers:
                    follower.note_pass()
        # What begins to wait, or waits no more, has changed as well: that it did is the registry's word, not ours.
        waits = {row.key.service for row in verdict.waits if row.key not in reasons}
        return changed | waits | {key.service for key in verdict.ended}

    def _settle(self, changes: dict[str, _Changes], registry: str, services: Iterable[str], heard: Heard) -> None:
        """Place what changed, end the grace that is needless now, remember it all, tell the lanes."""
        hosts: set[HostKey] = set()
        for service in services:
            hosts |= self._place(registry, service)
        if any(belief.waiting for belief in self.beliefs.values()):
            for host in tuple(hosts):
                hosts |= self._end_grace(self.merged([host]).ended, changes)
        self._remember(changes)
        self._tell(hosts, heard)

    def _end_grace(self, ended: Iterable[tuple[str, InstanceKey]], changes: dict[str, _Changes]) -> set[HostKey]:
        hosts: set[HostKey] = set()
        for registry, key in ended:
            belief = self.beliefs[registry]
            change = changes.setdefault(registry, _Changes({}, {}, set()))
            change.services.update((observed.service, observed) for observed in belief.forget({key}))
            change.waits.pop(key, None)
            change.ended.add(key)
            hosts |= self._place(registry, key.service)
        return hosts

    def _place(self, registry: str, service: str) -> set[HostKey]:
        """Bring the index of hosts up to date for one service; return its hosts before and after."""
        belief = self.beliefs[registry]
        instances = belief.services.get(service, {}).values()
        rulings = {belief.rules.ruling(registry, instance) for instance in instances}
        aliases = ((host_key(ruling), alias) for ruling in rulings if not ruling.skip for alias in ruling.aliases)
        return self._index.put((registry, service), map(host_key, rulings), aliases)

    def _tell(self, hosts: Collection[HostKey], heard: Heard) -> None:
        if hosts:
            for follower in self._followers:
                follower.mark(hosts, heard)

    def _remember(self, changes: Mapping[str, _Changes]) -> None:
        """Remember changes; while the disk fails they are kept, and stored with the next ones."""
        for registry, change in changes.items():
            kept = self._unsaved.setdefault(registry, _Changes({}, {}, set()))
            kept.services.update(change.services)
            kept.waits = {k: v for k, v in kept.waits.items() if k not in change.ended} | change.waits
            kept.ended = (kept.ended - change.waits.keys()) | change.ended
        self._store()

    def _store(self) -> None:
        try:
            for registry in tuple(self._unsaved):
                change = self._unsaved[registry]
                self._checkpoint.observe(
                    registry,
                    services=change.services.values(),
                    waits=change.waits.values(),
                    ended=change.ended,
                    standing=self.beliefs[registry].standing,
                    configuration=self._configuration,
                    now=time.monotonic(),
                )
                del self._unsaved[registry]
        except StateError as error:
            if not self.unsaved:
                logger.error("%s; going on in memory", error)
            self.unsaved = str(error)
        else:
            self.unsaved = ""

    # Time

    def tick(self) -> None:
        """End what grace is over, count the minute, and store how long things have waited."""
        with self.lock:
            now = time.monotonic()
            for registry, belief in self.beliefs.items():
                expired = belief.expired(self.limits.empty_grace, now)
                if expired:
                    changes: dict[str, _Changes] = {}
                    hosts = self._end_grace([(registry, key) for key in expired], changes)
                    self._remember(changes)
                    self._tell(hosts, Heard(now, ""))  # time told, no registry
                counted = count_minute(belief.standing, belief.waiting.values(), self.limits, now)
                if counted is not belief.standing:
                    belief.standing = counted
                    self._remember({registry: _Changes({}, {}, set())})

    def store_elapsed(self) -> None:
        """Store how long everything has waited, and the age of every epoch."""
        with self.lock:
            self._remember(
                {
                    name: _Changes({}, dict(belief.waiting), set())
                    for name, belief in self.beliefs.items()
                    if belief.waiting or belief.standing.epoch_began is not None
                }
            )

    # Asking

    def registrations(self, hosts: Iterable[HostKey]) -> list[Registration]:
        """Return every believed registration of these hosts."""
        wanted = frozenset(hosts)
        found = []
        for registry, service in self._index.services(wanted):
            belief = self.beliefs[registry]
            for key, instance in belief.services.get(service, {}).items():
                ruling = belief.rules.ruling(registry, instance)
                if host_key(ruling) in wanted:
                    row = belief.waiting.get(key)
                    found.append(
                        Registration(
                            registry=registry, instance=instance, ruling=ruling, waits=row.reason if row else None
                        )
                    )
        return found

    def merged(self, hosts: Sequence[HostKey]) -> Host:
        """Return hosts that are one and the same in a cluster, merged."""
        return merge(hosts[0], self.registrations(hosts), self.order)

    def host(self, place: Place, namespace: str) -> Host | None:
        """Return the host at a place of a cluster whose own namespace is given, None if nobody needs it."""
        with self.lock:
            here = self._index.at(place, namespace)
            return self.merged(here) if here else None

    def hosts(self) -> list[HostKey]:
        """Return all hosts."""
        with self.lock:
            return list(self._index.hosts())

    def claimants(self, alias: str, namespace: str, own: str) -> Iterator[Host]:
        """Yield the hosts in a namespace that have an alias, by name; ``own`` is a cluster's own namespace."""
        with self.lock:
            names = {host.host for host in self._index.claimants(alias) if (host.namespace or own) == namespace}
        for name in sorted(names):  # one after the other: who asks for the first pays for no more
            host = self.host(Place(namespace, host_label(name)), own)
            if host is not None and alias in host.aliases:
                yield host

    def passed(self, registry: str | None = None) -> bool:
        """Tell whether a registry, or every one, had a pass since the start."""
        with self.lock:  # a pass that is being judged has not marked its hosts yet
            return registry in self._passed if registry else self._passed.issuperset(self.order)

    def word(self, registry: str, key: InstanceKey) -> tuple[Instance | None, Waiting | None] | None:
        """Return what is believed of a registration and why it waits; None for an unknown registry."""
        belief = self.beliefs.get(registry)
        if belief is None:
            return None
        with self.lock:
            return belief.services.get(key.service, {}).get(key), belief.waiting.get(key)

    def accept(self, registry: str, keys: Collection[InstanceKey]) -> None:
        """Let the next pass believe these held removals, if they are still missing."""
        with self.lock:
            self._accepted[registry] = frozenset(keys)

    def adopt(self, held: Mapping[str, Mapping[InstanceKey, Instance]]) -> None:
        """Believe what a cluster holds and no registry has listed: it is held, not deleted.

        A cluster is first met when the state file was lost, or the cluster is new.
        If the file was lost, another epoch begins whose baseline is what clusters hold.
        """
        with self.lock:
            for registry, instances in held.items():
                belief = self.beliefs.get(registry)
                if belief and (orphans := belief.orphans(instances)):
                    self._adopt(belief, orphans)

    def _adopt(self, belief: Belief, orphans: Mapping[InstanceKey, Instance]) -> None:
        now, registry = time.monotonic(), belief.registry
        if not belief.remembered:
            belief.remembered = True
            belief.standing = begin_epoch(belief.standing, now)
            belief.epochs = dict.fromkeys(belief.epochs, belief.standing.epoch)
        changes: dict[str, Observed] = {}
        for service in {key.service for key in orphans}:
            old = tuple(belief.services.get(service, {}).values())
            new = tuple(instance for key, instance in orphans.items() if key.service == service)
            # As if last read in an earlier epoch: what the next pass does not show is held.
            seen = belief.standing.epoch - 1
            changes[service] = Observed(service, old + new, seen, belief.indexes.get(service, 0))
        # They wait from the start: what is not known of them must not be written over what is there.
        waits = {key: Waiting(key=key, reason=Reason.HOLD, word=None, since=now, pass_begun=0) for key in orphans}
        logger.warning("registry %s: %d instances are in a cluster and unknown here: held", registry, len(orphans))
        baseline = belief.standing.baseline
        belief.apply(
            guard.Verdict(services=tuple(changes.values()), waits=tuple(waits.values()), standing=belief.standing)
        )
        left = belief.count()
        whole = added(left, count_kept(belief.services, belief.waiting.values(), belief.carries))
        minutes = tuple(
            Count(max(minute.present, baseline.present + len(orphans)), max(minute.in_service, whole.in_service))
            for minute in belief.standing.minutes
        )
        belief.standing = replace(belief.standing, left=left, minutes=minutes)
        self._settle({registry: _Changes(changes, waits, set())}, registry, changes, Heard(now, ""))


def _log(registry: str, verdict: guard.Verdict, before: Mapping[InstanceKey, Reason]) -> None:
    for row in verdict.waits:
        if row.reason in HELD and before.get(row.key) is not row.reason:
            logger.warning("registry %s: the removal of %s is held (%s)", registry, "/".join(row.key), row.reason)
    for instance in verdict.left:
        logger.info("registry %s: %s left", registry, "/".join(instance.key))
