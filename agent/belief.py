"""What is believed of one registry, and what of it waits: the memory that the guard judges by."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from agent.guard import Believed, Verdict
from agent.rules import Rules, carries
from agent.standing import HELD, added, count_kept, count_left
from state.checkpoint import Remembered
from state.model import Count, Instance, InstanceKey, Observed, Reason, Standing, Waiting


class Belief:
    """One registry's believed instances by service, its waiting removals and its standing."""

    def __init__(self, registry: str, rules: Rules, remembered: Remembered, configuration: str, now: float) -> None:
        self.registry = registry
        self.rules = rules
        self.services: dict[str, dict[InstanceKey, Instance]] = {}
        self.epochs: dict[str, int] = {}
        self.indexes: dict[str, int] = {}
        self.waiting: dict[InstanceKey, Waiting] = {row.key: row for row in remembered.waiting}
        self.remembered = remembered.standing is not None
        for observed in remembered.services:
            self._take(observed)
        self.standing = self._restore(
            remembered.standing or Standing(counted=now), remembered.configuration, configuration
        )

    def _restore(self, standing: Standing, before: str, configuration: str) -> Standing:
        """Count anew; under other rules the baseline of what is in service is what they leave or keep waiting."""
        left = self.count()
        minutes = standing.minutes
        if minutes and before != configuration:
            base = added(left, count_kept(self.services, self.waiting.values(), self.carries))
            minutes = tuple(Count(minute.present, base.in_service) for minute in minutes)
        return replace(standing, left=left, minutes=minutes)

    def count(self) -> Count:
        """Count what is believed and does not wait."""
        return count_left(self.services, self.waiting, self.carries)

    def carries(self, instance: Instance) -> bool:
        """Tell whether an instance carries traffic under the rules."""
        return carries(instance, self.rules.ruling(self.registry, instance))

    def view(self) -> Believed:
        """Return it as the guard reads it."""
        return Believed(services=self.services, epochs=self.epochs, waiting=self.waiting, standing=self.standing)

    def apply(self, verdict: Verdict) -> None:
        """Believe a verdict from now on."""
        for observed in verdict.services:
            self._take(observed)
        self.end(verdict.ended)
        for row in verdict.waits:
            self.waiting[row.key] = row
        self.standing = verdict.standing

    def _take(self, observed: Observed) -> None:
        service = observed.service
        if observed.instances:
            self.services[service] = {instance.key: instance for instance in observed.instances}
            self.epochs[service] = observed.epoch
            self.indexes[service] = observed.index or self.indexes.get(service, 0)
        else:
            self.services.pop(service, None)
            self.epochs.pop(service, None)
            self.indexes.pop(service, None)

    def end(self, keys: Iterable[InstanceKey]) -> None:
        """Let removals wait no longer."""
        for key in keys:
            self.waiting.pop(key, None)

    def forget(self, keys: Collection[InstanceKey]) -> tuple[Observed, ...]:
        """Drop instances whose grace has ended; return what their services are now."""
        self.end(keys)
        changed = []
        for service in {key.service for key in keys}:
            rest = tuple(i for key, i in self.services.get(service, {}).items() if key not in keys)
            observed = Observed(service, rest, self.epochs.get(service, 0), self.indexes.get(service, 0))
            self._take(observed)
            changed.append(observed)
        return tuple(changed)

    def observed(self) -> tuple[Observed, ...]:
        """Return everything that is believed, service by service."""
        return tuple(
            Observed(service, tuple(instances.values()), self.epochs.get(service, 0), self.indexes.get(service, 0))
            for service, instances in self.services.items()
        )

    def knows(self, key: InstanceKey) -> bool:
        """Tell whether an instance is believed."""
        return key in self.services.get(key.service, ())

    def held(self) -> tuple[Waiting, ...]:
        """Return the removals that are held."""
        return tuple(row for row in self.waiting.values() if row.reason in HELD)

    def expired(self, grace: float, now: float) -> list[InstanceKey]:
        """Return the instances whose grace is over."""
        return [k for k, row in self.waiting.items() if row.reason is Reason.GRACE and now - row.since >= grace]

    def services_of(self, node: str) -> set[str]:
        """Return the services of which an instance on a node is believed."""
        return {service for service, instances in self.services.items() if any(key.node == node for key in instances)}

    def orphans(self, held: Mapping[InstanceKey, Instance]) -> dict[InstanceKey, Instance]:
        """Return those of a cluster's instances that are not believed here."""
        return {key: instance for key, instance in held.items() if not self.knows(key)}
