"""How calls and watches take what a real API server cannot be made to answer at will.

The server here is a few lines on loopback that say what each test tells them: pages of
a proxy, cut and silent connections, errors inside a stream, an event that overtakes the
answer to the write that caused it. All that a real API server does show is tested on one,
in tests/integration/test_kubernetes_cluster.py.
"""

import gzip
import json
import socket
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest

from agent.clusters.kubernetes import KubernetesCluster
from agent.clusters.settings import KubernetesSettings
from agent.plan import Action, Change
from state.errors import ClusterError, Fault
from state.limits import Limits
from state.model import SERVICE_ENTRY, ResourceKey, digest_of
from tests.unit.loopback import Answer, Request, as_json
from tests.unit.scene import EXPIRED, KEY, LIMITS, OURS, RESOURCE, SECRET, SPEC, error_of, listing, scene, shown


def test_a_call_says_who_it_is(tmp_path: Path) -> None:
    with scene(tmp_path, lambda _: as_json(shown(11, spec=SPEC), 201)) as there:
        held = there.cluster.create(RESOURCE)
        (request,) = there.requests
        assert request.headers["Authorization"] == f"Bearer {SECRET}"
        assert request.headers["User-Agent"].startswith("isthmus/")
        assert request.headers["Content-Type"] == "application/json"
        assert request.query == {"fieldManager": "isthmus", "fieldValidation": "Strict"}
        assert json.loads(request.body) == RESOURCE.manifest()
        assert held.spec_digest == digest_of(SPEC)
        assert held.endpoint == ("10.1.2.3", 8443)


@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_asks_to_wait_is_asked_once(tmp_path: Path, code: int) -> None:
    with scene(tmp_path, lambda _: Answer(code, b"Too many requests", {"Retry-After": "1"})) as there:
        for call in (lambda: there.cluster.create(RESOURCE), lambda: there.cluster.look(KEY)):
            error = error_of(call)
            assert (error.fault, error.retry_after) == (Fault.CLUSTER, 1.0)
        assert len(there.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>Please log in</html>", {"Content-Type": "text/html"}),
        Answer(200, b""),
        Answer(200, b'{"metadata": {"resourceVersion": "7"}, "ite'),
        Answer(200, b'{"metadata": {"resourceVersion": "7"}, "items": []}', length=1000),
        as_json({"metadata": {"resourceVersion": "7"}}),
        as_json({"metadata": {"resourceVersion": "7"}, "items": None}),
        as_json({"metadata": {"resourceVersion": ""}, "items": []}),
        as_json({"metadata": {}, "items": []}),
        as_json({"items": []}),
        as_json([]),
        as_json({"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "x"}}]}),
        as_json({"metadata": {"resourceVersion": "7"}, "items": ["x"]}),
        Answer(302, b"", {"Location": "http://127.0.0.1:1/"}),
        Answer(404, b"404 page not found\n"),
    ],
)
def test_an_answer_that_is_no_list_is_never_an_empty_one(tmp_path: Path, answer: Answer) -> None:
    with scene(tmp_path, lambda _: answer) as there:
        assert error_of(lambda: there.cluster.read(frozenset())).fault is Fault.CLUSTER
        assert len(there.requests) == 1


def test_an_answer_that_is_another_object_is_no_success(tmp_path: Path) -> None:
    with scene(tmp_path, lambda _: as_json({"kind": "Status", "status": "Success"})) as there:
        assert error_of(lambda: there.cluster.create(RESOURCE)).fault is Fault.CLUSTER
        assert error_of(lambda: there.cluster.look(KEY)).fault is Fault.CLUSTER


def test_a_list_starts_anew_when_the_server_forgot_it_between_two_pages(tmp_path: Path) -> None:
    forgotten = iter([True, False])

    def serve(request: Request) -> Answer:
        if "serviceentries" in request.path:
            return listing()
        if "continue" not in request.query:
            return listing(shown(5, spec=SPEC), more="page-2")
        return as_json(EXPIRED, 410) if next(forgotten) else listing()

    with scene(tmp_path, serve) as there:
        assert list(there.cluster.read(frozenset())) == [KEY]
        assert [request.query.get("continue") for request in there.requests] == [None, "page-2", None, "page-2", None]


def test_a_list_that_is_forgotten_again_and_again_fails(tmp_path: Path) -> None:
    with scene(tmp_path, lambda _: as_json(EXPIRED, 410)) as there:
        assert error_of(lambda: there.cluster.read(frozenset())).fault is Fault.EXPIRED
        assert len(there.requests) == 3


def test_a_server_that_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        token_file = tmp_path / "token"
        token_file.write_text(SECRET)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = KubernetesSettings(name="east", namespace="legacy", server=url, token_file=token_file)
        error = error_of(lambda: KubernetesCluster(settings, LIMITS).create(RESOURCE))
        assert error.fault is Fault.CLUSTER
        assert str(error) == "cluster east: create WorkloadEntry legacy/orders-1: no answer in time"


def test_a_connection_that_is_cut_is_the_clusters_fault(tmp_path: Path) -> None:
    def serve(request: Request) -> Answer:
        raise ConnectionResetError(request.path)

    with scene(tmp_path, serve) as there:
        error = error_of(lambda: there.cluster.create(RESOURCE))
        assert error.fault is Fault.CLUSTER
        assert "the connection was cut" in str(error)


def test_close_ends_a_call_that_waits_for_its_answer(tmp_path: Path) -> None:
    asked, go_on = Event(), Event()

    def serve(_: Request) -> Answer:
        asked.set()
        go_on.wait(20)
        return Answer(503)

    with scene(tmp_path, serve, Limits(write_timeout=20.0)) as there:
        thread = Thread(target=lambda: error_of(lambda: there.cluster.create(RESOURCE)))
        thread.start()
        asked.wait(10)
        there.cluster.close()
        thread.join(2)
        assert not thread.is_alive()
        assert "closed" in str(error_of(lambda: there.cluster.look(KEY)))
        go_on.set()


def test_what_a_write_did_while_a_list_was_made_is_not_lost(tmp_path: Path) -> None:
    def serve(request: Request) -> Answer:
        if request.method == "POST":
            return as_json(shown(12, spec=SPEC), 201)
        if "workloadentries" in request.path:
            answer = listing(version=10)
            there.cluster.create(RESOURCE)
            return answer
        return listing(version=13)

    with scene(tmp_path, serve) as there:
        assert there.cluster.read(frozenset())[KEY].resource_version == "12"


def test_a_service_entry_is_asked_for_by_its_own_plural(tmp_path: Path) -> None:
    key = ResourceKey(SERVICE_ENTRY, "legacy", "a b")
    with scene(tmp_path, lambda _: Answer(503)) as there:
        error_of(lambda: there.cluster.look(key))
        (request,) = there.requests
        assert request.path == "/apis/networking.istio.io/v1/namespaces/legacy/serviceentries/a%20b"


def test_a_compressed_list_is_understood(tmp_path: Path) -> None:
    plain = listing(shown(5, spec=SPEC))

    def serve(request: Request) -> Answer:
        assert request.headers["Accept-Encoding"] == "gzip"
        if "serviceentries" in request.path:
            return listing()
        return Answer(200, gzip.compress(plain.body), {"Content-Encoding": "gzip"})

    with scene(tmp_path, serve) as there:
        assert list(there.cluster.read(frozenset())) == [KEY]


def test_changes_that_are_handed_over_together_fail_alone(tmp_path: Path) -> None:
    def serve(request: Request) -> Answer:
        return Answer(503) if request.method == "PUT" else as_json(shown(5, spec=SPEC))

    with scene(tmp_path, serve) as there:
        held = there.cluster.look(KEY)
        changes = [
            Change(Action.UPDATE, KEY, RESOURCE, held, ""),
            Change(Action.CREATE, KEY, RESOURCE, None, ""),
            Change(Action.DELETE, KEY, None, held, ""),
        ]
        failed, created, deleted = there.cluster.write(changes)
        assert isinstance(failed, ClusterError)
        assert failed.fault is Fault.CLUSTER
        assert created == replace(held, own_labels=tuple(OURS)) if held else False
        assert deleted is None
        body = json.loads(there.requests[-1].body)
        assert body["preconditions"] == {"uid": "u1", "resourceVersion": "5"}
