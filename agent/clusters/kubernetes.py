"""A Kubernetes API server with Istio's definitions, as a place for resources."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Event
from time import monotonic
from typing import Any
from urllib.parse import quote

from agent.clusters import Outcome
from agent.clusters.api import Api
from agent.clusters.faults import Call, unexpected
from agent.clusters.known import Known, Overdue, Record, Sighting
from agent.clusters.listing import read_list
from agent.clusters.objects import annotations_after, claimed, is_managed, labels_after
from agent.clusters.settings import KubernetesSettings
from agent.clusters.watch import Watch, record_of
from agent.plan import Change
from state.errors import ClusterError, Fault
from state.limits import Limits
from state.model import API_VERSION, PRODUCT, SERVICE_ENTRY, WORKLOAD_ENTRY, Held, Resource, ResourceKey

PLURALS = {WORKLOAD_ENTRY: "workloadentries", SERVICE_ENTRY: "serviceentries"}
TURN = 0.2  # seconds until a watch notices that it should stop
REST = 0.02  # seconds that a watch rests after an event that tells nothing new, as those of many own writes do
WRITE = {"fieldManager": PRODUCT, "fieldValidation": "Strict"}


class KubernetesCluster:
    """One API server.

    One object is written by one thread at a time; different objects by several at once.
    """

    whole_hosts = False

    def __init__(self, settings: KubernetesSettings, limits: Limits) -> None:
        self.name = settings.name
        self._own = settings.namespace
        self._limits = limits
        self._api = Api(settings, limits)
        self._known = Known()
        self._versions: dict[tuple[str, str], str] = {}  # of the last read: where a watch begins
        self._closed = Event()

    def read(self, namespaces: frozenset[str]) -> Mapping[ResourceKey, Held]:
        """Return every isthmus object in these namespaces and its own, spec digests included."""
        self._known.begin_read()
        self._versions = {}
        versions: dict[tuple[str, str], str] = {}
        for namespace in sorted(namespaces | {self._own}):
            for kind in PLURALS:
                version, records = self._list(kind, namespace)
                self._known.listed(kind, namespace, int(version), records)
                versions[kind, namespace] = version
        self._versions = versions
        return self._known.all()

    def watch(self, stop: Event, deliver: Callable[[ResourceKey, Held | None], None]) -> None:
        """Deliver every change since the last read that is not the work of our own writes.

        Returns at once when nothing was read since the last watch.
        """
        versions, self._versions = self._versions, {}
        inbox: SimpleQueue[object] = SimpleQueue()
        watches = [
            Watch(
                self._api,
                Call(self.name, "watch", f"{PLURALS[kind]} in {namespace}"),
                _path(kind, namespace),
                kind,
                version=version,
                inbox=inbox,
                limits=self._limits,
            )
            for (kind, namespace), version in versions.items()
        ]
        self._known.tell(inbox)
        try:
            for watch in watches:
                watch.start()
            if watches:
                self._pass_on(inbox, stop, deliver)
        finally:
            self._known.tell(None)
            for watch in watches:
                watch.end()
            for watch in watches:
                watch.join(TURN)

    def _pass_on(
        self, inbox: SimpleQueue[object], stop: Event, deliver: Callable[[ResourceKey, Held | None], None]
    ) -> None:
        due = monotonic() + self._limits.relist
        while not (stop.is_set() or self._closed.is_set()) and monotonic() < due:
            try:
                word = inbox.get(timeout=TURN)
            except Empty:
                continue
            if self._closed.is_set() or (isinstance(word, ClusterError) and word.fault is Fault.EXPIRED):
                return
            if isinstance(word, Exception):
                raise word
            if isinstance(word, Overdue):
                self._deliver(word.key, deliver)
            elif isinstance(word, Sighting) and self._known.saw(word):
                self._deliver(word.record.held.key, deliver)
            elif inbox.empty():
                stop.wait(REST)

    def _deliver(self, key: ResourceKey, deliver: Callable[[ResourceKey, Held | None], None]) -> None:
        record = self._known.get(key)
        deliver(key, record.held if record else None)

    def look(self, key: ResourceKey) -> Held | None:
        """Return one object, also one that is not isthmus', or None if there is none."""
        record = self._get(key)
        if record is None:
            return None
        return self._known.wrote(record) if is_managed(record.held.labels) else record.held

    def create(self, resource: Resource) -> Held:
        """Create an object; Fault.EXISTS when the name is taken."""
        key = resource.key
        call = self._call("create", key)
        with self._known.writing(key):
            answer = self._api.request(
                call, "POST", _path(key.kind, key.namespace), query=WRITE, body=resource.manifest()
            )
            return self._wrote(call, key, answer, resource)

    def update(self, resource: Resource, held: Held) -> Held:
        """Replace our part of an object, if it is still the one that is held."""
        key = resource.key
        call = self._call("update", key)
        with self._known.writing(key):
            metadata: dict[str, object] = {
                **self._rest(call, held),
                "name": key.name,
                "namespace": key.namespace,
                "uid": held.uid,
                "resourceVersion": held.resource_version,
                "labels": labels_after(resource, held),
                "annotations": annotations_after(resource, held),
            }
            body = {**resource.manifest(), "metadata": metadata}
            answer = self._api.request(call, "PUT", _path(*key), query=WRITE, body=body)
            return self._wrote(call, key, answer, resource)

    def claim(self, held: Held, owner: str) -> Held:
        """Make an object another owner's, if it is still the one that is held; nothing else of it is changed."""
        call = self._call("get", held.key)
        answer = self._api.request(call, "GET", _path(*held.key))
        try:
            resource = claimed(held, answer.get("spec"), owner)
        except TypeError as error:
            raise unexpected(call, f"no object of Kubernetes ({error})") from None
        return self.update(resource, replace(held, own_labels=()))

    def delete(self, held: Held) -> None:
        """Delete an object, if it is still the one that is held; that it was gone is success."""
        call = self._call("delete", held.key)
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": held.uid, "resourceVersion": held.resource_version},
        }
        with self._known.writing(held.key):
            _require_version(call, held)
            try:
                answer = self._api.request(call, "DELETE", _path(*held.key), body=body)
            except ClusterError as error:
                if error.fault is not Fault.MISSING:
                    raise
                answer = {}
            # With a finalizer it stays until somebody else is done with it: the watch tells when it goes.
            if not (answer.get("metadata") or {}).get("finalizers"):
                self._known.deleted(held)

    def write(self, changes: Sequence[Change]) -> list[Outcome]:
        """Carry out changes one after the other, and return what each left or why it failed."""
        return [self._carry_out(change) for change in changes]

    def writers(self, key: ResourceKey) -> tuple[str, ...]:
        """Name who else wrote fields of an object, as ``kubectl-edit (Update, 2025-01-31T12:00:00Z)``.

        Kubernetes keeps the list in managedFields:
        https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
        """
        call = self._call("get", key)
        answer = self._api.request(call, "GET", _path(*key))
        fields = (answer.get("metadata") or {}).get("managedFields") or []
        return tuple(
            f"{entry.get('manager')} ({entry.get('operation')}, {entry.get('time')})"
            for entry in fields
            if entry.get("manager") != PRODUCT
        )

    def close(self) -> None:
        """End every connection; calls in flight fail soon."""
        self._closed.set()
        self._api.close()

    def _carry_out(self, change: Change) -> Outcome:
        try:
            if change.resource is not None and change.held is not None:
                return self.update(change.resource, change.held)
            if change.resource is not None:
                return self.create(change.resource)
            if change.held is not None:
                self.delete(change.held)
        except ClusterError as error:
            return error
        return None

    def _list(self, kind: str, namespace: str) -> tuple[str, list[Record]]:
        """Return a complete list and its version; from the start again where the server forgot it between two pages."""
        call = Call(self.name, "list", f"{PLURALS[kind]} in {namespace}")
        for last in (False, False, True):
            try:
                return read_list(self._api, call, _path(kind, namespace), kind)
            except ClusterError as error:
                if last or error.fault is not Fault.EXPIRED:
                    raise
        raise AssertionError

    def _get(self, key: ResourceKey) -> Record | None:
        call = self._call("get", key)
        try:
            answer = self._api.request(call, "GET", _path(*key))
        except ClusterError as error:
            if error.fault is Fault.MISSING:
                return None
            raise
        return _record(call, key, answer, ())

    def _wrote(self, call: Call, key: ResourceKey, answer: dict[str, Any], resource: Resource) -> Held:
        return self._known.wrote(_record(call, key, answer, tuple(resource.labels)))

    def _rest(self, call: Call, held: Held) -> Mapping[str, object]:
        """Return the metadata that a PUT must send back: finalizers and ownerReferences, which it would else remove."""
        _require_version(call, held)
        record = self._known.get(held.key)
        if record is None or record.held.resource_version != held.resource_version:
            record = self._get(held.key)
        if record is None:
            raise ClusterError(Fault.MISSING, f"{call}: it is not there")
        if record.held.resource_version != held.resource_version:
            now = record.held.resource_version
            raise ClusterError(Fault.CONFLICT, f"{call}: it is at version {now}, no longer at {held.resource_version}")
        return record.rest

    def _call(self, verb: str, key: ResourceKey) -> Call:
        return Call(self.name, verb, str(key))


def _record(call: Call, key: ResourceKey, answer: dict[str, Any], own_labels: tuple[str, ...]) -> Record:
    try:
        record = record_of(key.kind, answer, own_labels, key)
    except (TypeError, ValueError) as error:
        raise unexpected(call, f"no object of Kubernetes ({error})") from None
    if record.held.key != key:
        raise unexpected(call, f"{record.held.key}")
    return record


def _require_version(call: Call, held: Held) -> None:
    """Refuse to write over, or delete, what nobody has looked at: without a version the server takes any."""
    if not held.uid or not held.resource_version:
        raise ClusterError(Fault.CONFLICT, f"{call}: its version is not known")


def _path(kind: str, namespace: str, name: str = "") -> str:
    base = f"/apis/{API_VERSION}/namespaces/{quote(namespace, safe='')}/{PLURALS[kind]}"
    return f"{base}/{quote(name, safe='')}" if name else base
