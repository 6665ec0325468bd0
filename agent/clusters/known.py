"""What is known of a cluster's objects: from lists, from our own writes' answers, from watches.

The three overlap in time. A version tells which of two states of an object is
the later one: an integer for every API server that keeps its objects in etcd,
and so by definition since Kubernetes 1.35
(https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions).

A watch shows metadata only, so a spec is known by its generation. The event of
our own write can arrive before the answer to it, and would show a generation
whose spec nobody has seen; a repair would follow for nothing. So events of an
object that is being written wait until the answer is here: those up to the
answer's version then say nothing new. Nor does the answer: whoever wrote has it.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Lock

from state.model import Held, ResourceKey


@dataclass(frozen=True, slots=True)
class Record:
    """An object as it was last seen; ``rest`` is metadata that a PUT must send back, or it would be removed."""

    held: Held
    rest: Mapping[str, object]

    @property
    def version(self) -> int:
        """Return the place of this state among all states of the cluster's objects."""
        return int(self.held.resource_version)


@dataclass(frozen=True, slots=True)
class Sighting:
    """One event of a watch; the digest of its spec is empty, as the spec is not shown."""

    record: Record
    deleted: bool


@dataclass(frozen=True, slots=True)
class Overdue:
    """While an object was written, events told more of it than the write's answer."""

    key: ResourceKey


class Known:
    """The last known state of every isthmus object of a cluster; called from many threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inbox: SimpleQueue[object] | None = None
        self._records: dict[ResourceKey, Record] = {}
        self._deleted: dict[str, ResourceKey] = {}  # by uid: late events of what we deleted are no news
        self._lately: dict[ResourceKey, Record | None] = {}  # what our writes did since the last list began
        self._writing: dict[ResourceKey, int] = {}
        self._waiting: dict[ResourceKey, list[Sighting]] = {}

    def tell(self, inbox: SimpleQueue[object] | None) -> None:
        """Put ``Overdue`` into a watch's inbox from now on, or no longer."""
        with self._lock:
            self._inbox = inbox

    def begin_read(self) -> None:
        """Note that lists begin now: what our writes do from here on may be missing in them."""
        with self._lock:
            self._lately.clear()
            self._waiting.clear()

    def listed(self, kind: str, namespace: str, version: int, records: Iterable[Record]) -> None:
        """Take over a complete list of one kind in one namespace, as it was at a version."""
        fresh = {record.held.key: record for record in records}
        with self._lock:
            for key, lately in self._lately.items():
                if (key.kind, key.namespace) != (kind, namespace):
                    continue
                if lately is None:
                    if key in fresh and fresh[key].held.uid in self._deleted:
                        del fresh[key]
                elif lately.version > version:
                    fresh[key] = lately
            before = {k: r for k, r in self._records.items() if (k.kind, k.namespace) == (kind, namespace)}
            for key in before:
                del self._records[key]
            self._records.update({key: _carry(before.get(key), record) for key, record in fresh.items()})
            self._forget(kind, namespace)

    def _forget(self, kind: str, namespace: str) -> None:
        """Forget deletions from before the list began: it shows none of what they left."""
        for uid, key in list(self._deleted.items()):
            if (key.kind, key.namespace) == (kind, namespace) and key not in self._lately:
                del self._deleted[uid]

    def all(self) -> dict[ResourceKey, Held]:
        """Return every object."""
        with self._lock:
            return {key: record.held for key, record in self._records.items()}

    def get(self, key: ResourceKey) -> Record | None:
        """Return one object."""
        with self._lock:
            return self._records.get(key)

    @contextmanager
    def writing(self, key: ResourceKey) -> Iterator[None]:
        """Let events of an object wait while it is written."""
        with self._lock:
            self._writing[key] = self._writing.get(key, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._writing[key] -= 1
                if not self._writing[key]:
                    del self._writing[key]
                    news = [self._take(sighting) for sighting in self._waiting.pop(key, ())]
                    if any(news) and self._inbox is not None:
                        self._inbox.put(Overdue(key))

    def wrote(self, record: Record) -> Held:
        """Take over what a write, or a look, has answered, unless something later is known; return what it shows."""
        key = record.held.key
        with self._lock:
            before = self._records.get(key)
            record = _carry(before, record)
            late = before is not None and record.version < before.version
            if not late and record.held.uid not in self._deleted:
                self._records[key] = self._lately[key] = record
            return record.held

    def deleted(self, held: Held) -> None:
        """Take over that an object was deleted."""
        with self._lock:
            before = self._records.get(held.key)
            if before is not None and before.held.uid == held.uid:
                del self._records[held.key]
                self._lately[held.key] = None
            self._deleted[held.uid] = held.key

    def saw(self, sighting: Sighting) -> bool:
        """Take over an event of a watch; tell whether it was news."""
        key = sighting.record.held.key
        with self._lock:
            if key in self._writing:
                self._waiting.setdefault(key, []).append(sighting)
                return False
            return self._take(sighting)

    def _take(self, sighting: Sighting) -> bool:
        held = sighting.record.held
        before = self._records.get(held.key)
        if held.uid in self._deleted:
            if sighting.deleted:
                del self._deleted[held.uid]
            return False
        if before is not None and sighting.record.version <= before.version:
            return False
        if not sighting.deleted:
            self._records[held.key] = _carry(before, sighting.record)
            return True
        return self._records.pop(held.key, None) is not None


def _carry(before: Record | None, record: Record) -> Record:
    """Return a record with what is known from before and not shown again."""
    if before is None or before.held.uid != record.held.uid:
        return record
    held = record.held
    if not held.spec_digest and held.generation == before.held.generation:
        held = replace(held, spec_digest=before.held.spec_digest, endpoint=before.held.endpoint, spec=before.held.spec)
    if not held.own_labels and before.held.own_labels:
        held = replace(held, own_labels=before.held.own_labels)
    return Record(held, record.rest)
