"""How a loop takes what only a broken, or a very unlucky, Eureka server says: the tests' own servers say it.

What real servers do is in `tests/integration/test_eureka_hearing.py` and `test_eureka_faults.py`.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hooks.eureka import confirmations, polling
from hooks.eureka.epochs import SHARED, Epochs
from hooks.eureka.servers import Servers
from hooks.found import Source
from state.errors import RegistryError
from state.model import InstanceKey, Reading, Reason, Snapshot
from tests.eureka_hearing import REGISTRY, EurekaHearing
from tests.testbed.processes import wait_until
from tests.unit.rawserver import Asked, Connection, RawServer

MY_OWN = {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"}


class Fake:
    """A Eureka server that says what the test says: the registry, its delta and its full read each by themselves."""

    def __init__(self) -> None:
        self.registry: dict[tuple[str, str], dict[str, Any]] = {}
        self.listed: dict[tuple[str, str], dict[str, Any]] | None = None  # the full read, if it is not the registry
        self.changes: list[dict[str, Any]] = []
        self.version = 100
        self.hashcode: str | None = None
        self.instead: dict[str, tuple[int, bytes]] = {}  # full, delta or instance: a status and a body
        self.clock = 1_000
        self.hung = False
        self.after_full: Callable[[], object] = lambda: None
        self.asked: list[str] = []
        self.server = RawServer(self._serve)

    @property
    def url(self) -> str:
        return f"{self.server.url}/eureka"

    def put(self, app: str, id_: str, action: str = "ADDED", *, tell: bool = True, **fields: Any) -> None:
        """Register an instance or change it, in the delta as well if it is to `tell`."""
        self.clock += 1
        one = {
            "instanceId": id_,
            "app": app,
            "ipAddr": f"10.0.{len(self.registry) // 250}.{len(self.registry) % 250 + 1}",
            "hostName": id_,
            "status": "UP",
            "port": {"$": 8080, "@enabled": "true"},
            "dataCenterInfo": MY_OWN,
            "metadata": {},
            "lastUpdatedTimestamp": str(self.clock),
            **fields,
        }
        self.registry[app, id_] = one
        self.version += 1
        if tell:
            self.tell(one, action)

    def drop(self, app: str, id_: str, *, tell: bool = True) -> None:
        """Take an instance out, in the delta as well if it is to `tell`."""
        self.clock += 1
        one = self.registry.pop((app, id_)) | {"lastUpdatedTimestamp": str(self.clock)}
        self.version += 1
        if tell:
            self.tell(one, "DELETED")

    def tell(self, one: dict[str, Any], action: str) -> None:
        self.changes.append(one | {"actionType": action})
        self.version += 1

    def restart(self) -> None:
        """Begin another life of the data, with the same instances."""
        self.version, self.changes, self.after_full = 1, [], lambda: None

    def _body(self, instances: list[dict[str, Any]], version: int) -> bytes:
        apps: dict[str, list[dict[str, Any]]] = {}
        for one in instances:
            apps.setdefault(one["app"], []).append(one)
        count = len(self.registry)
        hashed = self.hashcode if self.hashcode is not None else f"UP_{count}_" if count else ""
        listed = [{"name": app, "instance": found} for app, found in apps.items()]
        body = {"versions__delta": str(version), "apps__hashcode": hashed, "application": listed}
        return json.dumps({"applications": body}).encode()

    def _serve(self, connection: Connection) -> None:
        while True:
            asked = connection.ask()
            kind = {"": "full", "delta": "delta"}.get(asked.service, "instance")
            self.asked.append(kind)
            if self.hung:
                connection.wait_for_end()
            code, body = self.instead.get(kind) or self._answer(kind, asked)
            connection.answer(code=code, body=body)

    def _answer(self, kind: str, asked: Asked) -> tuple[int, bytes]:
        if kind == "full":
            body = self._body(list((self.registry if self.listed is None else self.listed).values()), 1)
            self.after_full()
            return 200, body
        if kind == "delta":
            return 200, self._body(self.changes, self.version)
        found = [one for (_, id_), one in self.registry.items() if id_ == asked.service]
        return (200, json.dumps({"instance": found[0]}).encode()) if found else (404, b"")


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    for number in range(6):
        fake.put("ORDERS", f"orders-{number}", tell=False)
    with fake.server:
        yield fake


@pytest.fixture
def other() -> Iterator[Fake]:
    other = Fake()
    with other.server:
        yield other


ORDERS = [f"orders-{number}" for number in range(6)]
POLL = 0.05


# Deltas.


def test_a_hash_that_never_matches_spaces_the_full_reads_and_polling_goes_on(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "MISMATCHES", 3)
    fake.hashcode = "UP_1_"
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        wait_until(lambda: hearing.report.mismatches >= 6, "it differs again and again")
        assert hearing.report.full_reads["mismatch"] <= hearing.report.mismatches
        fake.put("ORDERS", "orders-6")
        hearing.wait_for_ids("ORDERS", *ORDERS, "orders-6")
        hearing.wait_for_polls(20)
        assert hearing.report.polls > 2 * hearing.report.full_reads["mismatch"]
        assert hearing.loop.report().error == ""


def test_a_full_read_that_agrees_with_itself_settles_a_mismatch(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.put("ORDERS", "orders-6", tell=False)  # a change that no delta tells
        fake.tell(fake.registry["ORDERS", "orders-0"], "MODIFIED")
        hearing.wait_for_ids("ORDERS", *ORDERS, "orders-6")
        hearing.wait_for_polls(5)
        assert hearing.report.full_reads == {"start": 1, "mismatch": 1}
        wait_until(lambda: hearing.loop.report().found[Source.FULL].changes == 1, "it is counted")


def test_an_unknown_action_is_a_reason_to_read_everything(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.put("ORDERS", "orders-6", "MOVED")
        hearing.wait_for_ids("ORDERS", *ORDERS, "orders-6")
        assert hearing.report.full_reads["unreadable"] >= 1
        assert hearing.loop.report().error == ""


def test_a_page_in_place_of_a_delta_removes_nothing_and_is_told(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.instead["delta"] = (200, b"<!DOCTYPE html><title>Login</title>")
        wait_until(lambda: "answered HTML, not JSON" in hearing.loop.report().error, "it is told")
        assert hearing.ids("ORDERS") == ORDERS
        del fake.instead["delta"]
        wait_until(lambda: not hearing.loop.report().error, "it is readable again")


def test_what_a_poll_could_not_hand_over_is_read_again(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        heard = hearing.listener.hear
        failures = iter((True,))

        def hear(reading: Reading) -> Any:
            if next(failures, False):
                raise ValueError("whoever believes has a mistake")
            return heard(reading)

        monkeypatch.setattr(hearing.listener, "hear", hear)
        fake.put("ORDERS", "orders-6")
        hearing.wait_for_ids("ORDERS", *ORDERS, "orders-6")
        assert "reading failed" in caplog.text


def test_what_deltas_may_have_missed_is_read(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.registry["ORDERS", "orders-0"] |= {"port": {"$": 9090, "@enabled": "true"}}
        hearing.wait_for_polls()
        assert hearing.instances("ORDERS")[0].port == 8080
        monkeypatch.setattr(polling, "WINDOW", -1.0)
        wait_until(lambda: hearing.instances("ORDERS")[0].port == 9090, "it is read")
        assert hearing.report.full_reads["gap"] >= 1


def test_what_no_delta_told_is_found_by_a_sweep_and_counted(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL, limits={"sweep": 0.1}) as hearing:
        wait_until(lambda: hearing.report.full_reads.get("sweep", 0) >= 2, "it sweeps")
        assert hearing.loop.report().repairs == 0
        fake.registry["ORDERS", "orders-0"] |= {"port": {"$": 9090, "@enabled": "true"}}
        wait_until(lambda: hearing.instances("ORDERS")[0].port == 9090, "it is found")
        wait_until(lambda: hearing.loop.report().repairs == 1, "it is counted")
        wait_until(lambda: hearing.loop.report().found[Source.SWEEP].changes == 1, "it is counted")


def test_what_only_a_full_read_shows_while_deltas_overrule_it_settles_no_mismatch(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.put("ORDERS", "orders-6")
        hearing.wait_for_ids("ORDERS", *ORDERS, "orders-6")
        # An override that came with a heartbeat: no delta tells of it, and no time moves.
        fake.listed = {key: dict(one) for key, one in fake.registry.items()}
        fake.listed["ORDERS", "orders-6"]["status"] = "OUT_OF_SERVICE"
        fake.hashcode = "OUT_OF_SERVICE_1_UP_6_"
        wait_until(lambda: hearing.report.mismatches >= 2, "it is read again")


# Epochs.


def test_a_server_that_began_anew_twice_is_another_epoch_twice(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.restart()
        wait_until(lambda: hearing.epoch == 2, "another epoch has begun")
        fake.version = 30
        hearing.wait_for_polls()
        fake.drop("ORDERS", "orders-0", tell=False)
        fake.restart()
        wait_until(lambda: hearing.waiting() == {"orders-0": Reason.HOLD}, "what is missing is held")
        assert not hearing.report.shared


@pytest.mark.parametrize("anew", [False, True])
def test_a_server_without_deltas_began_anew_when_all_registrations_are_new(
    fake: Fake, tmp_path: Path, anew: bool
) -> None:
    def register(time: int) -> None:
        for one in fake.registry.values():
            one["leaseInfo"] = {"registrationTimestamp": time}

    register(1000)
    fake.instead["delta"] = (404, b"")
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.drop("ORDERS", "orders-0", tell=False)
        if anew:
            register(2000)
            wait_until(lambda: hearing.waiting() == {"orders-0": Reason.HOLD}, "what is missing is held")
            assert hearing.epoch == 2
        else:
            hearing.wait_for_ids("ORDERS", *ORDERS[1:])
            assert hearing.epoch == 1


def test_registrations_that_are_always_new_prove_nothing() -> None:
    epochs = Epochs("eureka-dc1", ("a", "b"), ())
    assert epochs.outlived("a", 0.0)
    assert epochs.outlived("b", 1.0)
    assert not epochs.outlived("a", SHARED - 1)
    assert not epochs.outlived("a", 2 * SHARED - 2)
    assert epochs.outlived("a", 3 * SHARED)


def test_what_a_new_epoch_lacks_is_held_before_all_of_it_was_asked_for(fake: Fake, tmp_path: Path) -> None:
    many = confirmations.MOST + 50
    for number in range(many):
        fake.put("BILLING", f"billing-{number}", tell=False)
    with EurekaHearing(tmp_path, fake.url, poll=3600.0) as hearing:
        for number in range(many):
            fake.drop("BILLING", f"billing-{number}", tell=False)
        fake.restart()
        hearing.loop.pass_now()
        assert len(hearing.waiting()) == many
        assert set(hearing.waiting().values()) == {Reason.HOLD}
        # They go on being asked for, and until then no pass is a proof.
        assert "250 in all" in hearing.loop.report().unreadable["BILLING"]
        hearing.loop.pass_now()
        with hearing.view.lock:
            proofs = [row.proofs for row in hearing.view.beliefs[REGISTRY].waiting.values()]
        assert 0 < proofs.count(0) < many


def test_a_version_that_went_back_is_another_epoch_and_twice_are_several_servers(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.restart()
        wait_until(lambda: hearing.epoch == 2, "another epoch has begun")
        assert not hearing.report.shared
        fake.version = 500
        hearing.wait_for_polls()
        fake.version = 20
        wait_until(lambda: hearing.report.shared, "it is told that several servers share the address")
        assert hearing.epoch == 2
        assert hearing.ids("ORDERS") == ORDERS


def test_another_life_that_begins_during_a_pass_is_read_whole_before_it_is_heard(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=3600.0) as hearing:
        before = len(hearing.listener.readings)
        # Only the delta after the full read tells of the new life.
        fake.drop("ORDERS", "orders-0", tell=False)
        fake.after_full = fake.restart
        hearing.loop.pass_now()
        assert hearing.epoch == 2
        assert fake.asked.count("full") == 3
        assert [reading.complete for reading in hearing.listener.readings[before:]].count(True) == 1
        assert hearing.waiting() in ({}, {"orders-0": Reason.HOLD})
        assert hearing.ids("ORDERS") == ORDERS


def test_versions_are_compared_for_each_server_alone() -> None:
    epochs = Epochs("eureka-dc1", ("a", "b"), (("a", 5), ("gone", 9)))
    assert dict(epochs.versions) == {"a": 5}
    assert not epochs.began("b", 1, b"b1", 0.0)
    assert not epochs.began("a", 5, b"a5", 1.0)
    assert epochs.began("a", 4, b"a4", 2.0)
    assert dict(epochs.versions) == {"a": 4, "b": 1}


def test_after_a_failure_the_same_version_of_another_delta_is_another_life() -> None:
    epochs = Epochs("eureka-dc1", ("a",), ())
    assert not epochs.began("a", 1, b"one", 0.0)
    epochs.failed("a")
    assert not epochs.began("a", 1, b"one", 1.0)
    assert not epochs.began("a", 1, b"two", 2.0)  # two clients asked at once
    epochs.failed("a")
    assert epochs.began("a", 1, b"one", 3.0)


def test_an_address_is_not_shared_for_ever() -> None:
    epochs = Epochs("eureka-dc1", ("a",), (("a", 9),))
    assert epochs.began("a", 8, b"8", 0.0)
    assert not epochs.began("a", 9, b"9", 1.0)
    assert not epochs.began("a", 7, b"7", SHARED - 1)
    assert epochs.shared(SHARED)
    assert not epochs.shared(3 * SHARED)
    assert epochs.began("a", 6, b"6", 3 * SHARED)


# Confirming.


def test_what_a_full_read_lacks_is_gone_when_it_was_not_found_twice(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=3600.0) as hearing:
        fake.drop("ORDERS", "orders-0", tell=False)
        hearing.loop.pass_now()
        assert hearing.ids("ORDERS") == ORDERS
        assert "orders-0" in hearing.loop.report().unreadable["ORDERS"]
        hearing.loop.hint("services")
        hearing.wait_for_ids("ORDERS", *ORDERS[1:])
        assert hearing.loop.report().unreadable == {}


def test_what_cannot_be_confirmed_stays_when_a_full_read_lacks_it(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.instead["instance"] = (500, b"no")
        fake.drop("ORDERS", "orders-0", tell=False)
        fake.put("ORDERS", "orders-6", tell=False)
        hearing.loop.pass_now()
        hearing.wait_for_polls()
        assert hearing.ids("ORDERS") == [*ORDERS, "orders-6"]
        wait_until(lambda: "answered 500" in hearing.loop.report().unreadable.get("ORDERS", ""), "it is told")
        del fake.instead["instance"]
        hearing.wait_for_ids("ORDERS", *ORDERS[1:], "orders-6")


def test_what_cannot_be_confirmed_is_gone_when_it_was_lacking_for_longer_than_any_cache_lasts(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.instead["instance"] = (400, b"no")  # as Tomcat answers to %2F
        fake.drop("ORDERS", "orders-0", tell=False)
        hearing.loop.pass_now()
        hearing.wait_for_polls()
        monkeypatch.setattr(confirmations, "STALE", 0.5)
        hearing.wait_for_ids("ORDERS", *ORDERS[1:])
        hearing.wait_for_polls()
        assert hearing.loop.report().unreadable == {}
        assert hearing.loop._polling.confirmations._doubts == {}


def test_what_comes_back_meanwhile_is_lacking_from_then_on(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.instead["instance"] = (400, b"no")
        before = hearing.instances("ORDERS")[0]
        fake.drop("ORDERS", "orders-0", tell=False)
        hearing.loop.pass_now()
        doubts = hearing.loop._polling.confirmations._doubts
        assert {app: doubts[app].keys() for app in doubts} == {"ORDERS": {before.key.id}}
        fake.put("ORDERS", "orders-0")
        wait_until(lambda: not hearing.loop._polling.confirmations._doubts, "it is there again")
        monkeypatch.setattr(confirmations, "STALE", 0.0)
        hearing.wait_for_polls()
        assert hearing.ids("ORDERS") == ORDERS


def test_instances_that_are_said_again_are_in_memory_once(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=3600.0) as hearing:
        before = hearing.instances("ORDERS")
        hearing.loop.pass_now()
        assert [id(one) for one in hearing.instances("ORDERS")] == [id(one) for one in before]
        said = hearing.loop._polling._view.leases("ORDERS").values()
        assert {id(lease.instance) for lease in said} == {id(one) for one in before}


def test_what_a_delta_deletes_leaves_though_nobody_could_be_asked(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.instead["instance"] = (500, b"no")
        fake.drop("ORDERS", "orders-0")
        hearing.wait_for_ids("ORDERS", *ORDERS[1:])


def test_what_is_there_does_not_leave_whatever_the_cache_says(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.drop("ORDERS", "orders-0")
        fake.put("ORDERS", "orders-0", tell=False)
        fake.listed = {key: one for key, one in fake.registry.items() if key[1] != "orders-0"}
        wait_until(lambda: hearing.report.overlay == 1, "the registry itself was asked")
        hearing.loop.pass_now()
        assert hearing.ids("ORDERS") == ORDERS
        assert not hearing.waiting()


def test_one_turn_asks_for_no_more_than_it_may(fake: Fake, tmp_path: Path) -> None:
    many = confirmations.MOST + 50
    for number in range(many):
        fake.put("BILLING", f"billing-{number}", tell=False)
    with EurekaHearing(tmp_path, fake.url, poll=3600.0) as hearing:
        for number in range(many):
            fake.drop("BILLING", f"billing-{number}", tell=False)
        fake.asked.clear()
        hearing.loop.pass_now()
        # A poll comes before the pass, in the same turn.
        assert fake.asked.count("instance") == confirmations.MOST
        assert len(hearing.ids("BILLING")) == many
        assert not hearing.waiting()


def test_how_often_something_was_not_found_is_forgotten_when_it_has_left(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        for number in range(3):
            for app, ids in (("ORDERS", ORDERS), (f"BILLING-{number}", [])):
                fake.put(app, f"pod-{number}")
                hearing.wait_for_ids(app, *ids, f"pod-{number}")
                fake.drop(app, f"pod-{number}")
                hearing.wait_for_ids(app, *ids)
        fake.put("ORDERS", "pod-3")
        hearing.wait_for_ids("ORDERS", *ORDERS, "pod-3")
        hearing.wait_for_polls()
        assert hearing.report.confirmations == 6
        assert hearing.loop._polling.confirmations._doubts == {}


def test_an_answer_about_another_instance_confirms_nothing(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=3600.0) as hearing:
        wrong = {"instance": fake.registry["ORDERS", "orders-1"]}
        fake.instead["instance"] = (200, json.dumps(wrong).encode())
        fake.drop("ORDERS", "orders-0", tell=False)
        hearing.loop.pass_now()
        assert hearing.ids("ORDERS") == ORDERS
        assert "asked for ORDERS/orders-0, it answered with" in hearing.loop.report().unreadable["ORDERS"]


def test_what_is_unread_is_neither_gone_nor_seen_in_a_new_epoch(fake: Fake, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, fake.url, poll=3600.0) as hearing:
        first, *others = hearing.instances("ORDERS")
        hearing.listener.begin_epoch()

        def hear(*unread: InstanceKey) -> None:
            snapshot = Snapshot("ORDERS", tuple(others), unread=frozenset(unread))
            hearing.view.hear(Reading(registry=REGISTRY, snapshots=(snapshot,), heard=0.0, begun=2, complete=True))

        hear(first.key)
        assert not hearing.waiting()
        assert hearing.ids("ORDERS") == ORDERS
        hear()
        assert hearing.waiting() == {"orders-0": Reason.HOLD}
        hear(first.key)
        assert hearing.waiting() == {"orders-0": Reason.HOLD}


# Servers.


def test_a_pass_that_breaks_off_hands_nothing_over_and_another_server_is_read(
    fake: Fake, other: Fake, tmp_path: Path
) -> None:
    other.registry = dict(fake.registry)
    fake.instead["delta"] = (500, b"no")
    with EurekaHearing(tmp_path, fake.url, other.url, poll=POLL) as hearing:
        wait_until(lambda: hearing.report.server == other.url, "the turn is over")
        assert {reading.versions for reading in hearing.listener.readings} == {((other.url, other.version),)}
        asked = len(fake.asked)
        hearing.wait_for_polls(5)
        assert len(fake.asked) == asked  # nobody goes back without need


def test_a_server_that_warms_up_is_left_for_the_next(fake: Fake, other: Fake, tmp_path: Path) -> None:
    other.registry = dict(fake.registry)
    with EurekaHearing(tmp_path, fake.url, other.url, poll=POLL) as hearing:
        fake.instead |= {"full": (403, b""), "delta": (403, b"")}
        wait_until(lambda: hearing.report.server == other.url, "the other server is read")
        assert hearing.report.full_reads["server"] == 1
        assert (hearing.ids("ORDERS"), hearing.epoch) == (ORDERS, 1)


def test_servers_that_all_fail_are_all_named(fake: Fake, other: Fake, tmp_path: Path) -> None:
    other.registry = dict(fake.registry)
    with EurekaHearing(tmp_path, fake.url, other.url, poll=POLL) as hearing:
        for server in (fake, other):
            server.instead |= {"full": (503, b"later"), "delta": (503, b"later")}
        wait_until(lambda: bool(hearing.loop.report().error), "it is told")
        error = hearing.loop.report().error
        assert error.count(REGISTRY) == 1
        assert fake.url in error
        assert other.url in error
        with pytest.raises(RegistryError, match="no complete pass"):
            hearing.loop.pass_now()
        assert hearing.ids("ORDERS") == ORDERS


def test_the_server_that_answers_stays_the_one_that_is_read() -> None:
    servers = Servers("eureka-dc1", ("a", "b", "c"))
    assert list(servers.round()) == ["a", "b", "c"]
    servers.failed("a", RegistryError("eureka-dc1: a: no"))
    servers.answered("b")
    assert list(servers.round()) == ["b", "c", "a"]
    servers.failed("b", RegistryError("eureka-dc1: b: no"))
    servers.failed("c", RegistryError("eureka-dc1: c: no"))
    assert str(servers.error()) == "eureka-dc1: b: no; c: no"


def test_deltas_that_a_server_does_not_give_are_asked_for_again(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "RETRY_DELTA", 0.2)
    fake.instead["delta"] = (404, b"")
    with EurekaHearing(tmp_path, fake.url, poll=POLL) as hearing:
        fake.put("ORDERS", "orders-6", tell=False)
        hearing.wait_for_ids("ORDERS", *ORDERS, "orders-6")
        assert hearing.report.full_reads["disabled"] >= 1
        del fake.instead["delta"]
        wait_until(lambda: hearing.report.unchanged > 2, "deltas are read")


# Life.


def test_stopping_does_not_wait_for_a_server_that_hangs(fake: Fake, tmp_path: Path) -> None:
    hearing = EurekaHearing(tmp_path, fake.url, poll=POLL, limits={"read_timeout": 600.0, "stop": 60.0})
    with hearing:
        fake.hung = True
        asked = len(fake.asked)
        wait_until(lambda: len(fake.asked) > asked, "it hangs")

        def wait_for_a_pass() -> None:
            with pytest.raises(RegistryError, match="no complete pass"):
                hearing.loop.pass_now()

        waiting = threading.Thread(target=wait_for_a_pass)
        waiting.start()
    waiting.join()
    assert not any(thread.name == f"{REGISTRY} poller" for thread in threading.enumerate())


def test_a_step_that_lasts_too_long_is_told(fake: Fake, tmp_path: Path) -> None:
    with ExitStack() as stack:
        hearing = stack.enter_context(EurekaHearing(tmp_path, fake.url, poll=POLL, limits={"read_timeout": 600.0}))
        assert hearing.loop.stuck(1e9) == "" or fake.asked
        fake.hung = True
        wait_until(lambda: hearing.loop.stuck(1e12) != "", "it is at one step")
        assert f"{REGISTRY} poller has been at one step for" in hearing.loop.stuck(1e12)
