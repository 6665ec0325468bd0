"""A recorder of what happens to ServiceEntries and WorkloadEntries, which outlives restarts of the API server."""

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from tests.testbed.etcd import Etcd, decoded, encoded
from tests.testbed.processes import ProcessError, wait_until

PREFIX = "/registry/networking.istio.io/"
SENTINEL = f"{PREFIX}~/"


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one ServiceEntry or WorkloadEntry; `object` is what it became, or for a deletion what it was."""

    type: str
    kind: str
    namespace: str
    name: str
    object: dict[str, Any]
    resource_version: int
    time: float


class Recorder:
    """Every event of both kinds in one namespace, in the one order in which they happened.

    It watches etcd itself: an API server that comes back cannot replay what happened before, and two watches on it say
    nothing about the order between two kinds.
    """

    def __init__(self, etcd: Etcd, namespace: str, since: int | None = None) -> None:
        self.namespace = namespace
        self._etcd = etcd
        self._next = (etcd.revision() if since is None else since) + 1
        self._events: list[Event] = []
        self._sentinels = itertools.count()
        self._latest_sentinel = -1
        self._failure: Exception | None = None
        self._stopping = threading.Event()
        self._client = httpx.Client(base_url=etcd.url, timeout=5, trust_env=False)
        self._thread = threading.Thread(target=self._run, name=f"recorder {namespace}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        with contextlib.suppress(httpx.TransportError):
            self._mark()  # wakes the watch
        self._thread.join()
        self._client.close()

    def events(self) -> list[Event]:
        """Everything that happened until now, for certain."""
        number = self._mark()
        wait_until(lambda: self._failed() or self._latest_sentinel >= number, "the recorder has caught up", 10)
        return self.seen()

    def _mark(self) -> int:
        number = next(self._sentinels)
        self._etcd.call("kv/put", {"key": encoded(f"{SENTINEL}{self.namespace}"), "value": encoded(str(number))})
        return number

    def seen(self) -> list[Event]:
        """Everything that has arrived so far."""
        self._failed()
        return list(self._events)

    def wait_for(self, true: Callable[[list[Event]], bool], what: str, deadline: float = 10.0) -> list[Event]:
        """Wait until what happened satisfies the condition, and return it."""
        wait_until(lambda: true(self.seen()), what, deadline)
        return self.seen()

    def _failed(self) -> bool:
        if self._failure:
            raise ProcessError(f"the recorder of {self.namespace} missed events") from self._failure
        return False

    def _run(self) -> None:
        while not self._stopping.is_set() and not self._failure:
            # A quiet watch ends by its read timeout, etcd's absence by an error: either way the next watch goes on.
            with contextlib.suppress(httpx.TransportError):
                self._watch()
            self._stopping.wait(0.05)

    def _watch(self) -> None:
        request = {
            "key": encoded(PREFIX),
            "range_end": encoded(PREFIX[:-1] + chr(ord(PREFIX[-1]) + 1)),
            "start_revision": self._next,
            "prev_kv": True,
        }
        with self._client.stream("POST", "/v3/watch", json={"create_request": request}) as response:
            for line in response.iter_lines():
                self._take(json.loads(line)["result"])
                if self._stopping.is_set() or self._failure:
                    return

    def _take(self, result: dict[str, Any]) -> None:
        if result.get("canceled"):
            self._failure = ProcessError(f"etcd ended the watch: {result}")
            return
        now = time.monotonic()
        for change in result.get("events", ()):
            self._take_one(change, now)
        # One answer holds all changes of each revision in it.
        for change in result.get("events", ()):
            self._next = max(self._next, int(change["kv"]["mod_revision"]) + 1)

    def _take_one(self, change: dict[str, Any], now: float) -> None:
        key, deleted = decoded(change["kv"]["key"]), change.get("type") == "DELETE"
        if key == f"{SENTINEL}{self.namespace}":
            self._latest_sentinel = int(decoded(change["kv"]["value"]))
            return
        _, namespace, name = key.rsplit("/", 2)
        if namespace != self.namespace:
            return
        value = json.loads(decoded((change["prev_kv"] if deleted else change["kv"])["value"]))
        created = change["kv"].get("version") == "1"
        kind = "DELETED" if deleted else "ADDED" if created else "MODIFIED"
        revision = int(change["kv"]["mod_revision"])
        self._events.append(Event(kind, value["kind"], namespace, name, value, revision, now))
