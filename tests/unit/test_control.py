import logging
import os
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.cli.asking import NoAgentError, ask, ask_ours
from agent.daemon import Agent
from agent.demo.registry import EmbeddedRegistry, Trouble
from agent.holds import deletions_name, holds, shown
from agent.report import status
from agent.web.control import ControlServer, create_app
from tests.dc import REGISTRY, configured
from tests.testbed.processes import wait_until
from tests.unit.live import agent_on, ok, start, wipe

Client = Any  # Flask's


@pytest.fixture
def client(agent: Agent) -> Client:
    return create_app(lambda: agent).test_client()


def rows(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/holds").json["holds"]
    return found


def test_status_and_holds_are_answered_as_the_reports_say(
    agent: Agent, registry: EmbeddedRegistry, client: Client
) -> None:
    assert client.get("/v1/status").json.keys() == status(agent).keys()
    assert client.get("/v1/holds").json["holds"] == []
    wipe(agent, registry)
    answer = client.get("/v1/holds").json
    assert (answer["owner"], answer["state"], answer["running"]) == ("dc1", str(agent.config.state), True)
    assert [row["hold"] for row in answer["holds"]] == [row["hold"] for row in holds(agent)]


def test_one_held_removal_can_be_accepted(agent: Agent, registry: EmbeddedRegistry, client: Client) -> None:
    names = [row["hold"] for row in wipe(agent, registry)]
    answer = client.post("/v1/accept", json={"name": REGISTRY, "hold": names[0]})
    assert (answer.status_code, answer.json) == (200, {"accepted": 1, "still_held": 0})
    assert {row["hold"] for row in holds(agent) if row["hold"]} == set(names[1:])


def test_all_held_removals_of_a_registry_can_be_accepted(
    agent: Agent, registry: EmbeddedRegistry, client: Client
) -> None:
    wipe(agent, registry)
    answer = client.post("/v1/accept", json={"name": REGISTRY})
    assert answer.json == {"accepted": 12, "still_held": 0}
    wait_until(lambda: not holds(agent), "grace is over")
    assert client.post("/v1/accept", json={"name": REGISTRY}).json == {"accepted": 0, "still_held": 0}


def test_what_was_not_shown_is_not_accepted_with_what_was(
    agent: Agent, registry: EmbeddedRegistry, client: Client
) -> None:
    before = wipe(agent, registry)
    body = {"name": REGISTRY, "shown": shown(before[:11])}
    refused = client.post("/v1/accept", json=body)
    assert refused.status_code == 409
    assert "look at it again" in refused.json["error"]
    assert len([row for row in holds(agent) if row["hold"]]) == 12
    answer = client.post("/v1/accept", json={**body, "hold": before[0]["hold"], "shown": shown(before[:1])})
    assert answer.json == {"accepted": 1, "still_held": 0}


def test_withheld_deletions_of_a_cluster_can_be_accepted(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with agent_on(tmp_path, registry) as agent:
        start(agent)
    with agent_on(tmp_path, registry, domain="other.internal") as agent:
        agent.start()
        wait_until(lambda: len(holds(agent)) == 2, "deletions are withheld")
        client = create_app(lambda: agent).test_client()
        (row,) = (row for row in rows(client) if row["name"] == "east")
        assert len(row["objects"]) == 12
        hold = deletions_name("east")
        assert client.post("/v1/accept", json={"name": "east", "hold": "12345678"}).status_code == 404
        assert client.post("/v1/accept", json={"name": "east", "hold": hold}).json == {"accepted": 12, "still_held": 0}
        wait_until(lambda: ok(agent, "east") and [row["name"] for row in holds(agent)] == ["west"], "east is done")


def test_a_cluster_is_paused_and_resumed_and_the_others_are_not(
    agent: Agent, registry: EmbeddedRegistry, client: Client
) -> None:
    answer = client.post("/v1/pause", json={"name": "east"})
    assert (answer.status_code, answer.json) == (200, {"paused": True, "pending": 0, "writing": 0})
    registry.register("orders", "orders-9", "node-1", 8080, address="10.1.0.9")
    wait_until(lambda: ok(agent, "west") and status(agent)["clusters"]["east"]["pending"] == 1, "west has it")
    shown = status(agent)["clusters"]["east"]
    assert (shown["state"], shown["paused"], shown["policy"]) == ("paused", True, "sync")
    assert not [path for path in (agent.config.state.parent / "east").rglob("*.yaml") if "10.1.0.9" in path.read_text()]
    assert client.post("/v1/pause", json={"name": "east"}).json == {"paused": True, "pending": 1, "writing": 0}
    assert client.post("/v1/resume", json={"name": "east"}).json["paused"] is False
    wait_until(lambda: ok(agent, "east"), "east has it, too")

    def as_many() -> bool:
        shown = status(agent)["clusters"]
        return bool(shown["east"]["objects"] == shown["west"]["objects"])

    wait_until(as_many, "both have as many objects")


def test_a_pause_outlives_the_agent_and_so_does_its_end(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with agent_on(tmp_path, registry) as agent:
        create_app(lambda: agent).test_client().post("/v1/pause", json={"name": "east"})
    with agent_on(tmp_path, registry) as agent:
        agent.start()
        wait_until(lambda: ok(agent, "west") and status(agent)["clusters"]["east"]["pending"] == 15, "west has all")
        assert not (tmp_path / "east").exists()
        create_app(lambda: agent).test_client().post("/v1/resume", json={"name": "east"})
        wait_until(lambda: ok(agent, "east"), "east has all")
    with agent_on(tmp_path, registry) as agent:
        start(agent)
        assert not agent.lanes["east"].report().paused


def test_an_agent_that_a_reload_has_made_meanwhile_is_paused_as_well(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    with agent_on(tmp_path, registry) as old, agent_on(tmp_path / "new", registry) as new:
        agents = iter([old, new])  # whoever asks again is given the new one
        client: Client = create_app(lambda: next(agents, new)).test_client()
        assert client.post("/v1/pause", json={"name": "east"}).json["paused"] is True
        assert new.lanes["east"].report().paused


@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"[]", 400, "the body must be an object of name, not []"),
        (b'{"name": "east", "hold": ""}', 400, "the body must be an object of name, not "),
        (b'{"name": ["east"]}', 400, "name must be a text, not ['east']"),
        (b'{"name": "consul-dc1"}', 404, "there is no cluster 'consul-dc1'; known are: east, west"),
    ],
)
def test_a_pause_of_nothing_is_told_what_is_wrong(
    client: Client, verb: str, body: bytes, code: int, words: str
) -> None:
    answer = client.post(f"/v1/{verb}", data=body)
    assert answer.status_code == code
    assert answer.json["error"].startswith(words)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", 400, ""),
        (b"{", 400, ""),
        (b"[]", 400, "the body must be an object of name and hold and shown, not []"),
        (b'{"name": "x", "yes": true}', 400, "the body must be an object of name and hold"),
        (b'{"name": 1}', 400, "name and hold and shown must be texts, not 1 and '' and ''"),
        (b'{"name": "", "hold": ""}', 400, "name and hold and shown must be texts"),
        (b'{"name": "nobody"}', 404, "there is no registry or cluster 'nobody'; known are: consul-dc1, east, west"),
        (b'{"name": "east", "hold": "' + b"x" * 5000 + b'"}', 413, ""),
    ],
)
def test_a_request_that_is_wrong_is_told_what_is_wrong(client: Client, body: bytes, code: int, words: str) -> None:
    answer = client.post("/v1/accept", data=body)
    assert answer.status_code == code
    assert answer.json["error"].startswith(words)


def test_an_unknown_hold_is_told_the_known_ones(agent: Agent, registry: EmbeddedRegistry, client: Client) -> None:
    names = sorted(row["hold"] for row in wipe(agent, registry))
    answer = client.post("/v1/accept", json={"name": REGISTRY, "hold": "nothing"})
    assert answer.status_code == 404
    assert answer.json["error"] == f"{REGISTRY} has no hold 'nothing'; known are: {', '.join(names)}"


def test_nothing_is_accepted_from_a_registry_that_cannot_be_read(
    agent: Agent, registry: EmbeddedRegistry, client: Client
) -> None:
    wipe(agent, registry)
    registry.trouble("*", Trouble.ERROR)
    wait_until(lambda: status(agent)["registries"][REGISTRY]["state"] == "unreadable", "the registry is unreadable")
    answer = client.post("/v1/accept", json={"name": REGISTRY})
    assert answer.status_code == 502
    assert "cannot be read now, so nothing is accepted" in answer.json["error"]
    assert len(holds(agent)) == 12


@pytest.mark.parametrize(("path", "code"), [("/", 404), ("/v1/accept", 405)])
def test_any_other_request_is_refused_in_json(client: Client, path: str, code: int) -> None:
    answer = client.get(path)
    assert answer.status_code == code
    assert answer.json["error"]


def test_the_socket_is_for_owner_and_group_and_goes_with_the_server(agent: Agent) -> None:
    path = agent.config.control
    server = ControlServer(lambda: agent, agent.config.control)
    before = set(threading.enumerate())
    assert server.start()
    ours = {thread for thread in threading.enumerate() if thread.name.startswith(("control", "waitress"))} - before
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert ask_ours(agent.config, "/v1/status")["owner"] == "dc1"
    server.stop()
    assert not path.exists()
    assert ours
    wait_until(lambda: not ours & set(threading.enumerate()), "all threads of the server end")
    with pytest.raises(NoAgentError, match="No such file"):
        ask(agent.config, "/v1/status")


def test_a_server_ends_while_a_client_is_connected(agent: Agent) -> None:
    server = ControlServer(lambda: agent, agent.config.control)
    server.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(str(agent.config.control))
        client.sendall(b"POST /v1/accept HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
        server.stop()
        with suppress(ConnectionResetError):
            assert client.recv(10) == b""


def test_a_folder_for_the_socket_is_made(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with agent_on(tmp_path, registry, control="run/isthmus/c.sock") as agent:
        server = ControlServer(lambda: agent, agent.config.control)
        assert server.start()
        server.stop()
    assert (tmp_path / "run/isthmus").is_dir()


def test_a_socket_that_nobody_answers_at_is_replaced(agent: Agent) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_over:
        left_over.bind(str(agent.config.control))
    server = ControlServer(lambda: agent, agent.config.control)
    assert server.start()
    assert ask(agent.config, "/v1/status").code == 200
    server.stop()


def test_a_socket_that_another_agent_answers_at_is_not_stolen(
    agent: Agent, registry: EmbeddedRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = ControlServer(lambda: agent, agent.config.control)
    server.start()
    with agent_on(tmp_path / "other", registry, control=str(agent.config.control), owner="dc9") as other:
        second = ControlServer(lambda: other, other.config.control)
        assert not second.start()
        assert "another agent answers there" in caplog.text
        second.stop()
        with pytest.raises(NoAgentError, match="is another one: its owner is dc1, its state file"):
            ask_ours(other.config, "/v1/status")
    assert ask_ours(agent.config, "/v1/status")["owner"] == "dc1"
    server.stop()


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ("isthmus.yaml", "Address already in use"),
        ("isthmus.yaml/c.sock", "File exists"),
        (f"{'x' * 120}.sock", "AF_UNIX path too long"),
    ],
)
def test_an_agent_does_without_a_socket_that_it_cannot_have(
    registry: EmbeddedRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture, control: str, words: str
) -> None:
    with agent_on(tmp_path, registry, control=control) as agent:
        server = ControlServer(lambda: agent, agent.config.control)
        with caplog.at_level(logging.ERROR):
            assert not server.start()
        server.stop()
    assert words in caplog.text
    assert (tmp_path / "isthmus.yaml").is_file()


def test_a_socket_that_came_in_the_place_of_ours_is_left_alone(agent: Agent) -> None:
    server = ControlServer(lambda: agent, agent.config.control)
    server.start()
    path = agent.config.control
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        server.stop()
        assert path.exists()
    os.unlink(path)


def test_what_answers_but_is_no_isthmus_is_no_agent(tmp_path: Path) -> None:
    config = configured(tmp_path, "http://127.0.0.1:1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(config.control))
        listening.listen()

        def answer(body: bytes) -> None:
            for _ in range(2):  # it is knocked at before it is asked
                connection, _address = listening.accept()
                with connection:
                    if connection.recv(4096):
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        for body, words in ((b"[1]", "is no isthmus"), (b"<html>", "no agent answers"), (b"{}", "is another one")):
            thread = threading.Thread(target=answer, args=(body,))
            thread.start()
            with pytest.raises(NoAgentError, match=words):
                ask_ours(config, "/v1/status")
            thread.join()


def test_the_answer_is_the_same_over_the_socket(agent: Agent) -> None:
    server = ControlServer(lambda: agent, agent.config.control)
    server.start()
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(agent.config.control)), base_url="http://isthmus", trust_env=False
    ) as client:
        wrong = client.post("/v1/accept", json={"name": "nobody"})
        big = client.post("/v1/accept", content=b"x" * 100_000)
    server.stop()
    assert wrong.status_code == 404
    assert "known are" in wrong.json()["error"]
    assert big.status_code == 413
