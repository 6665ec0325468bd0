"""How a watch takes what a real API server cannot be made to show at will.

Cut and silent streams, errors inside one, an event that overtakes the answer to the
write that caused it: the server is a few lines on loopback that say what each test
tells them. The watch on a real API server is in tests/integration/test_kubernetes_cluster.py.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from agent.clusters.kubernetes import KubernetesCluster
from state.errors import ClusterError, Fault
from state.limits import Limits
from state.model import Held, Resource, ResourceKey, digest_of
from tests.unit.loopback import Answer, Request, Serve, Stream, as_json
from tests.unit.scene import (
    EXPIRED,
    KEY,
    LIMITS,
    OURS,
    RESOURCE,
    SECRET,
    SPEC,
    Scene,
    event,
    listing,
    scene,
    shown,
    stay_open,
)


class Mirror:
    """What a watch delivered, and the thread that it runs in."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self.delivered: list[tuple[ResourceKey, Held | None]] = []
        self.error: ClusterError | None = None
        self.stop = Event()
        self._changed = threading.Condition()
        self._cluster = cluster
        self.thread = Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._cluster.watch(self.stop, self._take)
        except ClusterError as error:
            self.error = error

    def _take(self, key: ResourceKey, held: Held | None) -> None:
        with self._changed:
            self.delivered.append((key, held))
            self._changed.notify_all()

    def wait(self, number: int) -> list[Held | None]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.delivered) >= number, 10), self.delivered
            return [held for _, held in self.delivered]

    def ended(self, timeout: float = 10.0) -> ClusterError | None:
        self.thread.join(timeout)
        assert not self.thread.is_alive()
        return self.error


@contextmanager
def watching(folder: Path, serve: Serve, watch: Serve, limits: Limits = LIMITS) -> Iterator[tuple[Scene, Mirror]]:
    """Watch the WorkloadEntries of a server that has listed them at version 10; its ServiceEntries stay silent."""
    over = Event()

    def silent(_: Stream) -> None:
        over.wait(20)

    def either(request: Request) -> Answer | Callable[[Stream], None]:
        if "watch" not in request.query:
            return serve(request)
        if "serviceentries" in request.path:
            return silent
        return watch(request)

    with scene(folder, either, limits) as there:
        there.cluster.read(frozenset())
        mirror = Mirror(there.cluster)
        mirror.thread.start()
        try:
            yield there, mirror
        finally:
            mirror.stop.set()
            mirror.ended(2.0)
            over.set()


def nothing(request: Request) -> Answer:
    return listing() if request.method == "GET" else Answer(500)


def one(request: Request) -> Answer:
    if request.path.endswith(KEY.name):
        return as_json(shown(5, spec=SPEC))
    return listing(shown(5, spec=SPEC)) if "workloadentries" in request.path else listing()


def watches(there: Scene) -> list[str]:
    return [r.query["resourceVersion"] for r in there.requests if "watch" in r.query and "workload" in r.path]


LONG = Limits(connect_timeout=1.0, read_timeout=20.0, write_timeout=5.0, watch=20.0, retry=(0.01, 0.01))


def test_a_watch_asks_for_metadata_with_bookmarks_from_where_the_list_ended(tmp_path: Path) -> None:
    asked = Event()

    def watch(_: Request) -> Callable[[Stream], None]:
        asked.set()
        return stay_open

    with watching(tmp_path, nothing, watch, LONG) as (there, _):
        assert asked.wait(10)
        (request,) = [r for r in there.requests if "watch" in r.query and "workload" in r.path]
        assert request.headers["Accept"] == "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        assert request.headers["Authorization"] == f"Bearer {SECRET}"
        assert request.query == {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": "app.kubernetes.io/managed-by=isthmus",
            "resourceVersion": "10",
            "timeoutSeconds": "20",
        }


def test_a_specs_digest_is_carried_over_while_its_generation_stays(tmp_path: Path) -> None:
    def watch(_: Request) -> Callable[[Stream], None]:
        def play(stream: Stream) -> None:
            stream.send(event("MODIFIED", shown(11)), event("MODIFIED", shown(12, generation=2)))
            stream.send(event("DELETED", shown(13, generation=2)), event("ADDED", shown(14, uid="u2")))
            stay_open(stream)

        return play

    with watching(tmp_path, one, watch, LONG) as (_, mirror):
        same, changed, gone, another = mirror.wait(4)
        assert same is not None
        assert (same.spec_digest, same.endpoint) == (digest_of(SPEC), ("10.1.2.3", 8443))
        assert changed is not None
        assert (changed.spec_digest, changed.endpoint) == ("", None)
        assert gone is None
        assert another is not None
        assert another.spec_digest == ""


def test_a_cut_watch_goes_on_after_the_last_event_or_bookmark(tmp_path: Path) -> None:
    parts: Iterator[list[object]] = iter(
        [
            [event("ADDED", shown(11)), b'{"type": "MODIFIED", "object": {"meta'],
            [event("BOOKMARK", {"metadata": {"resourceVersion": "17"}})],
            [event("MODIFIED", shown(18))],
        ]
    )

    def play(part: list[object], stream: Stream) -> None:
        stream.send(*part)

    def watch(_: Request) -> Callable[[Stream], None]:
        part = next(parts, None)
        return stay_open if part is None else partial(play, part)

    with watching(tmp_path, nothing, watch, LONG) as (there, mirror):
        mirror.wait(2)
        assert watches(there)[:3] == ["10", "11", "17"]


def test_a_silent_watch_is_opened_again(tmp_path: Path) -> None:
    opened = threading.Semaphore(0)

    def watch(_: Request) -> Callable[[Stream], None]:
        def play(stream: Stream) -> None:
            stream.send(event("BOOKMARK", {"metadata": {"resourceVersion": "12"}}))
            opened.release()
            Event().wait(3)

        return play

    with watching(tmp_path, nothing, watch) as (there, mirror):
        assert opened.acquire(timeout=10)
        assert opened.acquire(timeout=10)
        assert watches(there)[:2] == ["10", "12"]
        assert mirror.error is None


@pytest.mark.parametrize("inside", [True, False])
def test_an_expired_watch_asks_for_a_new_read(tmp_path: Path, inside: bool) -> None:
    def watch(_: Request) -> Answer | Callable[[Stream], None]:
        if inside:
            return lambda stream: stream.send(event("ERROR", EXPIRED))
        return as_json(EXPIRED, 410)

    with watching(tmp_path, one, watch) as (there, mirror):
        assert mirror.ended() is None
        assert mirror.delivered == []
        there.cluster.watch(Event(), mirror._take)  # returns at once: nothing was read since


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (event("ERROR", {"kind": "Status", "code": 500, "message": "storage is broken"}), "storage is broken"),
        (b"<html>Please log in</html>\n", "no watch of Kubernetes"),
        (event("ADDED", {"metadata": {"resourceVersion": "11"}}), "no watch of Kubernetes"),
        (event("ADDED", "text"), "no watch of Kubernetes"),
        ([], "no watch of Kubernetes"),
    ],
)
def test_what_is_no_event_ends_the_watch_with_an_error(tmp_path: Path, answer: object, told: str) -> None:
    with watching(tmp_path, one, lambda _: lambda stream: stream.send(answer)) as (_, mirror):
        error = mirror.ended()
        assert error is not None
        assert error.fault is Fault.CLUSTER
        assert told in str(error)
        assert mirror.delivered == []


def test_a_watch_that_ends_at_once_again_and_again_is_an_error(tmp_path: Path) -> None:
    with watching(tmp_path, nothing, lambda _: Stream.end) as (there, mirror):
        error = mirror.ended()
        assert error is not None
        assert "it ends at once, 3 times in a row" in str(error)
        assert len(watches(there)) == 3


def test_a_watch_that_is_refused_is_an_error(tmp_path: Path) -> None:
    with watching(tmp_path, nothing, lambda _: Answer(404, b"404 page not found\n")) as (_, mirror):
        error = mirror.ended()
        assert error is not None
        assert "watch workloadentries in legacy: 404: 404 page not found" in str(error)


def test_a_watch_returns_when_a_new_read_is_due(tmp_path: Path) -> None:
    limits = Limits(relist=0.1, watch=20.0)
    with watching(tmp_path, nothing, lambda _: stay_open, limits) as (_, mirror):
        assert mirror.ended() is None


@pytest.mark.parametrize("closes", [True, False])
def test_a_watch_ends_within_a_second_of_being_told(tmp_path: Path, closes: bool) -> None:
    opened = Event()

    def watch(_: Request) -> Callable[[Stream], None]:
        opened.set()
        return stay_open

    with watching(tmp_path, nothing, watch, LONG) as (there, mirror):
        assert opened.wait(10)
        if closes:
            there.cluster.close()
        else:
            mirror.stop.set()
        assert mirror.ended(1.0) is None


def test_the_event_of_a_write_that_overtakes_its_answer_tells_nothing_new(tmp_path: Path) -> None:
    written, told, answered = Event(), Event(), Event()
    changed: dict[str, object] = {"address": "10.1.2.3", "ports": {"main": 9000}}

    def serve(request: Request) -> Answer:
        if request.method != "PUT":
            return one(request)
        written.set()
        told.wait(10)
        time.sleep(0.2)  # the event has come by now, and waits
        return as_json(shown(11, generation=2, spec=changed))

    def watch(_: Request) -> Callable[[Stream], None]:
        def play(stream: Stream) -> None:
            written.wait(10)
            stream.send(event("MODIFIED", shown(11, generation=2)))
            told.set()
            answered.wait(10)
            stream.send(event("MODIFIED", shown(12, generation=2)))
            stay_open(stream)

        return play

    with watching(tmp_path, serve, watch, LONG) as (there, mirror):
        held = there.cluster.look(KEY)
        assert held is not None
        answer = there.cluster.update(Resource(key=KEY, labels=OURS, annotations={}, spec=changed), held)
        assert answer.spec_digest == digest_of(changed)
        answered.set()
        (delivered,) = mirror.wait(1)
        assert delivered is not None
        assert (delivered.resource_version, delivered.spec_digest) == ("12", answer.spec_digest)


def test_a_later_event_than_a_writes_answer_is_delivered_after_it(tmp_path: Path) -> None:
    written, told = Event(), Event()

    def serve(request: Request) -> Answer:
        if request.method != "PUT":
            return one(request)
        written.set()
        told.wait(10)
        time.sleep(0.2)
        return as_json(shown(11, generation=2, spec=SPEC))

    def watch(_: Request) -> Callable[[Stream], None]:
        def play(stream: Stream) -> None:
            written.wait(10)
            stream.send(event("MODIFIED", shown(11, generation=2)), event("MODIFIED", shown(12, generation=3)))
            told.set()
            stay_open(stream)

        return play

    with watching(tmp_path, serve, watch, LONG) as (there, mirror):
        held = there.cluster.look(KEY)
        assert held is not None
        there.cluster.update(RESOURCE, held)
        (delivered,) = mirror.wait(1)
        assert delivered is not None
        assert (delivered.resource_version, delivered.spec_digest) == ("12", "")


def test_late_events_of_what_was_deleted_are_no_news(tmp_path: Path) -> None:
    deleted = Event()

    def serve(request: Request) -> Answer:
        if request.method != "DELETE":
            return one(request)
        return as_json({"kind": "Status", "status": "Success"})

    def watch(_: Request) -> Callable[[Stream], None]:
        def play(stream: Stream) -> None:
            deleted.wait(10)
            stream.send(event("MODIFIED", shown(11)), event("DELETED", shown(12)), event("ADDED", shown(13, uid="u2")))
            stay_open(stream)

        return play

    with watching(tmp_path, serve, watch, LONG) as (there, mirror):
        held = there.cluster.look(KEY)
        assert held is not None
        there.cluster.delete(held)
        deleted.set()
        (another,) = mirror.wait(1)
        assert another is not None
        assert another.uid == "u2"
