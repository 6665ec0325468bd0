"""The indexes of one registry's lists and services, and the moments at which its data began anew."""

import logging
import threading
from collections.abc import Callable, Iterable, Set

logger = logging.getLogger(__name__)


class Epochs:
    """Notices that a registry-wide index went back: the data is another, all indexes are void.

    https://developer.hashicorp.com/consul/api-docs/features/blocking#implementation-details
    """

    def __init__(self, registry: str, lists: int, floor: int, begun: Callable[[], None]) -> None:
        """``lists`` counts the registry-wide lists; ``floor`` is the highest index remembered from earlier.

        ``begun`` is called, once, whenever another epoch begins.
        """
        self._registry = registry
        self._lists = lists
        self._floor = floor
        self._begun = begun
        self._lock = threading.Lock()
        self._indexes: dict[str, int] = {}
        self._read: dict[str, int] = {}  # of each service, as it was last read in this epoch
        self._told: dict[str, int] = {}  # of each service, as of the last reading of it that was handed over
        self.generation = 0  # changes with the epoch; what was asked in an earlier one is void

    def moved(self, name: str, index: int, generation: int) -> bool:
        """Note the index of a list; False when it was asked for in an epoch that has ended."""
        with self._lock:
            if generation != self.generation:
                return False
            before = self._indexes.get(name, 0)
            self._indexes[name] = index
            if index < before:
                self._begin(f"the index of {name} went back from {before} to {index}", {name: index})
            elif self._floor and len(self._indexes) == self._lists:
                highest, floor, self._floor = max(self._indexes.values()), self._floor, 0
                if highest < floor:
                    self._begin(f"its index {highest} is below the remembered {floor}", dict(self._indexes))
            return True

    def known(self, name: str) -> int:
        """Return the index that a list was last seen to have, 0 before the first."""
        with self._lock:
            return self._indexes.get(name, 0)

    def compare(self, name: str, index: int, known: int, generation: int) -> None:
        """Judge the index of a list that was asked for beside its watcher, when ``known`` had been seen.

        It is not noted: an answer that is on its way to the watcher meanwhile may be an older one.
        """
        with self._lock:
            if generation == self.generation and index < known:
                self._begin(f"the index of {name} went back from {known} to {index}", {name: index})

    # Services

    def read(self, service: str, index: int, generation: int) -> None:
        """Note the index of a service that was read, unless its epoch has ended."""
        with self._lock:
            if generation == self.generation:
                self._read[service] = index

    def last_read(self, service: str) -> int:
        """Return the index under which a service was last read in this epoch, 0 before the first time."""
        return self._read.get(service, 0)

    def handed_over(self, service: str, index: int, generation: int) -> None:
        """Note that whoever believes knows what a service was under an index."""
        with self._lock:
            if generation == self.generation:
                self._told[service] = index

    def is_known(self, service: str, index: int) -> bool:
        """Tell whether what a service is under an index was handed over, in this epoch."""
        return self._told.get(service) == index

    def told(self, services: Iterable[str]) -> dict[str, int]:
        """Return the indexes under which these services were handed over in this epoch, of those that were."""
        told = self._told
        return {service: told[service] for service in services if service in told}

    def keep(self, services: Set[str]) -> None:
        """Forget the indexes of all other services: they are gone."""
        with self._lock:
            for indexes in (self._read, self._told):
                for service in indexes.keys() - services:
                    del indexes[service]

    def _begin(self, why: str, indexes: dict[str, int]) -> None:
        logger.warning("registry %s: another epoch begins: %s", self._registry, why)
        self.generation += 1
        self._floor = 0
        self._indexes = indexes
        self._read, self._told = {}, {}
        self._begun()

    @property
    def highest(self) -> int:
        """Return the highest index of any list, 0 before the first."""
        return max(self._indexes.values(), default=0)
