"""By what a change of a real Consul is heard: its own parked query, the status sets, lists, hints, indexes, a sweep."""

import itertools
import time
from contextlib import suppress
from pathlib import Path

import pytest

from hooks.found import Source
from tests.hearing import LONG, Hearing
from tests.integration.between import Answer, Proxy
from tests.integration.estate import fill
from tests.testbed.consul import Consul
from tests.testbed.processes import ProcessError, wait_until

SERVICES = 20
RESTING = {"pass_spacing": LONG}  # no pass and no re-read after the first pass


def move(consul: Consul, number: int, port: int) -> None:
    """Give an instance another port: no list shows it."""
    consul.register(
        f"svc-{number}", f"i-{number}", address=f"10.0.0.{number + 1}", port=port, node=f"node-{number % 10}"
    )


def add(consul: Consul, number: int, name: str) -> None:
    """Add an instance that no check and no new name shows."""
    consul.register(f"svc-{number}", name, address="10.9.0.1", port=9000, node="node-0", status=None)


# The sources, one by one.


def test_a_parked_service_tells_of_everything_by_itself(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(SERVICES))
    with Hearing(tmp_path, consul.url, RESTING, parked=5) as hearing:
        wait_until(lambda: hearing.parked() == 5, "the first five are parked")
        move(consul, 0, 9001)
        hearing.wait_for_ports("svc-0", 9001)
        add(consul, 1, "more")
        hearing.wait_for_ports("svc-1", 8080, 9000)
        consul.deregister("more", node="node-0")
        hearing.wait_for_ports("svc-1", 8080)
        assert hearing.changes().keys() == {Source.PARKED}


def test_what_has_changed_becomes_parked(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(SERVICES))
    with Hearing(tmp_path, consul.url, RESTING, parked=2) as hearing:
        wait_until(lambda: hearing.parked() == 2, "the first two are parked")
        consul.set_status("i-9", "critical", node="node-9")
        hearing.wait_for_changes(status=1)
        consul.set_status("i-9", "passing", node="node-9")
        hearing.wait_for_changes(status=2)
        for port in itertools.count(9000):
            move(consul, 9, port)
            with suppress(ProcessError):  # it is heard as soon as it is parked
                wait_until(lambda port=port: hearing.ports("svc-9") == [port], "it is heard", 1.0)  # type: ignore[misc]
                break
        assert hearing.changes().keys() == {Source.STATUS, Source.PARKED}
        assert hearing.parked() <= 2


def test_a_flip_is_shown_by_the_sets_of_checks(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(SERVICES))
    with Hearing(tmp_path, consul.url, RESTING) as hearing:
        for number, status in enumerate(("critical", "warning", "passing", "critical", "passing")):
            consul.set_status("i-3", status, node="node-3")
            hearing.wait_for_changes(status=number + 1)


def test_new_and_gone_services_and_moved_nodes_are_shown_by_the_lists(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(SERVICES))
    with Hearing(tmp_path, consul.url, RESTING) as hearing:
        consul.register("svc-new", address="10.9.0.1", port=9000, node="node-0", status=None)
        hearing.wait_for_ports("svc-new", 9000)
        consul.register("svc-onnode", port=9000, node="node-new", node_address="10.8.0.1", status=None)
        hearing.wait_for_ports("svc-onnode", 9000)
        consul.request("PUT", "/v1/catalog/register", {"Node": "node-new", "Address": "10.8.0.2"})
        wait_until(lambda: hearing.instances("svc-onnode")[0].address == "10.8.0.2", "the node's address is heard")
        assert hearing.changes() == {Source.LIST: 3}
        before = len(hearing.listener.readings)
        consul.deregister_node("node-new")
        wait_until(lambda: len(hearing.listener.readings) > before, "what is gone was read")
        assert [one.service for one in hearing.listener.readings[before].snapshots] == ["svc-onnode"]


def test_a_hint_finds_at_once_what_nothing_else_shows(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(SERVICES))
    with Hearing(tmp_path, consul.url, RESTING, parked=0) as hearing:
        move(consul, 7, 9001)
        hearing.loop.hint("service", "svc-7")
        hearing.wait_for_ports("svc-7", 9001)
        assert hearing.changes() == {Source.HINT: 1}


@pytest.mark.parametrize("kind", ["services", "nodes", "checks"])
def test_a_hint_of_a_list_finds_what_its_watcher_does_not_tell(consul: Consul, tmp_path: Path, kind: str) -> None:
    fill(consul, range(SERVICES))
    consul.register("svc-onnode", port=9000, node="node-x", node_address="10.8.0.1")

    def change() -> None:
        if kind == "services":
            consul.register("svc-new", address="10.9.0.1", port=9000, node="node-0", status=None)
        elif kind == "nodes":
            consul.request("PUT", "/v1/catalog/register", {"Node": "node-x", "Address": "10.8.0.2"})
        else:
            consul.set_status("i-3", "critical", node="node-3")

    # The queries that wait are answered once, and then too late for this test.
    with Deaf(consul.url) as deaf, Hearing(tmp_path, deaf.url, RESTING, parked=0) as hearing:
        wait_until(deaf.hears_nothing, "the watchers wait")
        change()
        assert hearing.changes() == {}
        hearing.loop.hint(kind)
        hearing.wait_for_changes(hint=1)


class Deaf(Proxy):
    """A proxy that does not let blocking queries be answered while it stands."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._waiting = 0

    def _answer(self, path: str) -> Answer:
        blocking = "index=" in path and "/v1/health/service/" not in path
        if blocking:
            self._waiting += 1
            time.sleep(5)  # and so is not yet asked
        return super()._answer(path)

    def hears_nothing(self) -> bool:
        """Tell whether every list's query waits."""
        return self._waiting >= 4


def test_a_port_of_an_unparked_service_is_found_by_its_index(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(SERVICES))
    with Hearing(tmp_path, consul.url, parked=0) as hearing:
        read = len(hearing.listener.readings)
        move(consul, 11, 9001)
        hearing.wait_for_ports("svc-11", 9001)
        add(consul, 12, "more")
        hearing.wait_for_ports("svc-12", 8080, 9000)
        assert hearing.changes() == {Source.REREAD: 2}
        report = hearing.loop.report()
        assert (report.passes, report.repairs) == (1, 0)
        assert report.rereads >= 2
        services = [one.service for reading in hearing.listener.readings[read:] for one in reading.snapshots]
        assert services == ["svc-11", "svc-12"], "nothing else had to be read"


def test_a_sweep_finds_what_nothing_has_told_and_counts_it(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(SERVICES))
    limits = {"sweep": 1.0}
    with Lying(consul.url) as proxy, Hearing(tmp_path, proxy.url, limits) as hearing:
        proxy.hides = "svc-5"
        move(consul, 5, 9001)
        move(consul, 6, 9001)
        hearing.wait_for_ports("svc-6", 9001)
        wait_until(lambda: hearing.wakeups(Source.SWEEP) >= 2, "sweeps are made")
        assert hearing.loop.report().repairs == 0
        proxy.hides = ""
        hearing.wait_for_ports("svc-5", 9001)
        assert hearing.changes()[Source.SWEEP] == 1
        assert hearing.loop.report().repairs == 1


class Lying(Proxy):
    """A proxy that keeps answering with what a service was: what it changes to is told by nothing."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.hides = ""
        self._before: dict[str, Answer] = {}

    def _answer(self, path: str) -> Answer:
        service = path.partition("?")[0].rpartition("/")[2]
        if service == self.hides and (before := self._before.get(path)):
            return before
        return self._before.setdefault(path, super()._answer(path)) if not service else self._fresh(path)

    def _fresh(self, path: str) -> Answer:
        self._before[path] = answer = super()._answer(path)
        return answer


# Together.


def test_of_several_signs_the_first_one_counts_and_nothing_is_left_for_a_sweep(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(SERVICES))
    with Hearing(tmp_path, consul.url, parked=SERVICES) as hearing:
        wait_until(lambda: hearing.parked() == SERVICES, "all are parked")
        for number in range(10):
            consul.set_status(f"i-{number}", "critical", node=f"node-{number % 10}")
            hearing.loop.hint("service", f"svc-{number}")
            wait_until(lambda number=number: _is_critical(hearing, number), "a flip is heard")  # type: ignore[misc]
        found = hearing.changes()
        assert sum(found.values()) == 10
        assert found.keys() <= {Source.PARKED, Source.STATUS, Source.HINT}
        hearing.loop.pass_now()
        assert hearing.loop.report().repairs == 0


def _is_critical(hearing: Hearing, number: int) -> bool:
    return hearing.instances(f"svc-{number}")[0].absent_because == "critical"


def test_a_peek_proves_no_removal(consul: Consul, tmp_path: Path) -> None:
    """What is held is proved by passes alone, however often the indexes are compared."""
    fill(consul, range(12))
    with Hearing(tmp_path, consul.url, {"release_spacing": LONG, "empty_grace": 0.0}, parked=0) as hearing:
        for number in range(8):
            consul.deregister(f"i-{number}", node=f"node-{number % 10}")
        wait_until(lambda: _held(hearing) > 0, "removals are held")
        # A re-read comes from the thread that makes passes: after one, the pass that has held them is counted.
        begun = hearing.loop.report().rereads
        consul.request("PUT", "/v1/catalog/register", {"Node": "idle", "Address": "10.255.3.1"})
        wait_until(lambda: hearing.loop.report().rereads > begun, "a re-read")
        passes, rereads = hearing.loop.report().passes, hearing.loop.report().rereads
        held = _held(hearing)
        for number in range(4):
            consul.request("PUT", "/v1/catalog/register", {"Node": "idle", "Address": f"10.255.2.{number}"})
            wait_until(lambda number=number: hearing.loop.report().rereads > rereads + number, "a re-read")  # type: ignore[misc]
        assert hearing.loop.report().passes == passes
        assert _held(hearing) == held


def _held(hearing: Hearing) -> int:
    with hearing.view.lock:
        return sum(row.proofs for row in hearing.view.beliefs["consul-dc1"].waiting.values())
