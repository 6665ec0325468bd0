"""A directory as a place for resources: ``DIR/NAMESPACE/HOST.yaml``.

A host's file is named by the host's label: the host itself, cut and with 8 hex
digits where it is longer than 63 characters. It holds the host's ServiceEntry and
WorkloadEntries, and is replaced as a whole, so a reader never sees half of a change:
https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#ConfigSource

A file counts as ours when one of its isthmus objects belongs into a file of that
name; copies under other names are not looked at. A file that cannot be parsed is
never written over: its host's changes fail until somebody mends it.
"""

import logging
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from time import monotonic

from agent.clusters import Outcome
from agent.clusters.documents import Document, DocumentsError, document_of, parse, render, stem_of
from agent.clusters.files import remove_file, replace_file, stamp_of, yaml_files
from agent.clusters.objects import claimed
from agent.clusters.settings import DirectorySettings
from agent.plan import Action, Change
from state.errors import ClusterError, Fault
from state.limits import Limits
from state.model import SERVICE_ENTRY, Held, Resource, ResourceKey

logger = logging.getLogger(__name__)

TURN = 0.2  # seconds until a watch notices that the cluster was closed


@dataclass(frozen=True, slots=True)
class File:
    """One file as it was last read; with a ``problem``, its documents are those from before."""

    stamp: tuple[int, ...]
    documents: tuple[Document, ...] = ()
    problem: str = ""


class DirectoryCluster:
    """One directory; may be called from several threads at once, which take turns."""

    whole_hosts = True

    def __init__(self, settings: DirectorySettings, limits: Limits) -> None:
        self.name = settings.name
        self._root = settings.directory
        self._limits = limits
        self._lock = Lock()
        self._namespaces = {settings.namespace}
        self._files: dict[Path, File] = {}
        self._held: dict[ResourceKey, Held] = {}
        self._places: dict[ResourceKey, Path] = {}
        self._keys: dict[Path, set[ResourceKey]] = {}
        self._news: set[ResourceKey] = set()
        self._closed = Event()

    def read(self, namespaces: frozenset[str]) -> Mapping[ResourceKey, Held]:
        """Return every isthmus object in these namespaces and its own."""
        with self._lock:
            self._namespaces |= namespaces
            for namespace in sorted(self._namespaces):
                self._scan(namespace)
            self._news.clear()
            return dict(self._held)

    def watch(self, stop: Event, deliver: Callable[[ResourceKey, Held | None], None]) -> None:
        """Look at the files every now and then, and deliver what differs since the last read, own writes included."""
        due = monotonic() + self._limits.relist
        following = monotonic() + self._limits.rescan
        while not self._closed.is_set() and monotonic() < due:
            if stop.wait(min(TURN, max(0.0, following - monotonic()))):
                return
            if monotonic() < following:
                continue
            for key, held in self._differences():
                deliver(key, held)
            following = monotonic() + self._limits.rescan

    def _differences(self) -> list[tuple[ResourceKey, Held | None]]:
        with self._lock:
            for namespace in sorted(self._namespaces):
                self._scan(namespace)
            news = [(key, self._held.get(key)) for key in sorted(self._news)]
            self._news.clear()
            return news

    def look(self, key: ResourceKey) -> Held | None:
        """Return one object of a host's file, also one that is not isthmus', or None if there is none."""
        with self._lock:
            self._scan(key.namespace)
            path = self._places.get(key)
            if path is None and key.kind == SERVICE_ENTRY:
                path = self._path(key, stem_of(key, {}))
            if path is None:
                return None
            documents = self._open(path, f"cluster {self.name}: get {key}").documents
            held = next((document.held for document in documents if document.key == key), None)
            return self._held.get(key, held) if held else None

    def create(self, resource: Resource) -> Held:
        """Create an object; Fault.EXISTS when its host's file holds one of that name."""
        return _there(self.write([Change(Action.CREATE, resource.key, resource, None, "")]))

    def update(self, resource: Resource, held: Held) -> Held:
        """Replace our part of an object, if it is still the one that is held."""
        return _there(self.write([Change(Action.UPDATE, resource.key, resource, held, "")]))

    def claim(self, held: Held, owner: str) -> Held:
        """Make an object another owner's, if it is still the one that is held; nothing else of it is changed."""
        call = f"cluster {self.name}: get {held.key}"
        with self._lock:
            path = self._places.get(held.key)
            documents = self._open(path, call).documents if path else ()
            content = next((document.content for document in documents if document.key == held.key), None)
        if content is None:
            raise ClusterError(Fault.MISSING, f"{call}: it is not there")
        try:
            resource = claimed(held, content.get("spec"), owner)
        except TypeError as error:
            raise ClusterError(Fault.OBJECT, f"{call}: {path}: {error}") from None
        return self.update(resource, replace(held, own_labels=()))

    def delete(self, held: Held) -> None:
        """Delete an object, if it is still the one that is held; that it was gone is success."""
        for outcome in self.write([Change(Action.DELETE, held.key, None, held, "")]):
            if isinstance(outcome, ClusterError):
                raise outcome

    def write(self, changes: Sequence[Change]) -> list[Outcome]:
        """Carry out changes, those of one file by one rename, and return what each left or why it failed."""
        with self._lock:
            outcomes: dict[int, Outcome] = {}
            files: dict[Path, list[int]] = {}
            for number, change in enumerate(changes):
                try:
                    files.setdefault(self._place(change), []).append(number)
                except ClusterError as error:
                    outcomes[number] = error
            for path, numbers in files.items():
                results = self._write_file(path, [changes[number] for number in numbers])
                outcomes.update(zip(numbers, results, strict=True))
            return [outcomes[number] for number in range(len(changes))]

    def writers(self, key: ResourceKey) -> tuple[str, ...]:  # noqa: ARG002 - of the protocol
        """Name nobody: a file does not tell who wrote it."""
        return ()

    def close(self) -> None:
        """End a watch."""
        self._closed.set()

    def _write_file(self, path: Path, changes: Sequence[Change]) -> list[Outcome]:
        calls = [f"cluster {self.name}: {change.action.name.lower()} {change.key}" for change in changes]
        try:
            before = self._open(path, calls[0])
        except ClusterError as error:
            return [error for _ in changes]
        after = {document.key or number: document for number, document in enumerate(before.documents)}
        outcomes = [self._apply(path, after, change, call) for change, call in zip(changes, calls, strict=True)]
        documents = tuple(after.values())
        if documents == before.documents:
            return outcomes
        try:
            stamp = replace_file(path, render(documents)) if documents else remove_file(path)
        except OSError as error:
            failure = _failure(calls[0], path, error)
            return [outcome if isinstance(outcome, ClusterError) else failure for outcome in outcomes]
        if documents:
            self._files[path] = File(stamp, documents)
        else:
            self._files.pop(path, None)
        self._take(path, documents)
        return outcomes

    def _apply(self, path: Path, documents: dict[ResourceKey | int, Document], change: Change, call: str) -> Outcome:
        """Change the documents of a file as one change says, or tell why not."""
        there = documents.get(change.key)
        if change.resource is not None and change.held is None:
            if there is not None:
                self._places.setdefault(change.key, path)
                return ClusterError(Fault.EXISTS, f"{call}: it is there already, in {path}")
            documents[change.key] = made = document_of(change.resource)
            return made.held
        if there is None or there.held is None:
            return None if change.resource is None else ClusterError(Fault.MISSING, f"{call}: it is not in {path}")
        if change.held is None or there.held.resource_version != change.held.resource_version:
            return ClusterError(Fault.CONFLICT, f"{call}: it was changed in {path}")
        if change.resource is None:
            del documents[change.key]
            return None
        documents[change.key] = made = document_of(change.resource, replace(there, held=change.held))
        return made.held

    def _place(self, change: Change) -> Path:
        """Return the file that holds an object, or should."""
        if change.key in self._places:
            return self._places[change.key]
        labels = change.resource.labels if change.resource is not None else change.held.labels if change.held else {}
        return self._path(change.key, stem_of(change.key, labels))

    def _path(self, key: ResourceKey, stem: str) -> Path:
        for part in (key.namespace, stem):
            if not part or part.startswith(".") or "/" in part or "\0" in part:
                raise ClusterError(Fault.REJECTED, f"cluster {self.name}: {key}: {part!r} can name no file or folder")
        return self._root / key.namespace / f"{stem}.yaml"

    def _open(self, path: Path, call: str) -> File:
        """Return a file as it is now, without documents when there is none; OBJECT when it cannot be parsed."""
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return File(())
        except OSError as error:
            raise _failure(call, path, error) from error
        file = self._refresh(path, found)
        if file.problem:
            raise ClusterError(Fault.OBJECT, f"{call}: {path}: {file.problem}; it is left as it is until it is mended")
        return file

    def _refresh(self, path: Path, found: os.stat_result) -> File:
        """Return a file, read again only when it is another one than the one last read."""
        stamp = stamp_of(found)
        known = self._files.get(path)
        if known is not None and known.stamp == stamp:
            return known
        documents = known.documents if known else ()
        try:
            if not stat.S_ISREG(found.st_mode):
                raise DocumentsError("not a regular file")
            file = File(stamp, parse(path.read_text("utf-8"), path.parent.name))
        except OSError as error:
            file = File((), documents, f"cannot be read: {error.strerror or type(error).__name__}")
        except (DocumentsError, UnicodeDecodeError) as error:
            file = File(stamp, documents, f"cannot be used: {error}")
        if not file.problem:
            self._take(path, file.documents)
        elif known is None or known.problem != file.problem:
            logger.warning("cluster %s: %s %s", self.name, path, file.problem)
        self._files[path] = file
        return file

    def _scan(self, namespace: str) -> None:
        """Look at a namespace's files, and take over what differs from what was known."""
        folder = self._root / namespace
        try:
            found = yaml_files(folder)
        except OSError as error:
            raise _failure(f"cluster {self.name}: read", folder, error) from error
        for path in [path for path in self._files if path.parent == folder and path not in found]:
            del self._files[path]
            self._take(path, ())
        for path, entry in sorted(found.items()):
            self._refresh(path, entry)

    def _take(self, path: Path, documents: Iterable[Document]) -> None:
        """Take over what a file holds now; what that changes is news."""
        held = {one.key: one for document in documents if document.is_ours and (one := document.held)}
        if not any(stem_of(key, one.labels) == path.stem for key, one in held.items()):
            held = {}
        for key in self._keys.pop(path, set()) - held.keys():
            if self._places.get(key) == path:
                del self._places[key], self._held[key]
                self._news.add(key)
        for key, one in held.items():
            before = self._held.get(key)
            if before is not None and self._places[key] != path and stem_of(key, one.labels) != path.stem:
                continue
            if before is not None and before.own_labels and not one.own_labels:
                one = replace(one, own_labels=before.own_labels)
            self._places[key], self._held[key] = path, one
            self._keys.setdefault(path, set()).add(key)
            if before != one:
                self._news.add(key)


def _there(outcomes: list[Outcome]) -> Held:
    for outcome in outcomes:
        if isinstance(outcome, ClusterError):
            raise outcome
        if outcome is not None:
            return outcome
    raise AssertionError(outcomes)


def _failure(call: str, path: Path, error: OSError) -> ClusterError:
    fault = Fault.UNAUTHORISED if isinstance(error, PermissionError) else Fault.CLUSTER
    return ClusterError(fault, f"{call}: {path}: {error.strerror or type(error).__name__}")
