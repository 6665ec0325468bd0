"""Why one registry cannot be read now, by what failed."""

import logging
import threading
import time

from state.errors import RegistryError

logger = logging.getLogger(__name__)


class Trouble:
    """Remembers the last failure of each watcher and of the pass, until it succeeds again."""

    def __init__(self, registry: str) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._errors: dict[str, str] = {}
        self.since: float | None = None
        self.last_read: float | None = None

    def failed(self, what: str, error: RegistryError) -> None:
        """Note a failure; it is logged when it is new."""
        with self._lock:
            if self.since is None:
                self.since = time.monotonic()
            if str(error) != self._errors.get(what):
                logger.warning("registry %s", error)
            self._errors[what] = str(error)

    def succeeded(self, what: str) -> None:
        """Note that something could be read."""
        with self._lock:
            self.last_read = time.monotonic()
            if self._errors.pop(what, None) and not self._errors:
                self.since = None
                logger.info("registry %s: readable again", self._registry)

    def of(self, what: str) -> str:
        """Return the failure of one watcher or of the pass, or nothing."""
        with self._lock:
            return self._errors.get(what, "")

    @property
    def error(self) -> str:
        """Return one failure that lasts, or nothing."""
        with self._lock:
            return next(iter(self._errors.values()), "")
