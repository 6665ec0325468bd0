"""Which services are worth a parked query: those that changed most recently."""

from collections.abc import Collection


class Recent:
    """The services to park, by when they changed; the rest of the budget goes to the others, by name."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._changed: dict[str, None] = {}  # the last one changed last
        self._others: list[str] = []
        self._wanted: list[str] = []
        self._stale = False
        self._listed = False  # once; a registry may be empty

    def changed(self, service: str) -> None:
        """Note that a service has changed just now; before there was a list everything does, which says nothing."""
        if self._listed:
            self._changed.pop(service, None)
            self._changed[service] = None
            if len(self._changed) > self.budget:
                del self._changed[next(iter(self._changed))]
            self._stale = self._stale or service not in self._wanted

    def gone(self, service: str) -> None:
        """Note that nothing is left of a service."""
        self._changed.pop(service, None)
        if service in self._others:
            self._others.remove(service)
        self._stale = self._stale or service in self._wanted

    def listed(self, services: Collection[str]) -> None:
        """Note all services that there are."""
        if self.budget:
            self._listed = True
            self._changed = {service: None for service in self._changed if service in services}
            self._others = sorted(services)[: 2 * self.budget]
            self._stale = self._stale or self._choice() != self._wanted

    def is_stale(self) -> bool:
        """Tell whether there is something else to park than was wanted last."""
        return self._stale

    def wanted(self) -> list[str]:
        """Return the services to park, the most recently changed first."""
        self._wanted, self._stale = self._choice(), False
        return self._wanted

    def _choice(self) -> list[str]:
        recent = list(reversed(self._changed))
        rest = [service for service in self._others if service not in self._changed]
        return (recent + rest)[: self.budget]
