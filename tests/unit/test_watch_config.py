import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.cli import main
from agent.demo.registry import EmbeddedRegistry, Trouble
from hooks import send
from tests.dc import REGISTRY, configured

RECEIVER = {"socket": "hook.sock", "http": "127.0.0.1:9411", "token_file": "hook.token"}
TOKEN = "sesame"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hook.token").write_text(f"{TOKEN}\nthe-old-one\n")
    (tmp_path / "consul.token").write_text("registry-secret")
    return tmp_path


def run(folder: Path, *arguments: str, url: str = "http://127.0.0.1:1", **changes: Any) -> Result:
    changes = {"receiver": RECEIVER, **changes}
    configured(folder, url, **changes)
    return CliRunner().invoke(main, ["watch-config", "--config", str(folder / "isthmus.yaml"), *arguments])


def watches(answer: Result) -> list[dict[str, Any]]:
    assert answer.exit_code == 0, answer.output
    content = json.loads(answer.stdout)
    assert content.keys() == {"watches"}
    found: list[dict[str, Any]] = content["watches"]
    return found


def script(folder: Path, *called: str) -> dict[str, Any]:
    socket = str(folder / "hook.sock")
    args = [sys.executable, "-I", "-S", send.__file__, "--socket", socket, REGISTRY, *called]
    return {"handler_type": "script", "args": args}


def http(path: str) -> dict[str, Any]:
    return {
        "handler_type": "http",
        "http_handler_config": {
            "path": f"http://127.0.0.1:9411/v1/consul/{REGISTRY}/{path}",
            "method": "POST",
            "header": {"Authorization": [f"Bearer {TOKEN}"]},
            "timeout": "2s",
        },
    }


def test_a_script_is_started_for_what_a_registry_tells_at_large(folder: Path) -> None:
    answer = run(folder, REGISTRY, "--handler", "script")
    assert watches(answer) == [
        {"type": "services", **script(folder, "services")},
        {"type": "nodes", **script(folder, "nodes")},
        {"type": "checks", "state": "critical", **script(folder, "checks")},
        {"type": "checks", "state": "warning", **script(folder, "checks")},
    ]
    assert answer.stderr == ""
    assert TOKEN not in answer.output


def test_http_calls_carry_the_first_token_and_that_is_said(folder: Path) -> None:
    answer = run(folder, REGISTRY, "--handler", "http")
    assert watches(answer) == [
        {"type": "services", **http("services")},
        {"type": "nodes", **http("nodes")},
        {"type": "checks", "state": "critical", **http("checks")},
        {"type": "checks", "state": "warning", **http("checks")},
    ]
    said = f"This contains the token from {folder / 'hook.token'}: nobody but Consul should be able to read it.\n"
    assert answer.stderr == said


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        (["orders"], ["orders"]),
        (["o*", "ord*"], ["orders"]),
        (["*"], ["lost", "orders", "web"]),
        (["w?b", "lost"], ["lost", "web"]),
    ],
)
def test_each_service_that_matches_gets_a_watch_of_its_own(
    registry: EmbeddedRegistry, folder: Path, globs: list[str], names: list[str]
) -> None:
    options = [word for glob in globs for word in ("--service", glob)]
    answer = run(folder, REGISTRY, "--handler", "script", *options, url=registry.url)
    assert watches(answer)[4:] == [
        {"type": "service", "service": name, **script(folder, "service", name)} for name in names
    ]
    assert answer.stderr == ""


def test_only_services_in_scope_are_watched(registry: EmbeddedRegistry, folder: Path) -> None:
    scope = {"type": "consul", "url": registry.url, "services": ["o*"], "probe": "orders"}
    answer = run(folder, REGISTRY, "--handler", "script", "--service", "*", registries={REGISTRY: scope})
    assert [watch["service"] for watch in watches(answer)[4:]] == ["orders"]


def test_a_glob_that_matches_nothing_is_said(registry: EmbeddedRegistry, folder: Path) -> None:
    answer = run(folder, REGISTRY, "--handler", "script", "--service", "payments", "--service", "web", url=registry.url)
    assert len(watches(answer)) == 5
    assert answer.stderr == f"no service of {REGISTRY} that is in scope matches 'payments'\n"


def test_any_name_survives_the_way_through_consul(registry: EmbeddedRegistry, folder: Path) -> None:
    for name in ("My Svc/1?#%", "€", "a//b"):
        registry.register(name, name, "node-1", 80)
    answer = run(folder, REGISTRY, "--handler", "http", "--service", "[Ma€]*", url=registry.url)
    assert watches(answer)[4:] == [
        {"type": "service", "service": "My Svc/1?#%", **http("service/My%20Svc%2F1%3F%23%25")},
        {"type": "service", "service": "€", **http("service/%E2%82%AC")},
    ]
    assert "service 'a//b' is left out: no URL can carry this name" in answer.stderr
    answer = run(folder, REGISTRY, "--handler", "script", "--service", "[M€]*", url=registry.url)
    assert [watch["args"][-1] for watch in watches(answer)[4:]] == ["My Svc/1?#%", "€"]


def test_a_datacenter_is_watched_where_one_is_configured(folder: Path) -> None:
    other = {"type": "consul", "url": "http://127.0.0.1:1", "datacenter": "dc7"}
    answer = run(folder, REGISTRY, "--handler", "script", registries={REGISTRY: other})
    assert {watch["datacenter"] for watch in watches(answer)} == {"dc7"}


def test_the_registrys_own_token_stays_where_it_is_and_that_is_said(folder: Path) -> None:
    guarded = {"type": "consul", "url": "http://127.0.0.1:1", "token_file": "consul.token"}
    answer = run(folder, REGISTRY, "--handler", "http", registries={REGISTRY: guarded})
    assert {key for watch in watches(answer) for key in watch} == {
        "type",
        "state",
        "handler_type",
        "http_handler_config",
    }
    assert "registry-secret" not in answer.output
    assert f"These watches do not use {folder / 'consul.token'}: Consul runs them under acl.tokens" in answer.stderr


def test_more_watches_than_consul_has_connections_for_are_warned_of(registry: EmbeddedRegistry, folder: Path) -> None:
    for number in range(97):
        registry.register(f"batch-{number}", f"batch-{number}", "node-1", 80)
    answer = run(folder, REGISTRY, "--handler", "script", "--service", "batch*", url=registry.url)
    assert len(watches(answer)) == 101
    assert "These are 101 watches, and each holds one of the connections" in answer.stderr
    assert "limits.http_max_conns_per_client, 200 by default" in answer.stderr


def test_an_ipv6_address_stands_in_brackets(folder: Path) -> None:
    answer = run(folder, REGISTRY, "--handler", "http", receiver={**RECEIVER, "http": "[::1]:9411"})
    path = watches(answer)[0]["http_handler_config"]["path"]
    assert path == f"http://[::1]:9411/v1/consul/{REGISTRY}/services"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([REGISTRY], "Missing option '--handler'"),
        (["--handler", "script"], "Missing argument 'REGISTRY'"),
        (["consul-dc9", "--handler", "script"], f"There is no registry 'consul-dc9'. Known are: {REGISTRY}"),
        (["east", "--handler", "script"], "There is no registry 'east'"),
        ([REGISTRY, "--handler", "shell"], "'shell' is not one of 'script', 'http'"),
    ],
)
def test_wrong_usage_is_2(folder: Path, arguments: list[str], words: str) -> None:
    answer = run(folder, *arguments)
    assert answer.exit_code == 2
    assert words in answer.stderr
    assert answer.stdout == ""


@pytest.mark.parametrize(
    ("receiver", "handler", "words"),
    [
        (None, "script", "receiver.socket: is required for --handler script"),
        (None, "http", "receiver.http: is required for --handler http, and token_file beside it"),
        ({"socket": "hook.sock"}, "http", "receiver.http: is required for --handler http"),
        ({**RECEIVER, "socket": None}, "script", "receiver.socket: is required for --handler script"),
        ({**RECEIVER, "token_file": "nowhere"}, "http", "nowhere cannot be read: No such file or directory"),
        ({**RECEIVER, "token_file": "east"}, "http", "east cannot be read: Is a directory"),
        ({**RECEIVER, "token_file": "empty"}, "http", "empty is empty"),
        ({**RECEIVER, "token_file": "odd"}, "http", "odd, line 2: a token is one word of ASCII"),
    ],
)
def test_what_is_not_configured_is_10_and_names_the_key(
    folder: Path, receiver: dict[str, Any] | None, handler: str, words: str
) -> None:
    (folder / "east").mkdir()
    (folder / "empty").write_text("\n")
    (folder / "odd").write_text("one\ntwo words\n")
    given = receiver and {key: value for key, value in receiver.items() if value is not None}
    answer = run(folder, REGISTRY, "--handler", handler, receiver=given)
    assert answer.exit_code == 10
    assert words in answer.stderr
    assert "two words" not in answer.output
    assert answer.stdout == ""


def test_names_that_cannot_be_read_are_1_and_nothing_is_printed(registry: EmbeddedRegistry, folder: Path) -> None:
    registry.trouble("*", Trouble.ERROR)
    answer = run(folder, REGISTRY, "--handler", "script", "--service", "*", url=registry.url)
    assert answer.exit_code == 1
    assert f"{REGISTRY}: /v1/catalog/services: answered 500" in answer.stderr
    assert answer.stdout == ""


def test_a_eureka_has_no_watches_and_that_is_said(folder: Path) -> None:
    eureka = {"type": "eureka", "urls": ["http://127.0.0.1:1/eureka"], "poll": "2s"}
    answer = run(folder, "eureka-dc1", "--handler", "script", registries={"eureka-dc1": eureka})
    assert answer.exit_code == 2
    assert "'eureka-dc1' is a Eureka, which has no watches: it is polled, every 2 s" in answer.stderr
    assert answer.stdout == ""
