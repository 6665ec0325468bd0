"""The thread that keeps a lane's picture of its cluster true: read it whole, then watch it."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from agent.clusters import Cluster
from state.errors import ClusterError
from state.limits import Limits
from state.model import Held, ResourceKey

logger = logging.getLogger(__name__)

CALM = 1.0  # seconds; a watch that ends sooner must not make us read everything in a circle


class Onlooker(Protocol):
    """Whoever is told what a cluster holds."""

    def see_whole(self, objects: Mapping[ResourceKey, Held]) -> None:
        """Take a whole picture."""

    def see_one(self, key: ResourceKey, held: Held | None) -> None:
        """Take what became of one object."""

    def see_nothing(self, why: str) -> None:
        """Note that the cluster cannot be read, or, without a reason, that it can."""


class Sight:
    """Reads and watches one cluster until stopped."""

    def __init__(
        self, cluster: Cluster, read: Callable[[], Mapping[ResourceKey, Held]], onlooker: Onlooker, limits: Limits
    ) -> None:
        self._cluster = cluster
        self._read = read
        self._onlooker = onlooker
        self._limits = limits
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{cluster.name} mirror", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """End the call that is under way, and the thread."""
        self._stopping.set()
        self._cluster.close()
        if self._thread.is_alive():
            self._thread.join(self._limits.stop)

    def _run(self) -> None:
        failures, backoff = 0, self._limits.backoff
        while not self._stopping.is_set():
            retry_after, began = 0.0, math.inf
            try:
                self._onlooker.see_whole(self._read())
                self._onlooker.see_nothing("")
                began = time.monotonic()
                self._cluster.watch(self._stopping, self._onlooker.see_one)
                if failures == 0 or time.monotonic() - began > CALM:
                    failures = int(time.monotonic() - began <= CALM)  # one that ended too soon may be read anew at once
                    continue
            except ClusterError as error:
                if self._stopping.is_set():
                    return
                self._onlooker.see_nothing(str(error))
                retry_after = error.retry_after
            except Exception as error:  # the mirror's one net: the cluster is read again
                logger.exception("cluster %s: watching failed", self._cluster.name)
                self._onlooker.see_nothing(repr(error))
            if time.monotonic() - began > CALM:
                failures = 0
            self._stopping.wait(max(retry_after, backoff[min(failures, len(backoff) - 1)]))
            failures += 1
