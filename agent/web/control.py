"""The control socket: what a person may ask of an agent that runs, and have it do.

HTTP on a unix socket; file permissions say who may. ``GET /v1/status`` and
``GET /v1/holds`` answer what ``agent.report`` and ``agent.holds`` describe;
``POST /v1/accept`` takes ``{"name": NAME, "hold": HOLD, "shown": DIGEST}``, the last two
if need be, and answers ``{"accepted": NUMBER, "still_held": NUMBER}``, or 409 when another
digest than that of ``agent.holds.shown`` was agreed to. ``POST /v1/pause`` and ``POST /v1/resume``
take ``{"name": CLUSTER}`` and answer ``{"paused": BOOLEAN, "pending": NUMBER, "writing":
NUMBER}``: how much waits, and is being written. Every error is ``{"error": SENTENCE}``,
and 503 while the agent is replaced by one with another configuration.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from flask import Flask, request

from agent.daemon import Agent
from agent.holds import accepts, holds, shown
from agent.report import identity, status
from agent.web.answers import Answer, RefusedError, new_app
from agent.web.asking import add_questions
from agent.web.serving import OptionalServer
from hooks.receiver import ReceiverReport
from hooks.server import bind_unix
from state.errors import RegistryError

MODE = 0o660
LARGEST_BODY = 4096  # bytes
PATIENCE = 5.0  # seconds for deletions that were accepted, and for writes that had begun before a pause


def _no_receiver() -> None:
    """Tell what was called without a receiver."""


def create_app(current: Callable[[], Agent], receiver: Callable[[], ReceiverReport | None] = _no_receiver) -> Flask:
    """Return the application that answers for the agent that is the current one."""
    app = new_app(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    one_at_a_time, pausing = threading.Lock(), threading.Lock()  # a pause waits for no pass of a registry
    add_questions(app, current)

    @app.get("/v1/status")
    def show_status() -> Answer:
        return status(current(), receiver())

    @app.get("/v1/holds")
    def show_holds() -> Answer:
        agent = current()
        return {**identity(agent.config), "running": True, "holds": holds(agent)}

    @app.post("/v1/accept")
    def accept() -> Answer:
        name, hold, agreed = _asked(request.get_json(force=True), "name", "hold", "shown")
        with one_at_a_time:
            return _accept(current(), name, hold, agreed)

    @app.post("/v1/pause")
    def pause() -> Answer:
        (name,) = _asked(request.get_json(force=True), "name")
        with pausing:
            return _pause(current, name, paused=True)

    @app.post("/v1/resume")
    def resume() -> Answer:
        (name,) = _asked(request.get_json(force=True), "name")
        with pausing:
            return _pause(current, name, paused=False)

    return app


def _asked(body: object, *fields: str) -> tuple[str, ...]:
    """Return the texts of a body; the first one must be there."""
    names = " and ".join(fields)
    if not isinstance(body, dict) or not body.keys() <= set(fields):
        raise RefusedError(400, f"the body must be an object of {names}, not {body!r}")
    values = [body.get(field, "" if number else None) for number, field in enumerate(fields)]
    if not values[0] or not all(isinstance(value, str) for value in values):
        texts = "texts" if len(fields) > 1 else "a text"
        raise RefusedError(400, f"{names} must be {texts}, not {' and '.join(map(repr, values))}")
    return tuple(map(str, values))


def _pause(current: Callable[[], Agent], name: str, *, paused: bool) -> Answer:
    agent = current()
    while True:
        if name not in agent.lanes:
            raise RefusedError(404, f"there is no cluster {name!r}; known are: {', '.join(agent.lanes)}")
        agent.pause(name, paused=paused)
        if (now := current()) is agent:
            break
        agent = now  # a reload has made it, perhaps of what was remembered before
    lane = agent.lanes[name]
    if paused:
        lane.settle(PATIENCE)
    report = lane.report()
    return {"paused": paused, "pending": report.pending, "writing": report.planned}


def _accept(agent: Agent, name: str, hold: str, agreed: str) -> Answer:
    if name not in agent.loops and name not in agent.lanes:
        known = ", ".join([*agent.loops, *agent.lanes])
        raise RefusedError(404, f"there is no registry or cluster {name!r}; known are: {known}")
    rows = {row["hold"]: row for row in holds(agent) if row["name"] == name and accepts(row)}
    names = rows.keys()
    if names and hold and hold not in names:
        raise RefusedError(404, f"{name} has no hold {hold!r}; known are: {', '.join(sorted(names))}")
    asked = {hold} & names if hold else set(names)
    if not asked:
        return {"accepted": 0, "still_held": 0}
    if agreed and agreed != shown(rows[one] for one in asked):
        raise RefusedError(409, f"{name} does not hold any more what was shown: nothing is accepted, look at it again")
    if name in agent.loops and (error := agent.loops[name].report().error):
        raise RegistryError(f"registry {name} cannot be read now, so nothing is accepted: {error}")
    accepted = agent.accept(name, hold)
    if name in agent.lanes:
        agent.lanes[name].settle(PATIENCE)
    still = {row["hold"] for row in holds(agent) if row["name"] == name}
    return {"accepted": accepted, "still_held": len(asked & still)}


class ControlServer(OptionalServer):
    """Serves the control socket."""

    def __init__(
        self,
        current: Callable[[], Agent],
        path: Path,
        receiver: Callable[[], ReceiverReport | None] = _no_receiver,
    ) -> None:
        """``current`` returns the agent that serves now, or raises ReloadingError."""
        super().__init__(
            "control",
            create_app(current, receiver),
            lambda: bind_unix(path, MODE),
            largest_body=LARGEST_BODY,
            where=f"control socket {path}",
            loss="status, holds, accept, pause and resume cannot reach this agent",
        )
