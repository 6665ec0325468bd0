"""The watch on the metadata of one kind in one namespace.

A watch goes on where the last one ended, for as long as the server remembers:
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
That it ends, is cut or falls silent says nothing about any object. Bookmarks, one a
minute, keep it from falling silent while nothing happens.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue
from sys import intern
from threading import Event, Thread
from time import monotonic

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from agent.clusters.api import Api
from agent.clusters.faults import Call, from_status, unexpected
from agent.clusters.known import Record, Sighting
from agent.clusters.objects import held_of
from state.errors import ClusterError, Fault
from state.limits import Limits
from state.model import MANAGED_BY, PRODUCT, ResourceKey

SELECTOR = f"{MANAGED_BY}={PRODUCT}"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
SILENCE = 90.0  # seconds, with a bookmark every 60
NOTHING: dict[str, object] = {}  # one for the many objects that have no such metadata
BRIEF = 1.0  # a watch that shows nothing and ends within this many seconds is worth nothing


class Watch:
    """A thread that puts each ``Sighting`` into an inbox, and the error that ended it."""

    def __init__(
        self, api: Api, call: Call, path: str, kind: str, *, version: str, inbox: SimpleQueue[object], limits: Limits
    ) -> None:
        self._api = api
        self._call = call
        self._path = path
        self._kind = kind
        self._version = version
        self._inbox = inbox
        self._limits = limits
        self._ended = Event()
        self._response: BaseHTTPResponse | None = None
        self._thread = Thread(target=self._run, name=str(call), daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def end(self) -> None:
        """Stop watching, also in the middle of a read."""
        self._ended.set()
        # Whatever state the answer is in by now, the thread sees that it has ended.
        with suppress(OSError, ValueError, RuntimeError, AttributeError):
            if self._response is not None:
                self._response.shutdown()

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended; one that is connecting may take longer, and says nothing any more."""
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # noqa: BLE001 - this thread's net: whoever reads the inbox gets it
            if not self._ended.is_set():
                self._inbox.put(error)

    def _follow(self) -> None:
        """Open one watch after the other, until ended or refused."""
        waits = self._limits.retry
        vain = 0
        while not self._ended.is_set():
            begun = monotonic()
            shown = self._watch_once()
            vain = 0 if shown or monotonic() - begun > BRIEF else vain + 1
            if vain > len(waits):
                raise ClusterError(Fault.CLUSTER, f"{self._call}: it ends at once, {vain} times in a row")
            if vain:
                self._ended.wait(waits[vain - 1])

    def _watch_once(self) -> int:
        """Pass on the events of one watch; return how many there were."""
        query: dict[str, str | int] = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": SELECTOR,
            "resourceVersion": self._version,
            "timeoutSeconds": max(1, round(self._limits.watch)),
        }
        silence = min(SILENCE, self._limits.watch + self._limits.read_timeout)
        response = self._api.stream(self._call, self._path, query=query, accept=METADATA, silence=silence)
        self._response = response
        shown = 0
        try:
            if not self._ended.is_set():
                for line in _lines(response):
                    self._pass_on(line)
                    shown += 1
        finally:
            self._response = None
            response.close()
        return shown

    def _pass_on(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            what, shown = event["type"], event["object"]
            if what == "ERROR":
                raise from_status(self._call, shown)
            version = shown["metadata"]["resourceVersion"]
            if what != "BOOKMARK":
                self._inbox.put(Sighting(record_of(self._kind, shown), deleted=what == "DELETED"))
        except (KeyError, TypeError, ValueError, RecursionError):
            raise unexpected(self._call, "no watch of Kubernetes") from None
        self._version = version


def record_of(
    kind: str, shown: dict[str, object], own_labels: tuple[str, ...] = (), key: ResourceKey | None = None
) -> Record:
    """Return the record of an object, or of its metadata alone; TypeError or ValueError when it is neither.

    If it is the object of a known ``key``, its record has that very key: keys are kept long, and in many places.
    """
    metadata = shown.get("metadata")
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata are {metadata!r}")
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not isinstance(namespace, str):
        raise TypeError(f"an object has name {name!r} and namespace {namespace!r}")
    found = ResourceKey(kind, intern(namespace), name)
    held = held_of(key if key == found else found, shown, own_labels)
    if not held.resource_version.isdecimal():
        raise ValueError(f"resourceVersion of {held.key} is {held.resource_version!r}")
    rest = {key: metadata[key] for key in ("finalizers", "ownerReferences") if metadata.get(key)}
    return Record(held, rest or NOTHING)


def _lines(response: BaseHTTPResponse) -> Iterator[bytes]:
    """Yield whole lines until the answer ends, is cut, or is silent for too long."""
    rest = b""
    # The last three come from a socket that is shut down while it is read.
    with suppress(HTTPError, OSError, ValueError, AttributeError):
        for chunk in _chunks(response):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield line


def _chunks(response: BaseHTTPResponse) -> Iterator[bytes]:
    if response.chunked:
        yield from response.stream(65536, decode_content=False)
    else:
        while chunk := response.read1(65536, decode_content=False):
            yield chunk
