import logging
import re
import socket
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.daemon import Agent
from agent.demo.registry import EmbeddedRegistry, Trouble
from agent.holds import holds
from agent.metrics import Metrics
from agent.report import status
from agent.web.status import StatusServer, create_app, health
from hooks.receiver import Called, ReceiverReport, Result
from state.errors import ReloadingError
from tests.dc import REGISTRY
from tests.testbed.processes import free_port, wait_until
from tests.unit.live import agent_on, start, wipe

Client = Any  # Flask's

PAGES = ("/", "/metrics", "/healthz", "/v1/status")
NASTY = '<script>alert("x")</script>\u202e{{7*7}}'


def no_receiver() -> None:
    """Tell what was called without a receiver."""


def client_of(agent: Agent, receiver: ReceiverReport | None = None) -> Client:
    return create_app(lambda: agent, "127.0.0.1", Metrics(), lambda: receiver).test_client()


@pytest.fixture
def client(agent: Agent) -> Client:
    return client_of(agent)


@pytest.fixture
def idle(registry: EmbeddedRegistry, tmp_path: Path) -> Iterator[Client]:
    """Of an agent that has not been started."""
    with agent_on(tmp_path, registry) as agent:
        yield client_of(agent)


class Page(HTMLParser):
    """A page's tags, what they name, and its text."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.named: list[str] = []
        self.text = ""
        answer = client.get("/")
        assert (answer.status_code, answer.mimetype) == (200, "text/html")
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.named += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text = re.sub(r"\s+", " ", f"{self.text} {data}")


def test_the_page_shows_what_status_shows(client: Client) -> None:
    text = Page(client).text
    for words in ("owner dc1", REGISTRY, "12 of 12", "east", "west", "Nothing waits.", "lost/node-1/lost-1"):
        assert words in text
    assert "Calls of watch handlers" not in text


def test_the_page_shows_what_waits_and_how_it_ends(agent: Agent, registry: EmbeddedRegistry, client: Client) -> None:
    wipe(agent, registry)
    text = Page(client).text
    for row in holds(agent):
        assert row["hold"] in text
        assert f"{row['service']}/{row['node']}/{row['id']}" in text
    assert "Only `isthmus accept consul-dc1` removes it" in text
    assert "10.1.0.1:8080" in text


def test_the_page_shows_withheld_deletions(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with agent_on(tmp_path, registry) as agent:
        start(agent)
    with agent_on(tmp_path, registry, domain="other.internal") as agent:
        agent.start()
        wait_until(lambda: len(holds(agent)) == 2, "deletions are withheld")
        text = Page(client_of(agent)).text
    assert "12 deletions: " in text


def test_the_page_shows_who_called(agent: Agent) -> None:
    calls = {Called("dc1", "service", Result.HEARD): 3, Called("", "", Result.UNAUTHORISED): 2}
    report = ReceiverReport(calls=calls, last={"dc1": time.monotonic()}, body_bytes=7, faults=("port 1: <no>",))
    text = Page(client_of(agent, report)).text
    for words in ("dc1 service heard 3", "- - unauthorised 2", "port 1: <no>"):
        assert words in text
    receiver = client_of(agent, report).get("/v1/status").json["receiver"]
    assert receiver["calls"][1] == {"registry": "dc1", "kind": "service", "result": "heard", "calls": 3}


def test_what_a_registry_names_is_text_and_nothing_else(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    registry.register(NASTY, NASTY, "node-1", 80, address="127.0.0.1", meta={"version": NASTY})
    with agent_on(tmp_path, registry) as agent:
        plain_page = Page(client_of(agent))
        start(agent)
        registry.trouble("*", Trouble.HTML)
        wait_until(lambda: status(agent)["registries"][REGISTRY]["error"] != "", "the registry is unreadable")
        page = Page(client_of(agent))
    assert '<script>alert("x")</script>\\u202e{{7*7}}' in page.text
    assert "\u202e" not in page.text
    assert set(page.tags) <= set(plain_page.tags) | {"ul", "li", "h3", "p"}
    assert set(page.named) <= {"lang", "charset", "name", "content", "class"}


def test_the_page_needs_nothing_from_elsewhere_and_may_load_nothing(client: Client) -> None:
    answer = client.get("/")
    assert not re.search(r"(src|href|action)\s*=|url\(|@import", answer.text)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_status_is_answered_as_the_report_says(agent: Agent, client: Client) -> None:
    assert client.get("/v1/status").json.keys() == status(agent).keys()


def test_metrics_are_in_prometheus_own_format(client: Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert f'isthmus_endpoints{{registry="{REGISTRY}"}} 13.0' in answer.text.splitlines()


def test_a_process_in_which_everything_moves_is_alive(client: Client) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json == {
        "alive": True,
        "stuck": [],
        "registries": {REGISTRY: ""},
        "clusters": {"east": "", "west": ""},
    }


def test_a_registry_or_cluster_that_cannot_be_reached_is_no_reason_to_restart(
    registry: EmbeddedRegistry, client: Client
) -> None:
    registry.trouble("*", Trouble.ERROR)
    wait_until(lambda: client.get("/healthz").json["registries"][REGISTRY] != "", "the registry is unreadable")
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json["alive"]) == (200, True)


def test_a_process_in_which_something_is_stuck_says_what(agent: Agent) -> None:
    answer = health(agent, time.monotonic() + 10 * agent.config.limits.deadline)
    assert isinstance(answer, tuple)
    assert answer[1] == 503
    assert answer[0]["alive"] is False
    assert len(answer[0]["stuck"]) == len(set(answer[0]["stuck"])) >= 1


@pytest.mark.parametrize("path", PAGES)
def test_during_a_reload_nothing_is_told(path: str) -> None:
    def current() -> Agent:
        raise ReloadingError("isthmus is reloading")

    answer = create_app(current, "127.0.0.1", Metrics(), no_receiver).test_client().get(path)
    assert (answer.status_code, answer.json) == (503, {"error": "isthmus is reloading"})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", PAGES)
def test_nothing_can_be_done_there(idle: Client, path: str, method: str) -> None:
    assert idle.open(path, method=method).status_code == 405


@pytest.mark.parametrize("path", ["/v1/accept", "/v1/holds", "/static/x", "/status.html"])
def test_nothing_else_is_there(idle: Client, path: str) -> None:
    answer = idle.get(path)
    assert answer.status_code == 404
    assert answer.json["error"]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9412", "127.0.0.1:9412", "127.9.9.9", "[::1]:9412", "a.localhost"]
)
def test_whoever_asks_for_this_machine_is_answered(idle: Client, host: str) -> None:
    assert idle.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9412", "localhost.evil.example", "10.0.0.1", "[::1", "", "127.0.0.1.nip.io"]
)
@pytest.mark.parametrize("path", [*PAGES, "/nowhere"])
def test_whoever_asks_for_another_name_is_refused(idle: Client, path: str, host: str) -> None:
    answer = idle.get(path, headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json["error"].startswith("this is no server of the name")


def test_it_is_served_on_its_port_until_it_is_stopped(agent: Agent) -> None:
    port = free_port()
    server = StatusServer(lambda: agent, ("127.0.0.1", port), Metrics(), no_receiver)
    assert server.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        for path in PAGES:
            assert client.get(path).status_code == 200
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
    with socket.create_connection(("127.0.0.1", port)) as old:  # a client of HTTP/1.0 names no host
        old.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert old.recv(100).startswith(b"HTTP/1.0 200 OK")
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_an_agent_does_without_a_port_that_it_cannot_have(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = StatusServer(lambda: agent, ("127.0.0.1", port), Metrics(), no_receiver)
        with caplog.at_level(logging.ERROR):
            assert not server.start()
        server.stop()
    assert f"status: port {port} of 127.0.0.1: Address already in use" in caplog.text
