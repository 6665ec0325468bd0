import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest

from agent.demo.catalogue import Aborted, Catalogue
from agent.demo.registry import EmbeddedRegistry, Trouble
from tests.testbed.processes import wait_until

NAMES, NODES = "/v1/catalog/services", "/v1/catalog/nodes"
ANY, CRITICAL, WARNING = (f"/v1/health/state/{state}" for state in ("any", "critical", "warning"))
A, B = "/v1/health/service/a", "/v1/health/service/b"
PATHS = (NAMES, NODES, ANY, CRITICAL, WARNING, A, B)

# What Consul 1.19 was seen to do: which indexes a write moves, and which waiting queries it wakes.
WRITES: list[tuple[str, Callable[[Catalogue], object], set[str], set[str]]] = [
    ("a node", lambda r: r.set_node("n3", "10.0.0.3"), {NODES, ANY, CRITICAL, WARNING}, {NODES, ANY, WARNING}),
    ("a node's address", lambda r: r.set_node("n1", "10.0.0.9"), {NODES, A}, {NODES, A}),
    ("a node's metadata", lambda r: r.set_node("n1", "10.0.0.1", meta={"x": "y"}), {NODES, A}, {NODES, A}),
    (
        "an instance with a check",
        lambda r: r.register("a", "a3", "n2", 80),
        {NAMES, NODES, ANY, CRITICAL, WARNING, A},
        {NAMES, ANY, WARNING, A},
    ),
    ("an instance without", lambda r: r.register("b", "b2", "n1", 80, status=None), {NAMES, NODES, B}, {NAMES, B}),
    ("a port", lambda r: r.register("b", "b1", "n2", 81, status=None), {NAMES, NODES, B}, {NAMES, B}),
    ("nothing", lambda r: r.register("a", "a1", "n1", 80), set(), set()),
    ("an equal status", lambda r: r.set_status("n1", "a1", "passing"), set(), set()),
    (
        "an output while none is critical but one",
        lambda r: r.set_status("n1", "a1", "passing", "fine"),
        {ANY, CRITICAL, WARNING, A},
        {ANY, WARNING, A},
    ),
    (
        "a status",
        lambda r: r.set_status("n1", "a1", "critical"),
        {ANY, CRITICAL, WARNING, A},
        {ANY, CRITICAL, WARNING, A},
    ),
    (
        "a node's status",
        lambda r: r.node_status("n2", "critical"),
        {ANY, CRITICAL, WARNING, A, B},
        {ANY, CRITICAL, WARNING, A, B},
    ),
    (
        "maintenance of an instance",
        lambda r: r.maintenance("n1", "a1"),
        {ANY, CRITICAL, WARNING, A},
        {ANY, CRITICAL, WARNING, A},
    ),
    (
        "maintenance of a node",
        lambda r: r.maintenance("n2"),
        {ANY, CRITICAL, WARNING, A, B},
        {ANY, CRITICAL, WARNING, A, B},
    ),
    (
        "an instance that goes",
        lambda r: r.deregister("n1", "a1"),
        {NAMES, NODES, ANY, CRITICAL, WARNING, A},
        {NAMES, ANY, WARNING, A},
    ),
    (
        "a node that goes",
        lambda r: r.deregister("n2"),
        {NAMES, NODES, ANY, CRITICAL, WARNING, A, B},
        {NAMES, NODES, ANY, CRITICAL, WARNING, A, B},
    ),
]


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    with EmbeddedRegistry() as registry:
        yield registry


def filled(catalogue: Catalogue) -> None:
    catalogue.set_node("n1", "10.0.0.1")
    catalogue.set_node("n2", "10.0.0.2")
    catalogue.register("a", "a1", "n1", 80)
    catalogue.register("a", "a2", "n2", 80, status="critical")
    catalogue.register("b", "b1", "n2", 80, status=None)


class Waiting:
    """A blocking query in a thread of its own, which waits already; ``answered`` once it is over."""

    def __init__(self, catalogue: Catalogue, path: str) -> None:
        self.answered = threading.Event()
        self.answer: tuple[int, object] | None = None
        self._waits = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(catalogue, path, catalogue.read(path)[0]))
        self._thread.start()
        assert self._waits.wait(10)

    def _is_interrupted(self) -> bool:
        # Asked under the catalogue's lock, right before the wait gives it away.
        self._waits.set()
        return False

    def _ask(self, catalogue: Catalogue, path: str, index: int) -> None:
        try:
            self.answer = catalogue.read(path, index, 30, self._is_interrupted)
        except Aborted:
            self.answer = None
        self.answered.set()

    def join(self) -> None:
        self._thread.join()


def get(registry: EmbeddedRegistry, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection(registry.url.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("write", "moved", "woken"), [row[1:] for row in WRITES], ids=[row[0] for row in WRITES])
def test_a_write_moves_and_wakes_what_it_does_in_consul(
    write: Callable[[Catalogue], object], moved: set[str], woken: set[str]
) -> None:
    catalogue = Catalogue()
    filled(catalogue)
    before = {path: catalogue.read(path)[0] for path in PATHS}
    waiting = {path: Waiting(catalogue, path) for path in PATHS}
    write(catalogue)
    assert {path for path in PATHS if catalogue.read(path)[0] > before[path]} == moved
    for path in woken:
        assert waiting[path].answered.wait(10), f"{path} was not woken"
    still = set(PATHS) - woken
    assert [path for path in still if waiting[path].answered.is_set()] == []
    catalogue.wipe()
    for one in waiting.values():
        one.join()


def test_a_flip_and_back_is_seen_in_the_set(registry: EmbeddedRegistry) -> None:
    filled(registry)
    registry.set_status("n1", "a1", "critical", "it is down")
    registry.set_status("n1", "a1", "passing")
    (check,) = json.loads(get(registry, CRITICAL)[2])
    assert (check["Node"], check["CheckID"], check["ServiceID"], check["ServiceName"]) == (
        "n2",
        "service:a2",
        "a2",
        "a",
    )


def test_maintenance_begins_and_ends(registry: EmbeddedRegistry) -> None:
    filled(registry)
    registry.maintenance("n1", "a1")
    registry.maintenance("n1")
    critical = {check["CheckID"] for check in json.loads(get(registry, CRITICAL)[2])}
    assert critical == {"service:a2", "_service_maintenance:a1", "_node_maintenance"}
    registry.maintenance("n1", "a1", on=False)
    registry.maintenance("n1", on=False)
    assert len(json.loads(get(registry, CRITICAL)[2])) == 1


def test_registering_again_keeps_the_status_and_the_first_index(registry: EmbeddedRegistry) -> None:
    filled(registry)
    (before,) = (entry for entry in json.loads(get(registry, A)[2]) if entry["Service"]["ID"] == "a2")
    registry.register("a", "a2", "n2", 81)
    (after,) = (entry for entry in json.loads(get(registry, A)[2]) if entry["Service"]["ID"] == "a2")
    assert [check["Status"] for check in after["Checks"]] == ["passing", "critical"]
    assert after["Service"]["CreateIndex"] == before["Service"]["CreateIndex"]
    assert after["Service"]["ModifyIndex"] > before["Service"]["ModifyIndex"]


def test_an_id_that_is_registered_for_another_service_moves(registry: EmbeddedRegistry) -> None:
    filled(registry)
    registry.register("c", "b1", "n2", 80)
    assert set(json.loads(get(registry, NAMES)[2])) == {"a", "c", "consul"}


def test_each_write_returns_when_it_could_be_read(registry: EmbeddedRegistry) -> None:
    before = time.monotonic()
    filled(registry)
    assert before <= registry.set_status("n1", "a1", "warning") <= time.monotonic()


def test_what_is_not_there_cannot_be_changed(registry: EmbeddedRegistry) -> None:
    writes: list[Callable[[], object]] = [
        lambda: registry.register("a", "a1", "nowhere", 80),
        lambda: registry.set_status("n1", "a1", "passing"),
        lambda: registry.node_status("n1", "passing"),
        lambda: registry.maintenance("n1"),
        lambda: registry.deregister("n1"),
        lambda: registry.deregister("n1", "a1"),
    ]
    for write in writes:
        with pytest.raises(KeyError):
            write()


def test_a_wiped_registry_starts_low_with_consul_alone(registry: EmbeddedRegistry) -> None:
    filled(registry)
    high = registry.read(NAMES)[0]
    waiting = Waiting(registry, NODES)
    registry.wipe()
    assert waiting.answered.wait(10)
    assert waiting.answer is None
    index, names = registry.read(NAMES)
    assert (names, index < high) == ({"consul": []}, True)
    assert json.loads(get(registry, "/v1/health/service/consul")[2])


def test_an_index_that_is_too_high_waits_and_is_answered_with_the_lower_one(registry: EmbeddedRegistry) -> None:
    begun = time.monotonic()
    _, headers, _ = get(registry, f"{NAMES}?index=999&wait=200ms")
    assert time.monotonic() - begun >= 0.2
    assert int(headers["X-Consul-Index"]) < 999


def test_answers_carry_consuls_headers(registry: EmbeddedRegistry) -> None:
    status, headers, body = get(registry, f"{NODES}?dc=dc1")
    assert status == 200
    assert headers["X-Consul-Index"] == str(registry.read(NODES)[0])
    assert headers["X-Consul-Knownleader"] == "true"
    assert headers["Content-Type"] == "application/json"
    assert [node["Node"] for node in json.loads(body)] == ["consul-server"]
    assert registry.asked == {NODES: 1}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{NODES}?dc=dc2", 500),
        (f"{NODES}?index=x", 400),
        (f"{NODES}?index=1&wait=soon", 400),
        ("/v1/kv/x", 404),
    ],
)
def test_what_it_does_not_speak_it_refuses(registry: EmbeddedRegistry, path: str, status: int) -> None:
    assert get(registry, path)[0] == status


def test_a_token_is_asked_for() -> None:
    with EmbeddedRegistry(token="secret") as registry:
        assert get(registry, NODES)[0] == 403
        assert get(registry, NODES, **{"X-Consul-Token": "secret"})[0] == 200


@pytest.mark.parametrize("trouble", Trouble)
def test_trouble_reaches_a_query_that_waits_and_other_paths_are_spared(
    registry: EmbeddedRegistry, trouble: Trouble
) -> None:
    result: list[Any] = []

    def ask() -> None:
        try:
            result.append(get(registry, f"{NODES}?index={registry.read(NODES)[0]}&wait=20s"))
        except (OSError, HTTPException) as error:
            result.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: registry.asked[NODES] == 1, "the query was asked")
    begun = time.monotonic()
    registry.trouble("/v1/catalog/n*", trouble)
    assert get(registry, NAMES)[0] == 200
    if trouble is Trouble.SILENT:
        asking.join(0.2)
        assert asking.is_alive()
        registry.mend()
    asking.join()
    assert time.monotonic() - begun < 5
    (answer,) = result
    broken = trouble in (Trouble.CUT, Trouble.DROPPED, Trouble.SILENT)
    assert isinstance(answer, Exception) == broken


def test_it_ends_without_a_thread_or_an_open_query() -> None:
    before = set(threading.enumerate())
    registry = EmbeddedRegistry()
    registry.start()
    idle = HTTPConnection(registry.url.removeprefix("http://"))
    idle.request("GET", NODES)
    idle.getresponse().read()

    def ask() -> None:
        with suppress(OSError, HTTPException):
            get(registry, f"{NODES}?index=99&wait=60s")

    waiting = threading.Thread(target=ask)
    waiting.start()
    wait_until(lambda: registry.asked[NODES] == 2, "both queries were asked")
    begun = time.monotonic()
    registry.stop()
    assert time.monotonic() - begun < 2
    waiting.join()
    idle.close()
    assert set(threading.enumerate()) == before


def test_one_that_was_never_started_can_be_stopped() -> None:
    EmbeddedRegistry().stop()
