import base64
import json
import os
import socket
import sqlite3
import ssl
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError

from agent.check.configuration import relations, same_datacenter, without_service
from agent.check.consul import check_registry
from agent.check.finding import Finding, Level
from agent.check.hosts import Selecting, prospects, rivals, takers
from agent.check.kubeconfig import expiry, mends
from agent.check.kubernetes import Seen, check_cluster
from agent.check.local import holder
from agent.check.network import Server, advice, failed
from agent.check.policy import policy
from agent.cli import main
from agent.clusters.settings import KubernetesSettings
from agent.config import Config
from agent.demo.registry import EmbeddedRegistry
from agent.naming import host_label
from hooks.consul.settings import ConsulSettings
from state.checkpoint import Checkpoint
from state.limits import Limits
from tests.dc import REGISTRY, configuration, configured, empty
from tests.testbed.pki import Authority
from tests.testbed.processes import free_port
from tests.unit.loopback import Answer, Request, as_json
from tests.unit.loopback import Server as Loopback

LIMITS = Limits(connect_timeout=1, read_timeout=1, write_timeout=1)
SERVER = Server(what="Consul", url="https://c:8501", address="registries.c.url", ca="ca.pem", name="tls_server_name")


def run(folder: Path, *arguments: str, url: str = "http://127.0.0.1:1", **changes: Any) -> Result:
    content = configuration(url, **changes)
    (folder / "isthmus.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return CliRunner().invoke(main, ["check", "--config", str(folder / "isthmus.yaml"), *arguments])


def found(folder: Path, *arguments: str, code: int = 0, **changes: Any) -> list[Finding]:
    answer = run(folder, *arguments, "-o", "json", **changes)
    assert answer.exit_code == code, answer.output
    return [Finding(**{**one, "level": Level(one["level"])}) for one in json.loads(answer.stdout)["findings"]]


def only(findings: list[Finding], level: Level) -> Finding:
    (one,) = [finding for finding in findings if finding.level is level]
    return one


def snapshot(folder: Path) -> dict[str, tuple[bytes, float]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime) for path in folder.rglob("*") if path.is_file()}


# The command


def test_a_healthy_setup_is_ok_and_nothing_is_written(tmp_path: Path, registry: EmbeddedRegistry) -> None:
    assert {finding.level for finding in found(tmp_path, url=registry.url)} == {Level.OK}
    assert sorted(os.listdir(tmp_path)) == ["isthmus.yaml"]


def test_people_get_a_table_the_remedies_and_the_policies(tmp_path: Path, registry: EmbeddedRegistry) -> None:
    answer = run(tmp_path, url=registry.url, registries={**_down("other"), **_up(registry)})
    lines = [line.rstrip() for line in answer.stdout.splitlines()]
    assert answer.exit_code == 1
    assert lines[0].split() == ["LEVEL", "WHERE", "WHAT"]
    failed = next(number for number, line in enumerate(lines) if line.startswith("error"))
    assert "registry other" in lines[failed]
    assert "-> nothing listens there: start Consul, or mend registries.other.url" in lines[failed + 1]
    assert "The policy that the token of registry other needs:" in lines
    assert 'node_prefix "" { policy = "read" }' in lines
    assert lines[-1] == "1 error"


def test_a_dead_target_hides_no_other(tmp_path: Path, registry: EmbeddedRegistry) -> None:
    findings = found(tmp_path, code=1, url=registry.url, registries={**_down("other"), **_up(registry)})
    assert only(findings, Level.ERROR).place == "registry other"
    read = [finding.seen for finding in findings if finding.place == f"registry {REGISTRY}"]
    assert read[-1].startswith("can be read as the agent reads it: 3 services in scope")
    assert {f"cluster {name}" for name in ("east", "west")} <= {finding.place for finding in findings}


def test_no_registry_and_no_cluster_is_asked_when_only_the_configuration_is_wanted(tmp_path: Path) -> None:
    with Loopback(lambda _: as_json("")) as server:
        findings = found(tmp_path, "--config-only", url=server.url)
    assert server.requests == []
    assert {finding.level for finding in findings} == {Level.OK}
    assert {finding.place for finding in findings} == {"configuration", "state"}


def test_mistakes_in_the_file_are_findings_too(tmp_path: Path) -> None:
    findings = found(tmp_path, code=10, owner="Not An Owner", domain="_")
    assert [finding.level for finding in findings] == [Level.ERROR] * 2
    assert "isthmus.yaml:1: owner: must be" in findings[0].seen


def test_the_largest_exit_code_applies(tmp_path: Path) -> None:
    with closing(Checkpoint.open(tmp_path / "state.db")) as checkpoint:
        checkpoint.set_owner("dc1")
    (tmp_path / "state.db").write_bytes(b"no database" * 1000)
    receiver = {"http": "127.0.0.1:9411", "token_file": "hook.token"}
    findings = found(tmp_path, code=11, receiver=receiver)
    assert {finding.place for finding in findings if finding.level is Level.ERROR} == {
        f"registry {REGISTRY}",
        "configuration",
        "state",
    }


def _down(name: str) -> dict[str, Any]:
    return {name: {"type": "consul", "url": f"http://127.0.0.1:{free_port()}"}}


def _up(registry: EmbeddedRegistry, **more: Any) -> dict[str, Any]:
    return {REGISTRY: {"type": "consul", "url": registry.url, **more}}


# The configuration


def test_a_state_file_of_another_owner_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    with closing(Checkpoint.open(tmp_path / "state.db")) as checkpoint:
        checkpoint.set_owner("dc9")
    before = snapshot(tmp_path)
    error = only(found(tmp_path, "--config-only", code=10), Level.ERROR)
    assert (error.place, "was written under 'dc9'" in error.seen) == ("configuration", True)
    assert "name the old owner again" in error.remedy
    assert before.items() <= snapshot(tmp_path).items()


def test_a_damaged_state_file_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database" * 1000)
    error = only(found(tmp_path, "--config-only", code=11), Level.ERROR)
    assert (error.place, "not a database" in error.seen) == ("state", True)
    assert sorted(os.listdir(tmp_path)) == ["isthmus.yaml", "state.db"]


def test_a_state_file_of_a_newer_isthmus_is_no_reason_not_to_start(tmp_path: Path) -> None:
    Checkpoint.open(tmp_path / "state.db").close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.execute("PRAGMA user_version = 1000")
    warning = only(found(tmp_path, "--config-only", code=0), Level.WARNING)
    assert (warning.place, "schema 1000, newer than" in warning.seen) == ("state", True)


def test_a_state_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    error = only(found(tmp_path, "--config-only", code=11, state="var/lib/state.db"), Level.ERROR)
    assert error.seen == f"{tmp_path / 'var'} is no folder"


def test_another_isthmus_with_the_state_file_is_seen_without_trying_the_lock(tmp_path: Path) -> None:
    with closing(Checkpoint.open(tmp_path / "state.db")):
        assert holder(tmp_path / "state.db") == os.getpid()
        told = only(found(tmp_path, "--config-only"), Level.NOTE)
    assert f"another isthmus, process {os.getpid()}, has the state file" in told.seen
    assert holder(tmp_path / "state.db") == 0
    assert holder(tmp_path / "never" / "state.db") == 0


def test_a_hook_token_that_is_missing_is_told(tmp_path: Path) -> None:
    receiver = {"http": "127.0.0.1:9411", "token_file": "hook.token"}
    error = only(found(tmp_path, "--config-only", code=10, receiver=receiver), Level.ERROR)
    assert error.place == "configuration"
    assert error.seen == f"token file {tmp_path / 'hook.token'} cannot be read: No such file or directory"
    assert error.remedy.startswith(f"write a long random word into {tmp_path / 'hook.token'}")


def test_a_secret_that_everybody_can_read_is_told_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "consul.token").write_text("hush-hush")
    (tmp_path / "consul.token").chmod(0o644)
    registries = {REGISTRY: {"type": "consul", "url": "http://127.0.0.1:1", "token_file": "consul.token"}}
    answer = run(tmp_path, "--config-only", registries=registries)
    assert answer.exit_code == 0
    assert f"{tmp_path / 'consul.token'} can be read by everybody" in answer.stdout
    assert f"-> chmod o= {tmp_path / 'consul.token'}" in answer.stdout
    assert "hush" not in answer.output
    (tmp_path / "consul.token").chmod(0o600)
    assert Level.WARNING not in {f.level for f in found(tmp_path, "--config-only", registries=registries)}


@pytest.mark.parametrize(
    ("content", "seen"), [("two words", "more than one word"), ("\n", "is empty"), ("\udcff", "not text")]
)
def test_a_token_that_cannot_be_one_is_told_and_its_registry_is_not_asked(
    tmp_path: Path, content: str, seen: str
) -> None:
    (tmp_path / "token").write_text(content, errors="surrogateescape")
    (tmp_path / "token").chmod(0o600)
    with Loopback(lambda _: as_json("")) as server:
        registries = {REGISTRY: {"type": "consul", "url": server.url, "token_file": "token"}}
        error = only(found(tmp_path, code=1, registries=registries), Level.ERROR)
    assert (error.place, seen in error.seen) == (f"registry {REGISTRY}", True)
    assert "words" not in error.seen
    assert server.requests == []


def test_certificates_are_tried(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    one, other = authority.client("one"), authority.client("other")
    (tmp_path / "nonsense.pem").write_text("nonsense")

    def told(**files: Path) -> str:
        for file in tmp_path.rglob("*.key"):
            file.chmod(0o600)
        tls = {"type": "consul", "url": "https://127.0.0.1:1", **{key: str(path) for key, path in files.items()}}
        return only(found(tmp_path, "--config-only", code=1, registries={"c": tls}), Level.ERROR).seen

    assert "do not belong together" in told(cert_file=one.cert_file, key_file=other.key_file)
    assert "holds no certificates in PEM" in told(ca_file=tmp_path / "nonsense.pem")
    assert "No such file" in told(ca_file=tmp_path / "missing.pem")
    assert "No such file" in told(cert_file=one.cert_file, key_file=tmp_path / "missing.key")
    assert "no pair in PEM" in told(cert_file=tmp_path / "nonsense.pem", key_file=one.key_file)
    encrypted = tmp_path / "encrypted.key"
    command = ("openssl", "ec", "-aes256", "-passout", "pass:hush", "-in", str(one.key_file), "-out", str(encrypted))
    subprocess.run(command, check=True, capture_output=True)
    assert "without password" in told(cert_file=one.cert_file, key_file=encrypted)


def test_a_port_that_somebody_has_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = only(found(tmp_path, "--config-only", status=f"127.0.0.1:{taken.getsockname()[1]}"), Level.WARNING)
    assert told.seen.startswith("status: port ")
    assert "Address already in use" in told.seen


def test_a_socket_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = only(found(tmp_path, "--config-only", control="file/control.sock"), Level.WARNING)
    assert told.seen == f"control: {tmp_path / 'file'} is no folder: nobody could call there"
    told = only(found(tmp_path, "--config-only", control="file"), Level.WARNING)
    assert "is no socket" in told.seen
    told = only(found(tmp_path, "--config-only", code=10, control="c" * 120), Level.ERROR)
    assert "longer than 107 bytes" in told.seen


def test_clusters_that_differ_in_their_namespace_are_told(tmp_path: Path) -> None:
    clusters = {name: {"directory": name, "namespace": f"of-{name}"} for name in ("east", "west")}
    told = only(relations(configured(tmp_path, "http://c", clusters=clusters)), Level.WARNING)
    assert told.seen == "clusters differ in their namespace (east: of-east; west: of-west)"


def test_a_rule_for_no_registry_and_one_for_no_service_are_told(tmp_path: Path) -> None:
    rules = [
        {"match": {"registry": "eureka-*"}, "port": 80},
        {"match": {"registry": "consul-*", "service": "Orders"}, "port": 80},
        {"match": {"service": "orders"}, "port": 80},
    ]
    config = configured(tmp_path, "http://c", rules=rules)
    assert only(relations(config), Level.WARNING).seen == "rules[0] matches no registry: none is named like 'eureka-*'"
    (told,) = without_service(config, {REGISTRY: frozenset({"orders"})})
    assert told.seen == "rules[1] matches no service that is registered now: 'Orders'"
    assert list(without_service(config, {})) == []


def test_one_datacenter_under_two_names_is_told_once(tmp_path: Path) -> None:
    consul = {"type": "consul", "url": "http://c:8500"}
    twice = configured(tmp_path, "", registries={"a": consul, "b": consul, "c": {**consul, "url": "http://d:8500"}})
    assert only(relations(twice), Level.WARNING).seen == "a and b are the same datacenter, http://c:8500"
    leaders = dict.fromkeys(("a", "b", "c"), ("dc1", "10.0.0.1:8300"))
    (told,) = same_datacenter(twice, leaders)
    assert told.seen == "a and c are the same datacenter, dc1, whose leader is 10.0.0.1:8300"
    assert list(same_datacenter(twice, {**leaders, "c": ("dc2", "10.0.0.1:8300")})) == []


# Directories


def test_a_directory_is_looked_at_and_nothing_in_it_is_touched(tmp_path: Path, registry: EmbeddedRegistry) -> None:
    folder = tmp_path / "east" / "legacy"
    folder.mkdir(parents=True)
    (folder / "theirs.yaml").write_text("kind: Other\n")
    (folder / "README").write_text("")
    (folder / "broken.yaml").write_text("a: [")
    (folder / ".isthmus-1-orders.new").write_text("what a killed agent was writing")
    before = snapshot(tmp_path / "east")
    findings = found(tmp_path, url=registry.url)
    assert only(findings, Level.NOTE).seen == f"{folder} also holds README, theirs.yaml, not isthmus': left as it is"
    assert f"{folder / 'broken.yaml'} cannot be read as objects" in only(findings, Level.WARNING).seen
    assert snapshot(tmp_path / "east") == before


def test_a_directory_that_is_a_file_is_an_error(tmp_path: Path, registry: EmbeddedRegistry) -> None:
    (tmp_path / "east").write_text("")
    error = only(found(tmp_path, code=1, url=registry.url), Level.ERROR)
    assert (error.place, error.seen) == ("cluster east", f"{tmp_path / 'east'} is no folder")


# Consul: what a real one cannot be made to show


def consul(answer: Answer, **changes: Any) -> list[Finding]:
    with Loopback(lambda _: answer) as server:
        return list(check_registry(ConsulSettings(name="c", url=server.url, **changes), LIMITS).findings)


@pytest.mark.parametrize(
    ("answer", "seen", "remedy"),
    [
        (Answer(200, b"<html>Login</html>"), "is not Consul: 200, <html>Login</html>", "Consul's HTTP API"),
        (Answer(404, b"404 page not found"), "is not Consul: 404, 404 page not found", "Consul's HTTP API"),
        (as_json({"a": 1}), 'is not Consul: 200, {"a": 1}', "Consul's HTTP API"),
        (as_json(""), 'the datacenter has no leader: http://127.0.0.1:... answers 200, ""', "raft list-peers"),
        (Answer(500, b"No known Consul servers"), "answers 500, No known Consul servers", "raft list-peers"),
        (Answer(400, b"Client sent an HTTP request to an HTTPS server.\n"), "speaks https", "write https://"),
        (Answer(200, b"[" * 100_000), "is not Consul: 200, [[[", "Consul's HTTP API"),
    ],
    ids=("html", "404", "object", "no leader", "no servers", "https", "deep"),
)
def test_whoever_is_no_consul_with_a_leader_is_told_apart(answer: Answer, seen: str, remedy: str) -> None:
    (error,) = consul(answer)
    assert error.level is Level.ERROR
    for part in seen.split("..."):
        assert part in error.seen
    assert remedy in error.remedy


def test_what_echoes_the_token_does_not_make_check_show_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush-hush")
    (error,) = consul(Answer(404, b"no such page for hush-hush"), token_file=tmp_path / "token")
    assert "no such page for ***" in error.seen


# The network


def _raised(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def _certificate(code: int) -> ssl.SSLError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def _tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("cause", "remedy"),
    [
        (_certificate(10), "renew the certificate of Consul"),
        (_certificate(9), "the clock of one of the two machines"),
        (_certificate(62), "name a host for which its certificate was issued, by tls_server_name"),
        (_certificate(20), "ca.pem must hold the certificate of the authority"),
        (_tls("WRONG_VERSION_NUMBER"), "nothing speaks TLS there: write http:// in registries.c.url"),
        (_tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "Consul wants a client certificate"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "does not trust the client certificate"),
        (_tls("UNSUPPORTED_PROTOCOL"), "see which versions"),
        (socket.gaierror(-2, "Name or service not known"), "mend the host name in registries.c.url"),
        (ConnectionRefusedError(111, "Connection refused"), "nothing listens there: start Consul"),
        (NewConnectionError(None, "No route to host"), "mend the network between"),  # type: ignore[arg-type]
        (ReadTimeoutError(None, "", "timed out"), "Consul hangs"),  # type: ignore[arg-type]
        (ConnectTimeoutError("timed out"), "a firewall drops what is sent"),
        (TimeoutError("timed out"), "Consul hangs"),
        (ConnectionResetError(104, "Connection reset by peer"), "something there ends connections"),
        (OSError(5, "Input/output error"), "see what registries.c.url names"),
    ],
)
def test_each_cause_has_its_remedy(cause: BaseException, remedy: str) -> None:
    error = _raised(RuntimeError("outer"), RuntimeError("inner", cause))
    assert remedy in advice(error, SERVER)
    assert failed(error)


def test_an_answer_is_no_failed_connection() -> None:
    assert not failed(ValueError("answered 403"))
    assert "see what registries.c.url names" in advice(ValueError("odd"), SERVER)


# Policies


@pytest.mark.parametrize(
    ("scope", "rules"),
    [
        (("*",), ['service_prefix ""']),
        (("team-a*",), ['service_prefix "team-a"']),
        (("team-a*", "team-a-x", "team-ab*", "orders"), ['service_prefix "team-a"', 'service "orders"']),
        (("orders", "web"), ['service "orders"', 'service "web"']),
        (("orders*", "*"), ['service_prefix ""']),
        (("a?c",), ['service_prefix "a"']),
        (('od"d',), ['service "od\\"d"']),
    ],
)
def test_the_policy_covers_the_scope_and_no_more_than_it_must(scope: tuple[str, ...], rules: list[str]) -> None:
    lines = policy(ConsulSettings(name="c", url="http://c", services=scope)).splitlines()
    expected = [f'{rule} {{ policy = "read" }}' for rule in (*rules, 'node_prefix ""')]
    assert [line for line in lines if not line.startswith("#")] == expected


@pytest.mark.parametrize("glob", ["*-public", "a?c", "team-[ab]*", "a*b"])
def test_a_policy_that_has_to_be_wider_says_so(glob: str) -> None:
    text = policy(ConsulSettings(name="c", url="http://c", services=(glob, "orders*")))
    assert f'# Only a prefix can be allowed: this is wider than "{glob}".' in text


# What else is in a cluster


def kubernetes(folder: Path, **changes: Any) -> Config:
    east = {"server": "https://k", "ca_file": "ca", "token_file": "token", "namespace": "legacy"}
    return configured(folder, "http://c", clusters={"east": east}, **changes)


def told(config: Config, seen: Seen, services: frozenset[str] | None) -> list[Finding]:
    expected = prospects(config, {REGISTRY: services})
    return [*takers(config, "east", seen.services, expected), *rivals("east", seen.foreign, expected)]


LABELLED = [{"match": {"service": "orders*"}, "labels": {"app": "orders", "team": "a"}}]
ORDERS = frozenset({"orders", "web"})


@pytest.mark.parametrize(
    ("selector", "services", "expected"),
    [
        ({"app": "orders"}, ORDERS, True),
        ({"app": "orders", "team": "a"}, ORDERS, True),
        ({"app": "orders", "tier": "b"}, ORDERS, False),
        ({"app": "web"}, ORDERS, False),
        ({"app": "orders"}, frozenset({"web"}), False),
        ({"app": "orders"}, None, True),
        ({"app.kubernetes.io/managed-by": "isthmus"}, ORDERS, True),
        ({"service.istio.io/canonical-name": "web"}, ORDERS, True),
        ({"service.istio.io/canonical-name": "other"}, ORDERS, False),
        ({"isthmus.mesh/host": "web.mesh.internal"}, ORDERS, True),
        ({"isthmus.mesh/owner": "dc2"}, ORDERS, False),
    ],
)
def test_a_service_that_would_take_our_endpoints_is_told(
    tmp_path: Path, selector: dict[str, str], services: frozenset[str] | None, expected: bool
) -> None:
    seen = Seen((), (Selecting("legacy", "theirs", selector),))
    assert bool(told(kubernetes(tmp_path, rules=LABELLED), seen, services)) is expected


def test_a_service_in_another_namespace_takes_nothing(tmp_path: Path) -> None:
    seen = Seen((), (Selecting("shop", "theirs", {"app": "orders"}),))
    assert told(kubernetes(tmp_path, rules=LABELLED), seen, ORDERS) == []
    rules = [*LABELLED, {"match": {"tag": "public"}, "namespace": "shop"}]
    (one,) = told(kubernetes(tmp_path, rules=rules), seen, ORDERS)
    assert one.seen.startswith("the Service shop/theirs selects app=orders, and so the WorkloadEntries of orders.mesh")
    assert one.remedy == "take that label out of rules[0], or change the Service's selector"


def test_what_is_skipped_for_sure_is_not_published(tmp_path: Path) -> None:
    seen = Seen((), (Selecting("legacy", "theirs", {"app": "orders"}),))
    skip = {"match": {"service": "orders"}, "skip": True}
    assert told(kubernetes(tmp_path, rules=[*LABELLED, skip]), seen, ORDERS) == []
    maybe = {"match": {"service": "orders", "tag": "old"}, "skip": True}
    assert told(kubernetes(tmp_path, rules=[*LABELLED, maybe]), seen, ORDERS)


def test_a_service_entry_of_somebody_else_with_our_host_is_told(tmp_path: Path) -> None:
    foreign = Selecting("legacy", "theirs", {}, ("web.mesh.internal", "x.mesh.internal"))
    (one,) = told(kubernetes(tmp_path), Seen((), (), (foreign,)), ORDERS)
    assert (one.place, one.level) == ("host web.mesh.internal", Level.WARNING)
    selecting = replace_selector(foreign, {"isthmus.mesh/host": host_label("web.mesh.internal")})
    (one,) = told(kubernetes(tmp_path), Seen((), (), (selecting,)), ORDERS)
    assert one.level is Level.NOTE
    rules = [{"match": {"service": "web"}, "host": "{service}.shop.internal"}]
    assert told(kubernetes(tmp_path, rules=rules), Seen((), (), (foreign,)), ORDERS) == []


def test_a_service_entry_of_somebody_else_with_an_alias_of_ours_is_told(tmp_path: Path) -> None:
    rules = [{"match": {"service": "web"}, "aliases": ["{service}.service.consul"]}]
    foreign = Selecting("legacy", "theirs", {}, ("web.service.consul",))
    (one,) = told(kubernetes(tmp_path, rules=rules), Seen((), (), (foreign,)), ORDERS)
    assert one.place == "host web.service.consul"


def test_a_selector_on_an_identity_takes_what_a_rule_gives_one(tmp_path: Path) -> None:
    seen = Seen((), (Selecting("legacy", "theirs", {"security.istio.io/tlsMode": "istio"}),))
    assert told(kubernetes(tmp_path), seen, ORDERS) == []
    rules = [{"match": {"service": "web"}, "identity": {"service_account": "web", "tls": "istio"}}]
    (one,) = told(kubernetes(tmp_path, rules=rules), seen, ORDERS)
    assert "of web.mesh.internal" in one.seen


def test_a_rule_in_lower_case_is_for_a_service_of_eureka(tmp_path: Path) -> None:
    rules = [{"match": {"service": "orders*"}, "port": 80}]
    config = configured(tmp_path, "http://c", rules=rules)
    assert list(without_service(config, {REGISTRY: frozenset({"ORDERS"})})) == []
    assert list(without_service(config, {REGISTRY: frozenset({"WEB"})}))


def replace_selector(entry: Selecting, selector: dict[str, str]) -> Selecting:
    return entry._replace(selector=selector)


# Kubernetes: kubeconfigs, and servers that a real one is not


def kubeconfig(folder: Path, user: dict[str, Any], server: str = "https://127.0.0.1:1") -> KubernetesSettings:
    content = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}, {"name": "test", "context": {}}],
        "current-context": "prod",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(content))
    return KubernetesSettings(name="east", namespace="legacy", kubeconfig=folder / "kubeconfig")


def token(expires: object) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).rstrip(b"=").decode()
    return f"e30.{claims}.c2ln"


def test_a_token_that_says_so_has_expired(tmp_path: Path) -> None:
    settings = kubeconfig(tmp_path, {"token": token(1_000_000)})
    assert expiry(settings, 1_000_090.0) == "the token expired 1 min 30 s ago, on 1970-01-12 13:46 UTC"
    assert expiry(settings, 999_999.0) == ""
    (tmp_path / "token").write_text(token(1_000_000) + "\n")
    assert expiry(kubeconfig(tmp_path, {"tokenFile": "token"}), 1_000_001.0).startswith("the token expired 1 s ago")
    direct = KubernetesSettings(name="east", namespace="legacy", server="https://k", token_file=tmp_path / "token")
    assert expiry(direct, 1_000_001.0).startswith("the token expired 1 s ago")


@pytest.mark.parametrize("content", ["opaque", "a.b.c", "....", token("soon"), token(None), "a.é.c", "e30.W10.e30"])
def test_a_token_that_says_nothing_may_be_good(tmp_path: Path, content: str) -> None:
    assert expiry(kubeconfig(tmp_path, {"token": content}), 1e12) == ""


def test_what_mends_a_kubeconfig_names_the_part(tmp_path: Path) -> None:
    settings = kubeconfig(tmp_path, {"exec": {"command": "no-such-plugin"}})
    assert mends(settings).startswith("install no-such-plugin, which is to give the credential of context prod")
    assert mends(kubeconfig(tmp_path, {"exec": {"command": "false"}})).startswith("run false, as the user that isthmus")
    assert mends(kubeconfig(tmp_path, {})).startswith(f"mend context prod in {tmp_path / 'kubeconfig'}")
    missing = replace(settings, context="staging")
    assert mends(missing) == "name one of its contexts as clusters.east.context; there are: prod, test"
    (tmp_path / "kubeconfig").write_text("[")
    assert mends(missing).endswith("there are: none")


def test_a_server_that_is_no_api_server_is_told(tmp_path: Path) -> None:
    for answer in (Answer(200, b"<html>"), as_json([]), Answer(404, b"no such page")):
        with Loopback(lambda _, answer=answer: answer) as server:  # type: ignore[misc]
            seen = check_cluster(kubeconfig(tmp_path, {"token": "t"}, server.url), ("legacy",), LIMITS)
        (error,) = seen.findings
        assert error.seen.startswith("what answers is hardly a Kubernetes API server")
        assert error.remedy == f"see what the server in the kubeconfig {tmp_path / 'kubeconfig'} names"


def test_an_api_server_that_fails_is_told(tmp_path: Path) -> None:
    for code in (429, 500, 503):
        with Loopback(lambda _, code=code: Answer(code, b"try again")) as server:  # type: ignore[misc]
            seen = check_cluster(kubeconfig(tmp_path, {"token": "t"}, server.url), ("legacy",), LIMITS)
        (error,) = seen.findings
        assert error.seen.endswith(f"fails: get its version: {code}: try again")


def test_who_may_not_discover_is_asked_for_the_rest(tmp_path: Path) -> None:
    def serve(request: Request) -> Answer:
        if request.method == "POST":
            return as_json({"status": {"allowed": True}})
        refusal = {"kind": "Status", "reason": "Forbidden", "message": "no"}
        return as_json(refusal, 403)

    with Loopback(serve) as server:
        seen = check_cluster(kubeconfig(tmp_path, {"token": "t"}, server.url), ("legacy",), LIMITS)
    assert {finding.level for finding in seen.findings} == {Level.OK, Level.NOTE}
    told = [finding.seen for finding in seen.findings]
    assert "did not look whether networking.istio.io is served: it may not discover" in told
    assert told[2].startswith("may get, list, watch, create, update, delete serviceentries and workloadentries")


def test_old_definitions_of_istio_are_told(tmp_path: Path) -> None:
    def serve(request: Request) -> Answer:
        if request.path == "/apis/networking.istio.io":
            return as_json({"versions": [{"version": "v1beta1"}, {"version": "v1alpha3"}]})
        return as_json({"gitVersion": "v1.30.0", "status": {}})

    with Loopback(serve) as server:
        seen = check_cluster(kubeconfig(tmp_path, {"token": "t"}, server.url), ("legacy",), LIMITS)
    error = only(list(seen.findings), Level.ERROR)
    assert error.seen == "networking.istio.io is served as v1beta1, v1alpha3, and not as v1"
    assert "install Istio's CRDs, 1.24 or newer" in error.remedy


def test_an_empty_registry_is_told(tmp_path: Path) -> None:
    with EmbeddedRegistry() as registry:
        empty(registry)
        warning = only(found(tmp_path, url=registry.url), Level.WARNING)
    assert warning.seen == "no service in scope is registered (*): nothing will be published"
