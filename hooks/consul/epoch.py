"""The indexes of one registry's lists, and the moments at which its data began anew."""

import logging
import threading
from collections.abc import Callable

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

    def _begin(self, why: str, indexes: dict[str, int]) -> None:
        logger.warning("registry %s: another epoch begins: %s", self._registry, why)
        self.generation += 1
        self._floor = 0
        self._indexes = indexes
        self._begun()

    @property
    def highest(self) -> int:
        """Return the highest index of any list, 0 before the first."""
        return max(self._indexes.values(), default=0)
