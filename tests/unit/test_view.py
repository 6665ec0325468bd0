"""What all registries together say: believed, remembered, and told to whoever follows."""

import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import FrameType

import pytest

from agent.hosts import Place
from agent.merge import HostKey, merge
from agent.rules import Match, Rule, Rules
from agent.serving import Heard
from agent.view import View
from state.checkpoint import Checkpoint
from state.errors import StateError
from state.limits import Limits
from state.model import Absence, Instance, Reading, Reason, Snapshot
from tests.core import HOST, KEY, instance
from tests.unit.world import orders

PLACE = Place("legacy", HOST)
RULES = Rules((Rule(number=0, match=Match(tag="shop"), host="shop.mesh.internal"),), "mesh.internal")


class Follower:
    def __init__(self) -> None:
        self.hosts: list[HostKey] = []
        self.passes = 0

    def mark(self, hosts: Collection[HostKey], heard: Heard) -> None:
        assert heard.at <= time.monotonic()
        self.hosts.extend(sorted(hosts))

    def note_pass(self) -> None:
        self.passes += 1

    def take(self) -> list[HostKey]:
        hosts, self.hosts = self.hosts, []
        return hosts


class Site:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.db"
        self.limits = Limits(empty_grace=30.0)
        self.begun = 0
        self.open()

    def open(self) -> None:
        self.checkpoint = Checkpoint.open(self.path)
        self.view = View(("dc1", "dc2"), RULES, self.checkpoint, self.limits, "configuration")
        self.follower = Follower()
        self.view.follow(self.follower)

    def restart(self) -> None:
        self.checkpoint.close()
        self.open()

    def hear(self, *instances: Instance, registry: str = "dc1", complete: bool = True) -> Collection[str]:
        self.begun += 1
        services = {one.key.service for one in instances} | set(self.view.beliefs[registry].services)
        snapshots = tuple(
            Snapshot(service, tuple(one for one in instances if one.key.service == service), 7)
            for service in sorted(services)
        )
        reading = Reading(
            registry=registry, snapshots=snapshots, heard=time.monotonic(), begun=self.begun, complete=complete
        )
        return self.view.hear(reading)

    def addresses(self, place: Place = PLACE) -> list[str]:
        host = self.view.host(place, "legacy")
        return [endpoint.address for endpoint in host.endpoints] if host else []

    def reasons(self) -> list[Reason]:
        return [row.reason for row in self.view.beliefs["dc1"].waiting.values()]


def statements(site: Site, act: Callable[[], object]) -> list[str]:
    """Return the first word of every statement that an act has the state file carry out."""
    found: list[str] = []
    with site.checkpoint.transaction() as database:
        connection = database.conn
    connection.set_trace_callback(lambda statement: found.append(statement.split()[0]))
    act()
    connection.set_trace_callback(None)
    return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.checkpoint.close()


def test_a_change_is_told_once_and_what_is_the_same_is_not(site: Site) -> None:
    assert list(site.hear(*orders(1, 2))) == ["orders"]
    assert site.follower.take() == [KEY]
    assert list(site.hear(*orders(1, 2))) == []
    assert site.follower.take() == []
    assert site.follower.passes == 1
    assert site.addresses() == ["10.0.0.1", "10.0.0.2"]


def test_a_reading_that_shows_nothing_new_writes_nothing_also_after_a_restart(site: Site) -> None:
    site.hear(*orders(*range(1, 20)))
    assert statements(site, lambda: site.hear(*orders(*range(1, 20)))) == []
    assert statements(site, lambda: site.hear(*orders(*range(1, 20)), complete=False)) == []
    site.restart()
    assert statements(site, lambda: site.hear(*orders(*range(1, 20)), complete=False)) == []


def test_a_change_is_one_transaction_of_two_rows_however_many_services_there_are(site: Site) -> None:
    estate = [instance(f"{name}-1", service=name, address="10.0.9.1") for name in ("billing", "search", "web")]
    site.hear(*estate, *orders(*range(1, 20)))
    flipped = (*orders(*range(2, 20)), *orders(1, absent_because=Absence.CRITICAL))
    change = ["BEGIN", "INSERT", "INSERT", "COMMIT"]  # the service, and the registry
    assert statements(site, lambda: site.hear(*estate, *flipped, complete=False)) == change


def test_hosts_are_merged_for_what_waits_alone(site: Site) -> None:
    merges: list[object] = []

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is merge.__code__:
            merges.append(frame)

    def merged(act: Callable[[], object]) -> int:
        merges.clear()
        sys.setprofile(count)
        act()
        sys.setprofile(None)
        return len(merges)

    assert merged(lambda: site.hear(*orders(1, 2, 3, 4))) == 0
    assert merged(lambda: site.hear(*orders(1, 2, 3), complete=False)) == 1  # does another endpoint end its grace?
    assert site.reasons() == []
    assert merged(lambda: site.hear(*orders(1, 2, 3, 5), complete=False)) == 0


def test_a_registration_that_moves_to_another_host_is_told_for_both(site: Site) -> None:
    site.hear(*orders(1, 2))
    site.follower.take()
    site.hear(*orders(1), *orders(2, tags=("shop",)))
    assert site.follower.take() == [KEY, HostKey("", "shop.mesh.internal")]
    assert site.addresses() == ["10.0.0.1"]
    assert site.addresses(Place("legacy", "shop.mesh.internal")) == ["10.0.0.2"]


def test_nothing_has_passed_before_every_registry_had_a_pass(site: Site) -> None:
    site.hear(*orders(1), complete=False)
    assert not site.view.passed("dc1")
    site.hear(*orders(1))
    assert (site.view.passed("dc1"), site.view.passed()) == (True, False)
    site.hear(registry="dc2")
    assert site.view.passed()


def test_the_last_of_a_host_is_in_grace_until_another_registry_has_one(site: Site) -> None:
    web = tuple(instance(f"web-{n}", service="web", address=f"10.0.9.{n}") for n in range(1, 5))
    site.hear(*web, *orders(1))
    site.hear(*web)
    assert (site.reasons(), site.addresses()) == ([Reason.GRACE], ["10.0.0.1"])
    site.restart()
    assert (site.reasons(), site.addresses()) == ([Reason.GRACE], ["10.0.0.1"])
    site.hear(*orders(2), registry="dc2")
    assert (site.reasons(), site.addresses()) == ([], ["10.0.0.2"])
    site.restart()
    assert (site.reasons(), site.addresses()) == ([], ["10.0.0.2"])


def test_a_grace_that_is_over_is_told(site: Site) -> None:
    web = tuple(instance(f"web-{n}", service="web", address=f"10.0.9.{n}") for n in range(1, 5))
    site.view.limits = Limits(empty_grace=0.05)
    site.hear(*web, *orders(1))
    site.hear(*web)
    site.follower.take()
    while site.reasons():
        site.view.tick()
    assert site.follower.take() == [KEY]
    assert site.view.host(PLACE, "legacy") is None


def test_what_is_believed_comes_back_after_a_restart_before_any_reading(site: Site) -> None:
    site.hear(*orders(1), *orders(2, absent_because=Absence.CRITICAL))
    site.restart()
    assert site.addresses() == ["10.0.0.1"]
    assert site.view.hosts() == [KEY]
    assert not site.view.passed("dc1")
    assert list(site.hear(*orders(1), *orders(2, absent_because=Absence.CRITICAL))) == []


def test_a_disk_that_fails_costs_only_memory_and_is_caught_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StateError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(site.checkpoint, "observe", fail)
        site.hear(*orders(1, 2))
        assert site.addresses() == ["10.0.0.1", "10.0.0.2"]
        assert "no space" in site.view.unsaved
    site.hear(*orders(1, 2, 3))
    assert site.view.unsaved == ""
    site.restart()
    assert site.addresses() == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_what_a_cluster_holds_and_nobody_lists_is_held_and_ends_when_it_is_seen(site: Site) -> None:
    one, two = orders(1, 2)
    restored = Instance(key=two.key, address=two.address, port=two.port, restored=True)
    site.hear(one)
    site.view.adopt({"dc1": {one.key: one, two.key: restored}, "gone": {two.key: restored}})
    assert site.reasons() == [Reason.HOLD]
    assert site.addresses() == ["10.0.0.1", "10.0.0.2"]
    host = site.view.host(PLACE, "legacy")
    assert host
    assert [endpoint.kept for endpoint in host.endpoints] == [False, True]
    site.hear(one)
    assert site.reasons() == [Reason.HOLD]
    site.hear(one, two)
    assert site.reasons() == []


def test_two_hosts_that_are_one_in_a_cluster_are_merged(tmp_path: Path, site: Site) -> None:
    rules = Rules((Rule(number=0, match=Match(tag="shop"), namespace="legacy"),), "mesh.internal")
    view = View(("dc1",), rules, Checkpoint.copy(tmp_path / "none.db"), site.limits, "")
    snapshot = Snapshot("orders", (*orders(1), *orders(2, tags=("shop",))), 7)
    view.hear(Reading(registry="dc1", snapshots=(snapshot,), heard=0.0, begun=1, complete=True))
    host = view.host(PLACE, "legacy")
    assert host
    assert len(host.endpoints) == 2
    elsewhere = view.host(Place("apart", HOST), "apart")
    assert elsewhere
    assert len(elsewhere.endpoints) == 1
