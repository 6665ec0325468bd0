"""`isthmus check` against real Eureka servers, which are broken on purpose."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.check.eureka import check_registry
from agent.check.finding import Finding, Level
from hooks.eureka.settings import EurekaSettings
from state.limits import Limits
from tests.integration.check_run import Checked, check
from tests.testbed.eureka import USER, Eureka, MakeEureka, MakeEurekaPeers
from tests.testbed.pki import Authority
from tests.testbed.processes import free_port, wait_until

PLACE = "registry eureka-dc1"
LIMITS = Limits(connect_timeout=3, read_timeout=5)


class Site:
    """A folder with a configuration for one Eureka cluster and a directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.eureka: dict[str, Any] = {"type": "eureka"}

    def secret(self, name: str, content: str) -> str:
        """Write a file that only we can read."""
        file = self.folder / name
        file.write_text(content)
        file.chmod(0o600)
        return str(file)

    def check(self, *urls: str, **changes: Any) -> Checked:
        """Run the command on a registry of these servers."""
        config = {
            "owner": "dc1",
            "state": "state.db",
            "control": "control.sock",
            "registries": {"eureka-dc1": {**self.eureka, "urls": list(urls), **changes}},
            "clusters": {"review": {"directory": "review", "namespace": "legacy"}},
        }
        (self.folder / "isthmus.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        return check(self.folder / "isthmus.yaml", secrets=("hush-hush",))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def test_a_healthy_setup_is_well_and_nothing_is_registered(site: Site, eureka: Eureka) -> None:
    eureka.register("ORDERS", "orders-1", "10.0.0.1")
    eureka.register("WEB", "web-1", "10.0.0.2", status="DOWN")
    before = eureka.apps().instances
    checked = site.check(eureka.url)
    assert checked.code == 0
    assert checked.of("warning") == []
    told = " | ".join(finding["seen"] for finding in checked.of("ok"))
    assert f"Eureka answers at {eureka.url}: 2 applications, 2 instances: 1 DOWN, 1 UP" in told
    assert "can be read as the agent reads it: 2 applications in scope, 1 of 2 instances can have traffic" in told
    assert checked.policies == {}
    assert eureka.apps().instances == before
    assert [path.name for path in site.folder.iterdir()] == ["isthmus.yaml"]


def test_what_cannot_be_published_is_told_with_its_value(site: Site, eureka: Eureka) -> None:
    eureka.register("ORDERS", "orders-1", "orders.example", 8080)
    eureka.register("ORDERS", "orders-2", "10.0.0.2", port_enabled=False)
    eureka.register("ORDERS", "orders-3", "10.0.0.3", metadata={"weight": "heavy"})
    checked = site.check(eureka.url)
    assert checked.code == 0
    checked.tells(PLACE, "'orders.example'", "eureka.instance.prefer-ip-address", "warning")
    checked.tells(PLACE, "2 instances of 3 cannot be published", "and a port", "warning")
    checked.tells(PLACE, "weight 'heavy'", "mend them where they are registered", "note")
    site.check(eureka.url, services=["team-a*"]).tells(
        PLACE, "no application in scope", "eureka-dc1.services", "warning"
    )


# How fresh


def freshness(url: str, change: Callable[[], object]) -> Finding:
    """Check a registry in which something changes meanwhile, and return what was found of its freshness."""

    def sleep(seconds: float) -> None:
        change()
        time.sleep(seconds)

    seen = check_registry(EurekaSettings(name="e", urls=(url,)), LIMITS, sleep)
    (found,) = [one for one in seen.findings if "changes are shown" in one.seen or "nothing changed" in one.seen]
    return found


def test_a_server_without_its_cache_is_measured_to_show_changes_at_once(eureka: Eureka) -> None:
    eureka.register("ORDERS", "orders-1", "10.0.0.1")
    weights = iter(range(100))

    def is_measured() -> bool:
        # Right after a tick of the cache that it might have, nothing can be told.
        found = freshness(eureka.url, lambda: eureka.put_metadata("ORDERS", "orders-1", weight=str(next(weights))))
        assert "from its cache: " not in found.seen
        return found.level is Level.OK

    wait_until(is_measured, "it is seen that changes are shown at once")


def test_a_server_as_it_is_by_default_is_measured_to_answer_from_its_cache(cached_eureka: Eureka) -> None:
    cached_eureka.register("ORDERS", "orders-1", "10.0.0.1")
    wait_until(lambda: len(cached_eureka.apps().instances) == 1, "the cache has it", deadline=60)
    weights = iter(range(100))

    def is_measured() -> bool:
        cached_eureka.put_metadata("ORDERS", "orders-1", weight=str(next(weights)))
        found = freshness(cached_eureka.url, lambda: None)
        assert found.level is not Level.OK
        # Where the cache was renewed in between, nothing can be told.
        return "ORDERS/orders-1 was, by" in found.seen and "use-read-only-response-cache=false" in found.remedy

    wait_until(is_measured, "it is seen that changes are shown late")


def test_deltas_that_are_switched_off_are_told(site: Site, make_eureka: MakeEureka) -> None:
    server = make_eureka(disable_delta=True)
    server.register("ORDERS", "orders-1", "10.0.0.1")
    checked = site.check(server.url)
    assert checked.code == 0
    checked.tells(PLACE, "tells no deltas: it answers 40", "eureka.server.disable-delta=false", "warning")


# Several servers


def test_peers_are_told_and_one_that_is_down_costs_no_other(site: Site, make_eureka_peers: MakeEurekaPeers) -> None:
    one, other = make_eureka_peers()
    one.register("ORDERS", "orders-1", "10.0.0.1")
    wait_until(lambda: len(other.apps().instances) == 1, "the other has it, too")
    checked = site.check(one.url)
    checked.tells(PLACE, f"1 peer that the configuration does not name: {other.url}", "eureka-dc1.urls", "note")
    checked = site.check(one.url, other.url)
    assert checked.code == 0
    assert checked.of("warning") == []
    one.kill()
    checked = site.check(one.url, other.url)
    assert checked.code == 0
    checked.tells(PLACE, f"{one.url} cannot be reached", "mend registries.eureka-dc1.urls[0]", "warning")
    other.kill()
    assert site.check(one.url, other.url).code == 1


def test_a_server_that_is_not_ready_is_told(site: Site, make_eureka: MakeEureka) -> None:
    nobody = f"http://127.0.0.2:{free_port()}/eureka/"
    more: dict[str, str | int | bool] = {
        "eureka.client.fetch-registry": True,
        "eureka.client.service-url.defaultZone": nobody,
        "eureka.instance.registry.default-open-for-traffic-count": 0,
    }
    server = make_eureka(more=more, wait_time_in_ms_when_sync_empty=600_000)
    checked = site.check(server.url)
    assert checked.code == 1
    checked.tells(PLACE, "answers 403, ", "eureka.server.wait-time-in-ms-when-sync-empty")


# Who may read


def test_what_can_be_wrong_with_a_password(site: Site, make_eureka: MakeEureka) -> None:
    server = make_eureka(password="hush-hush")
    server.register("ORDERS", "orders-1", "10.0.0.1")
    checked = site.check(server.url)
    assert checked.code == 1
    checked.tells(PLACE, "wants a user and a password", "as registries.eureka-dc1.password_file")
    login = {"username": USER, "password_file": site.secret("eureka", "wrong")}
    checked = site.check(server.url, **login)
    assert checked.code == 1
    checked.tells(PLACE, f"does not take the user {USER} with the password in", "write the right password into")
    site.secret("eureka", "hush-hush\n")
    checked = site.check(server.url, **login)
    assert checked.code == 0
    assert checked.of("warning") == []
    (site.folder / "eureka").chmod(0o644)
    site.check(server.url, **login).tells(PLACE, "can be read by everybody", "chmod o=", "warning")
    (site.folder / "eureka").unlink()
    checked = site.check(server.url, **login)
    assert checked.code == 1
    checked.tells(PLACE, "eureka cannot be read: No such file", f"write the password of {USER}")


def test_a_login_by_a_form_is_told(site: Site, make_eureka: MakeEureka) -> None:
    server = make_eureka(password="hush-hush", more={"testbed.login": "form"})
    checked = site.check(server.url, username=USER, password_file=site.secret("eureka", "hush-hush"))
    assert checked.code == 1
    checked.tells(PLACE, "/login, which is not followed", "httpBasic()")


def test_what_can_be_wrong_with_tls(site: Site, make_eureka: MakeEureka, eureka: Eureka) -> None:
    server = make_eureka(tls=True, demand_certificate=True)
    server.register("ORDERS", "orders-1", "10.0.0.1")
    assert server.client_pair is not None
    cert_file, key_file = server.client_pair.cert_file, server.client_pair.key_file
    key_file.chmod(0o600)
    good = {"ca_file": str(server.ca_file), "cert_file": str(cert_file), "key_file": str(key_file)}
    other = Authority(site.folder / "pki")

    def wrong(seen: str, remedy: str, url: str = server.url, **changes: Any) -> None:
        checked = site.check(url, **{key: value for key, value in {**good, **changes}.items() if value})
        assert checked.code == 1
        checked.tells(PLACE, seen, remedy)

    assert site.check(server.url, **good).code == 0
    assert site.check(server.url, **good, tls_server_name=server.server_name).code == 0
    ca = str(other.ca_file)
    wrong("certificate verify failed", f"{ca} must hold the certificate of the authority", ca_file=ca)
    wrong("certificate verify failed", "name a host for which its certificate was issued", tls_server_name="e.example")
    wrong("", "client certificate", cert_file=None, key_file=None)
    wrong("speaks https", "write https:// in registries.eureka-dc1.urls[0]", server.url.replace("https", "http"))
    wrong("", "write http:// in registries.eureka-dc1.urls[0]", eureka.url.replace("http", "https"))


def test_a_path_that_is_missing_is_found(site: Site, eureka: Eureka) -> None:
    checked = site.check(eureka.url.removesuffix("/eureka"))
    assert checked.code == 1
    checked.tells(PLACE, "is not Eureka: 404", f"write {eureka.url} in registries.eureka-dc1.urls[0]")
