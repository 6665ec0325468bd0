"""The lives of Eureka servers: each counts its deltas from 1, so a lower version is of another life.

So is, after a failure, the same version of another delta: a server counts each one
that it makes, though two that it makes at once may share a version (https://github.com/Netflix/eureka/blob/master/eureka-core/src/main/java/com/netflix/eureka/registry/ResponseCacheImpl.java).
"""

import logging
from collections.abc import Iterable

from state.model import Versions

logger = logging.getLogger(__name__)

SHARED = 600.0  # seconds; a version that goes back, up to where it was and back again within them is of several servers


class Epochs:
    """The last version of each server, by its URL; for one thread, but for ``shared`` and ``versions``.

    Versions of two servers do not compare. Where one URL's version goes back, returns to
    where it was and goes back again within ten minutes several servers answer there, and
    versions prove nothing. One that went back and goes back before it got so far again
    is of a server that began anew twice.
    """

    def __init__(self, registry: str, urls: Iterable[str], remembered: Versions) -> None:
        """``remembered`` may be older than what was last seen, never newer."""
        wanted = frozenset(urls)
        self._registry = registry
        self._versions = {url: version for url, version in remembered if url in wanted}
        self._digests: dict[str, bytes] = {}  # of the last deltas
        self._failed: set[str] = set()  # since their last deltas
        self._went_back: dict[str, tuple[float, int]] = {}  # when, and the highest version lately
        self._outlived: dict[str, float] = {}
        self._shared: dict[str, float] = {}

    @property
    def versions(self) -> Versions:
        """Return what is to be remembered, sorted."""
        return tuple(sorted(self._versions.items()))

    def shared(self, now: float) -> bool:
        """Tell whether several servers seem to answer at one address; ``now`` is in monotonic seconds."""
        return any(now - since <= SHARED for since in tuple(self._shared.values()))

    def failed(self, url: str) -> None:
        """Note that a server could not be read: it may be starting anew."""
        self._failed.add(url)

    def began(self, url: str, version: int, digest: bytes, now: float) -> bool:
        """Take in the version and the digest of a delta; tell whether the server's data began another life."""
        before = self._versions.get(url, version)
        other = url in self._failed and self._digests.get(url, digest) != digest
        self._failed.discard(url)
        self._versions, self._digests[url] = {**self._versions, url: version}, digest
        if version > before or (version == before and not other):
            return False
        last, highest = self._went_back.get(url, (-SHARED, before))
        lately = now - last < SHARED
        self._went_back[url] = now, max(before, highest) if lately else before
        if lately and version < before and before >= highest:
            if now - self._shared.get(url, -SHARED) >= SHARED:
                logger.warning(
                    "registry %s: the version at %s went back twice within ten minutes: several servers seem to share "
                    "this address; name each of them in urls",
                    self._registry,
                    url,
                )
            self._shared[url] = now
            return False
        logger.warning("registry %s: version %d at %s after %d: it began anew", self._registry, version, url, before)
        return True

    def outlived(self, url: str, now: float) -> bool:
        """Note that no registration outlived two full reads; tell whether another life began.

        That is what a server without deltas shows of it. Twice within ten minutes it is
        the way of its clients, which register again and again.
        """
        last = self._outlived.get(url, -SHARED)
        self._outlived[url] = now
        if now - last < SHARED:
            return False
        logger.warning("registry %s: every registration at %s is a new one: it began anew", self._registry, url)
        return True
