"""What a lane has to remember over a restart, stored in few steps."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from state.checkpoint import Applied, Carried, Checkpoint, Event, Forsaken
from state.errors import StateError
from state.model import ResourceKey

logger = logging.getLogger(__name__)

MANY = 64  # rows that are stored without waiting for more
SOON = 0.05  # seconds that a row waits for others, while some are to be expected


class Ledger:
    """What one cluster acknowledged, collected and stored: a row that comes late costs a look, never a wrong result."""

    def __init__(self, cluster: str, checkpoint: Checkpoint) -> None:
        self._cluster = cluster
        self._checkpoint = checkpoint
        self._carried = checkpoint.carried(cluster)
        self._storing = threading.Lock()
        self._forsaken = bool(checkpoint.forsaken(cluster))
        self._applied: dict[ResourceKey, Applied] = {}
        self._gone: set[ResourceKey] = set()
        self._events: list[Event] = []
        self._since = 0.0

    def note(self, applied: Iterable[Applied], gone: Iterable[ResourceKey], events: Iterable[Event] = ()) -> None:
        """Collect what is there as it was written, what is gone, and the history of it."""
        with self._storing:
            if not (self._applied or self._gone):
                self._since = time.monotonic()
            for row in applied:
                self._applied[row.key] = row
                self._gone.discard(row.key)
            for key in gone:
                self._applied.pop(key, None)
                self._gone.add(key)
            self._events.extend(events)

    def is_due(self, now: float) -> bool:
        """Tell whether what was collected has waited for long enough, or is much."""
        rows = len(self._applied) + len(self._gone)
        return rows >= MANY or (rows > 0 and now - self._since >= SOON)

    def store(self, elapsed: Callable[[], Iterable[Applied]] = tuple) -> None:
        """Store everything as one step, and with it rows of which nothing but time has changed.

        What the disk does not take is stored with what follows, without its history.
        """
        with self._storing:
            rows = {row.key: row for row in elapsed() if row.key not in self._gone} | self._applied
            if not (rows or self._gone):
                return
            try:
                self._checkpoint.apply(self._cluster, rows.values(), self._gone, self._events)
                self._applied, self._gone = {}, set()
            except StateError as error:
                logger.error("cluster %s: %s", self._cluster, error)
            self._events = []

    def store_forsaken(self, rows: Sequence[Forsaken]) -> None:
        """Store for how long the authors of ServiceEntries have left their hosts."""
        with self._storing:
            if not (rows or self._forsaken):
                return
            try:
                self._checkpoint.set_forsaken(self._cluster, rows)
                self._forsaken = bool(rows)
            except StateError as error:
                logger.error("cluster %s: %s", self._cluster, error)

    def carry(self, carried: Carried) -> None:
        """Remember under what the whole plan was carried out."""
        if carried == self._carried:
            return
        try:
            self._checkpoint.set_carried(self._cluster, carried)
            self._carried = carried
        except StateError as error:
            logger.error("cluster %s: %s", self._cluster, error)

    def accept(self, configuration: str) -> None:
        """Remember that an operator accepted the deletions of a configuration; StateError when that fails."""
        carried = self._checkpoint.carried(self._cluster) or Carried()
        self._checkpoint.set_carried(self._cluster, carried._replace(accepted=configuration))
