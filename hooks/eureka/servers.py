"""Which of a cluster's servers is read: the same one until it fails, then the next."""

import logging
from collections.abc import Iterator

from state.errors import RegistryError

logger = logging.getLogger(__name__)


class Servers:
    """The addresses of one Eureka cluster, tried in turn; for one thread."""

    def __init__(self, registry: str, urls: tuple[str, ...]) -> None:
        self._registry = registry
        self._urls = urls
        self._current = 0
        self._errors: dict[str, str] = {}

    @property
    def current(self) -> str:
        """Return the server that answered last, or the first one."""
        return self._urls[self._current]

    def round(self) -> Iterator[str]:
        """Yield every server once, the current one first; to be ended as soon as one answers."""
        first = self._current
        self._errors.clear()
        for step in range(len(self._urls)):
            yield self._urls[(first + step) % len(self._urls)]

    def answered(self, url: str) -> None:
        """Note that a server was read; it stays the one that is read, until it fails."""
        if url != self.current:
            logger.warning("registry %s is read from %s now: %s", self._registry, url, self._said())
            self._current = self._urls.index(url)

    def failed(self, url: str, error: RegistryError) -> None:
        """Note that a server could not be read in this round."""
        self._errors[url] = str(error)

    def error(self) -> RegistryError:
        """Return why none of them could be read in this round."""
        return RegistryError(self._said())

    def _said(self) -> str:
        first, *more = self._errors.values() or ("nobody asked it",)
        prefix = f"{self._registry}: "
        return "; ".join((first, *(error.removeprefix(prefix) for error in more)))
