"""The control socket: what a person may ask of an agent that runs, and have it do.

HTTP on a unix socket; file permissions say who may. ``GET /v1/status`` and
``GET /v1/holds`` answer what ``agent.report`` and ``agent.holds`` describe;
``POST /v1/accept`` takes ``{"name": NAME, "hold": HOLD}`` and answers
``{"accepted": NUMBER, "still_held": NUMBER}``. Every error is ``{"error": SENTENCE}``,
and 503 while the agent is replaced by one with another configuration.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from flask import Flask, request

from agent.daemon import Agent
from agent.holds import accepts, holds
from agent.report import identity, status
from agent.web.answers import Answer, RefusedError, new_app
from agent.web.serving import OptionalServer
from hooks.receiver import ReceiverReport
from hooks.server import bind_unix
from state.errors import RegistryError

MODE = 0o660
LARGEST_BODY = 4096  # bytes
PATIENCE = 5.0  # seconds for deletions that were accepted


def _no_receiver() -> None:
    """Tell what was called without a receiver."""


def create_app(current: Callable[[], Agent], receiver: Callable[[], ReceiverReport | None] = _no_receiver) -> Flask:
    """Return the application that answers for the agent that is the current one."""
    app = new_app(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    one_at_a_time = threading.Lock()

    @app.get("/v1/status")
    def show_status() -> Answer:
        return status(current(), receiver())

    @app.get("/v1/holds")
    def show_holds() -> Answer:
        agent = current()
        return {**identity(agent.config), "running": True, "holds": holds(agent)}

    @app.post("/v1/accept")
    def accept() -> Answer:
        name, hold = _asked(request.get_json(force=True))
        with one_at_a_time:
            return _accept(current(), name, hold)

    return app


def _asked(body: object) -> tuple[str, str]:
    if not isinstance(body, dict) or not body.keys() <= {"name", "hold"}:
        raise RefusedError(400, f"the body must be an object of name and hold, not {body!r}")
    name, hold = body.get("name"), body.get("hold", "")
    if not isinstance(name, str) or not isinstance(hold, str) or not name:
        raise RefusedError(400, f"name and hold must be texts, not {name!r} and {hold!r}")
    return name, hold


def _accept(agent: Agent, name: str, hold: str) -> Answer:
    if name not in agent.loops and name not in agent.lanes:
        known = ", ".join([*agent.loops, *agent.lanes])
        raise RefusedError(404, f"there is no registry or cluster {name!r}; known are: {known}")
    names = {row["hold"] for row in holds(agent) if row["name"] == name and accepts(row)}
    if names and hold and hold not in names:
        raise RefusedError(404, f"{name} has no hold {hold!r}; known are: {', '.join(sorted(names))}")
    asked = {hold} & names if hold else names
    if not asked:
        return {"accepted": 0, "still_held": 0}
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
            loss="status, holds and accept cannot reach this agent",
        )
