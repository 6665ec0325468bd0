"""What a real Eureka cannot be made to show to `isthmus check`, or not within a test's time."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from agent.check.configuration import relations
from agent.check.eureka import check_registry
from agent.check.finding import Finding, Level
from agent.check.freshness import Freshness, Told, measure, merged, overdue
from agent.check.seen import Seen
from hooks.eureka.settings import EurekaSettings
from state.limits import Limits
from tests.dc import configured
from tests.testbed.processes import free_port
from tests.unit.rawserver import Connection, RawServer

LIMITS = Limits(connect_timeout=1, read_timeout=1)
NOW = 1_800_000_007.0  # the server's clock: 7 s after a tick of its cache
JSON, HTML = b"application/json", b"<html><title>Login</title></html>"


def instance(app: str, id: str, *, status: str = "UP", ago: float = 600, renewed: float = 10, **more: Any) -> Any:
    """Return what Eureka says of an instance that was changed and renewed so many seconds ago."""
    return {
        "instanceId": id,
        "app": app,
        "ipAddr": "10.0.0.1",
        "status": status,
        "port": {"$": 8080, "@enabled": "true"},
        "leaseInfo": {"durationInSecs": 90, "lastRenewalTimestamp": int(1000 * (NOW - renewed))},
        "lastUpdatedTimestamp": str(int(1000 * (NOW - ago))),
        **more,
    }


def applications(*instances: Any, version: int = 1, hashcode: str | None = None) -> bytes:
    """Return a list of applications, one for each instance; its hash is right unless given."""
    words = [one["status"] for one in instances]
    own = "".join(f"{word}_{words.count(word)}_" for word in sorted(set(words)))
    found = [{"name": one["app"], "instance": [one]} for one in instances]
    told = {"versions__delta": str(version), "apps__hashcode": own if hashcode is None else hashcode}
    return json.dumps({"applications": {**told, "application": found}}).encode()


class Eureka:
    """Answers as a server does; a test changes what, and ``more`` has a code and a body by the end of the path."""

    def __init__(self, *instances: Any) -> None:
        self.instances = {one["instanceId"]: one for one in instances}
        self.full = applications(*instances)
        self.deltas = [applications(version=1)]  # the last one is repeated
        self.status: Mapping[str, str] = {}  # the text of XML elements
        self.at = NOW
        self.more: dict[str, tuple[int, bytes]] = {}
        self.headers: dict[str, object] = {}
        self.seen: list[tuple[str, Mapping[str, str]]] = []

    def serve(self, connection: Connection) -> None:
        """Answer one request: check asks for a new connection each time."""
        asked = connection.ask()
        self.seen.append((asked.service, asked.headers))
        code, body = self.more.get(asked.service) or self.more.get("*") or self._answer(asked.service)
        connection.answer(
            code=code, body=body, Date=formatdate(self.at, usegmt=True), Connection="close", **self.headers
        )

    def _answer(self, what: str) -> tuple[int, bytes]:
        match what:
            case "apps":
                return 200, self.full
            case "delta":
                return 200, self.deltas.pop(0) if len(self.deltas) > 1 else self.deltas[0]
            case "status":
                return 200, "".join(f"<{tag}>{text}</{tag}>" for tag, text in self.status.items()).encode()
        one = self.instances.get(what)
        return (404, b"") if one is None else (200, json.dumps({"instance": one}).encode())


@contextmanager
def running(eureka: Eureka) -> Iterator[str]:
    with RawServer(eureka.serve) as server:
        yield f"{server.url}/eureka"


def checked(*eurekas: Eureka, **changes: Any) -> Seen:
    """Check a cluster of such servers; no time passes meanwhile but by their own clocks."""
    urls: tuple[str, ...] = changes.pop("urls", ())
    with RawServer(eurekas[0].serve) as first, RawServer(eurekas[-1].serve) as last:
        servers = [f"{server.url}/eureka" for server in (first, last)[: len(eurekas)]]
        return check_registry(EurekaSettings(name="e", urls=(*urls, *servers), **changes), LIMITS, lambda _: None)


def only(seen: Seen, level: Level) -> Finding:
    (one,) = [finding for finding in seen.findings if finding.level is level]
    return one


def told(seen: Seen, level: Level, words: str, remedy: str = "") -> Finding:
    """Return the finding of a level that says some words."""
    all_of = [finding for finding in seen.findings if finding.level is level and words in finding.seen]
    assert len(all_of) == 1, seen.findings
    assert remedy in all_of[0].remedy
    return all_of[0]


HEALTHY = (instance("ORDERS", "o1"), instance("WEB", "w1"), instance("WEB", "w2", status="DOWN"))


def test_a_server_that_is_well_is_told_and_its_services_are_known() -> None:
    seen = checked(Eureka(*HEALTHY))
    assert {finding.place for finding in seen.findings} == {"registry e"}
    told(seen, Level.OK, "2 applications, 3 instances: 1 DOWN, 2 UP")
    told(seen, Level.OK, "2 applications in scope, 2 of 3 instances can have traffic")
    assert seen.services == frozenset({"ORDERS", "WEB"})
    assert Level.ERROR not in {finding.level for finding in seen.findings}


def test_json_is_asked_for_over_a_new_connection_each_time() -> None:
    eureka = Eureka(*HEALTHY)
    checked(eureka)
    assert {(path, headers["accept"]) for path, headers in eureka.seen} == {
        *((path, "application/json") for path in ("apps", "delta", "o1", "w1", "w2")),
        ("status", "application/xml"),
    }
    assert {headers["connection"] for _, headers in eureka.seen} == {"close"}


# Who is no Eureka that can be read


@pytest.mark.parametrize(
    ("code", "body", "seen", "remedy"),
    [
        (200, HTML, "is a page for people", "name the path"),
        (200, b"<applications><versions__delta>1", "in XML", "isthmus reads JSON only"),
        (200, b"", "is not Eureka: 200, an empty body", "mend registries.e.urls[0]"),
        (200, b'{"a": 1}', "has no applications", "this is not what Eureka answers"),
        (200, b'{"applications": {"application": [', "http", "this is not what Eureka answers"),
        (400, b"This combination of host and port requires TLS.", "speaks https", "write https:// in registries.e"),
        (401, b"", "wants a user and a password", "registries.e.username"),
        (403, b"", "is not ready yet, or forbids everybody", "wait-time-in-ms-when-sync-empty"),
        (404, b"no such page", "is not Eureka: 404, no such page", "name the path"),
        (429, b"slow down", "answers 429, slow down", "rate-limiter-enabled"),
        (500, b"oops", "answers 500, oops", "see what Eureka logs"),
    ],
)
def test_whoever_is_no_eureka_that_can_be_read_is_told_apart(code: int, body: bytes, seen: str, remedy: str) -> None:
    eureka = Eureka()
    eureka.more["*"] = (code, body)
    error = only(checked(eureka), Level.ERROR)
    assert seen in error.seen
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("where", "seen", "remedy"),
    [
        ("https://sso/login?token=hush", "sends us to https://sso/login, which", "httpBasic()"),
        ("http://other/eureka/apps", "sends us to http://other/eureka/apps, which", "the server's own address"),
    ],
)
def test_a_redirect_is_not_followed_and_its_query_not_shown(where: str, seen: str, remedy: str) -> None:
    eureka = Eureka()
    eureka.more["*"], eureka.headers = (302, b""), {"Location": where}
    error = only(checked(eureka), Level.ERROR)
    assert seen in error.seen
    assert remedy in error.remedy


def test_a_path_that_is_missing_is_found() -> None:
    eureka = Eureka(*HEALTHY)

    def serve(connection: Connection) -> None:
        connection.answer(code=404) if connection.number == 0 else eureka.serve(connection)

    with RawServer(serve) as server:
        settings = EurekaSettings(name="e", urls=(server.url,))
        error = only(check_registry(settings, LIMITS), Level.ERROR)
    assert error.remedy == f"write {server.url}/eureka in registries.e.urls[0]: there Eureka answers"


def test_what_echoes_the_password_does_not_make_check_show_it(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush-hush")
    login = {"username": "isthmus", "password_file": tmp_path / "password"}
    eureka = Eureka()
    eureka.more["*"] = (500, b"no such page for hush-hush")
    assert "no such page for ***" in only(checked(eureka, **login), Level.ERROR).seen
    eureka.more["*"] = (401, b"hush-hush")
    error = only(checked(eureka, **login), Level.ERROR)
    assert error.seen.endswith(f"does not take the user isthmus with the password in {tmp_path / 'password'}")
    assert eureka.seen[-1][1]["authorization"].startswith("Basic ")


def test_nobody_there_and_nobody_who_answers_are_told_apart() -> None:
    settings = EurekaSettings(name="e", urls=(f"http://127.0.0.1:{free_port()}/eureka",))
    error = only(check_registry(settings, LIMITS), Level.ERROR)
    assert "nothing listens there: start Eureka, or mend registries.e.urls[0]" in error.remedy
    with RawServer(lambda connection: connection.wait_for_end()) as server:
        error = only(check_registry(EurekaSettings(name="e", urls=(server.url,)), LIMITS), Level.ERROR)
    assert error.remedy.startswith("Eureka hangs or is overloaded")


def test_a_server_that_is_down_is_a_warning_while_another_answers() -> None:
    dead = f"http://127.0.0.1:{free_port()}/eureka"
    seen = checked(Eureka(*HEALTHY), urls=(dead,))
    told(seen, Level.WARNING, f"{dead} cannot be reached", "registries.e.urls[0]")
    assert seen.services == frozenset({"ORDERS", "WEB"})


# What a server that can be read says


@pytest.mark.parametrize("code", [403, 404])
def test_deltas_that_are_switched_off_are_told(code: int) -> None:
    eureka = Eureka(*HEALTHY)
    eureka.more["delta"] = (code, b"")
    told(checked(eureka), Level.WARNING, "tells no deltas", "eureka.server.disable-delta=false")


def test_a_list_that_contradicts_its_own_hash_is_told() -> None:
    eureka = Eureka(*HEALTHY)
    eureka.full = applications(*HEALTHY, hashcode="UP_7_")
    told(checked(eureka), Level.WARNING, "by its hash it has UP_7_, and it lists DOWN_1_UP_2_")


def test_several_servers_behind_one_address_are_told_by_their_versions() -> None:
    eureka = Eureka(*HEALTHY)
    eureka.deltas = [applications(version=version) for version in (7, 3, 7, 3)]
    told(
        checked(eureka),
        Level.WARNING,
        "as the versions of its deltas go back",
        "name each of them in registries.e.urls",
    )


def test_several_servers_behind_one_address_are_told_by_their_names() -> None:
    eureka = Eureka(*HEALTHY)

    def serve(connection: Connection) -> None:
        eureka.serve(connection)
        if connection.asked[0].service == "delta":
            eureka.status = {"instanceId": "b:eureka:8761"}

    eureka.status = {"instanceId": "a:eureka:8761"}
    with RawServer(serve) as server:
        seen = check_registry(EurekaSettings(name="e", urls=(server.url,)), LIMITS, lambda _: None)
    told(seen, Level.WARNING, "several servers answer at", "sticks to one")
    assert "a:eureka:8761 and b:eureka:8761" in told(seen, Level.WARNING, "several servers").seen


def test_peers_that_the_configuration_does_not_name_are_told() -> None:
    eureka = Eureka(*HEALTHY)
    peers = "http://b:8761/eureka/,http://c:8761/eureka/"
    eureka.status = {"registered-replicas": peers, "unavailable-replicas": peers}
    seen = checked(eureka, urls=("http://b:8761/eureka",))
    told(seen, Level.NOTE, "1 peer that the configuration does not name: http://c:8761/eureka/", "registries.e.urls")


def test_servers_that_hold_different_registries_are_told() -> None:
    many = [instance("ORDERS", f"o{n}") for n in range(10)]
    seen = checked(Eureka(*many), Eureka(*many[:5]))
    assert "10 instances and" in told(seen, Level.WARNING, "has 5, 5 of them the same").seen
    strangers = Eureka(*(instance("OTHER", f"x{n}") for n in range(10)))
    told(checked(Eureka(*many), strangers), Level.WARNING, "two clusters", "a registry for each cluster")
    assert not [one for one in checked(Eureka(*many), Eureka(*many[:8])).findings if one.level is Level.WARNING]


@pytest.mark.parametrize(("apart", "words"), [(7230, "2 h ahead of ours"), (-7230, "2 h behind of ours")])
def test_a_clock_that_is_wrong_is_told(apart: float, words: str) -> None:
    eureka = Eureka(*HEALTHY)
    eureka.at = time.time() + apart
    assert told(checked(eureka), Level.NOTE, "the clock of").seen.endswith(words)
    eureka.at = time.time() + 20
    assert not [one for one in checked(eureka).findings if "the clock of" in one.seen]


def test_instances_that_the_server_keeps_although_they_are_dead_are_told() -> None:
    eureka = Eureka(instance("ORDERS", "o1", renewed=3600), instance("ORDERS", "o2", renewed=200))
    warning = told(
        checked(eureka), Level.WARNING, "ORDERS/o1, which should have gone up to", "renewal-percent-threshold"
    )
    assert "self-preservation, which isthmus believes" in warning.seen
    assert "o2" not in warning.seen


def test_what_the_cache_shows_of_leases_is_looked_at_again() -> None:
    eureka = Eureka(instance("ORDERS", "o1", renewed=3600))
    eureka.instances["o1"] = instance("ORDERS", "o1", renewed=5)
    assert not [one for one in checked(eureka).findings if "leases" in one.seen]


def test_instances_that_cannot_be_published_are_told() -> None:
    bad = [instance("ORDERS", f"bad-{n}", ipAddr=f"host-{n}") for n in range(5)]
    seen = checked(Eureka(*bad, *HEALTHY))
    warning = told(seen, Level.WARNING, "5 instances of 8 cannot be published: ORDERS/bad-0: ", "prefer-ip-address")
    assert "host-0" in warning.seen
    assert warning.seen.endswith("; and 2 more")


def test_metadata_that_cannot_be_used_is_told() -> None:
    seen = checked(Eureka(instance("ORDERS", "o1", metadata={"weight": "heavy"}), *HEALTHY[1:]))
    told(seen, Level.NOTE, "1 value of metadata: ORDERS/o1: ")


def test_a_scope_that_holds_nothing_is_told_and_case_does_not_count() -> None:
    told(
        checked(Eureka(*HEALTHY), services=("team-a*",)),
        Level.WARNING,
        "no application in scope",
        "registries.e.services",
    )
    assert checked(Eureka(*HEALTHY), services=("ord*",)).services == frozenset({"ORDERS"})


def test_a_password_in_the_open_is_told_unless_it_stays_on_the_machine(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush")
    login = {"username": "isthmus", "password_file": tmp_path / "password"}
    far = "http://eureka.invalid:8761/eureka"
    seen = checked(Eureka(*HEALTHY), urls=(far,), **login)
    told(seen, Level.WARNING, f"the password goes to {far} as it is", "speak https")
    assert not [one for one in checked(Eureka(*HEALTHY), **login).findings if "as it is" in one.seen]


# How fresh


def test_a_cache_shows_itself_by_what_a_single_instance_says() -> None:
    eureka = Eureka(*HEALTHY)
    eureka.instances["o1"] = instance("ORDERS", "o1", ago=12)
    note = told(checked(eureka), Level.NOTE, "ORDERS/o1 was, by 12 s or more")
    assert "eureka.server.use-read-only-response-cache=false" in note.remedy


def test_a_cache_shows_itself_by_an_instance_that_is_gone() -> None:
    eureka = Eureka(*HEALTHY)
    del eureka.instances["o1"]
    told(checked(eureka), Level.NOTE, "answers from its cache: ORDERS/o1 was", "use-read-only-response-cache=false")


def test_a_server_that_shows_a_change_at_once_is_told() -> None:
    eureka = Eureka(*HEALTHY)
    changed = instance("ORDERS", "o1", ago=-4)
    news = applications({**changed, "actionType": "MODIFIED"}, version=2, hashcode="DOWN_1_UP_2_")
    eureka.deltas.append(news)

    def serve(connection: Connection) -> None:
        eureka.serve(connection)
        if connection.asked[0].service == "delta":
            eureka.at = NOW + 5

    with RawServer(serve) as server:
        settings = EurekaSettings(name="e", urls=(server.url,))
        seen = check_registry(settings, LIMITS, lambda _: None)
    told(seen, Level.OK, "changes are shown at once: ORDERS/o1 was, within 2 s; the poll adds 5 s")


def test_where_nothing_changes_nothing_is_claimed() -> None:
    told(checked(Eureka(*HEALTHY)), Level.NOTE, "nothing changed while we looked", "use-read-only-response-cache=false")


KEY = ("A", "a")


@pytest.mark.parametrize(
    ("changed", "at", "freshness"),
    [
        (500.0, 1_004.0, Freshness.UNKNOWN),  # known before
        (1_013.0, 1_015.0, Freshness.DIRECT),
        (1_013.0, 1_019.0, Freshness.UNKNOWN),  # the cache was renewed in between
        (1_021.0, 1_025.0, Freshness.UNKNOWN),  # so shortly after the tick that the cache may hold it
        (1_023.0, 1_025.0, Freshness.DIRECT),
        (1_023.0, 0.0, Freshness.UNKNOWN),  # no clock
    ],
)
def test_a_change_proves_freshness_when_no_cache_can_have_shown_it(
    changed: float, at: float, freshness: Freshness
) -> None:
    before, after = Told(1_002.0, {KEY: 500_000}), Told(at, {KEY: int(1000 * changed)})
    assert measure(before, {}, after).freshness is freshness


def test_a_list_and_its_deltas_are_put_together_by_time() -> None:
    other = ("A", "b")
    assert merged({KEY: 5}, [({KEY: 4, other: 7}, frozenset())]) == {KEY: 5, other: 7}
    assert merged({KEY: 5}, [({KEY: 6}, frozenset()), ({}, frozenset({KEY}))]) == {}


def test_a_lease_is_overdue_only_when_the_server_itself_should_have_seen_it() -> None:
    assert overdue(1000.0, 90.0, 1209.0) == 0
    assert overdue(1000.0, 90.0, 1211.0) == 1


# The configuration


def test_one_cluster_under_two_names_is_told(tmp_path: Path) -> None:
    one = {"type": "eureka", "urls": ["http://a:8761/eureka", "http://b:8761/eureka"]}
    other = {"type": "eureka", "urls": ["http://b:8761/eureka/"]}
    config = configured(tmp_path, "", registries={"one": one, "other": other})
    (warning,) = [finding for finding in relations(config) if finding.level is Level.WARNING]
    assert warning.seen == "one and other are the same Eureka cluster, http://b:8761/eureka"
