"""What may be asked of an agent and changes nothing: why something is as it is, and what was written.

``GET /v1/explain?what=WHAT`` answers what ``agent.explain`` describes, ``GET /v1/history?host=HOST&most=NUMBER``
what ``agent.chronicle`` does.
"""

from collections.abc import Callable

from flask import Flask, request

from agent.chronicle import MOST, chronicle
from agent.daemon import Agent
from agent.explain import explain
from agent.report import identity
from agent.web.answers import Answer, RefusedError

LONGEST = 1024  # characters of what may be asked for


def add_questions(app: Flask, current: Callable[[], Agent]) -> None:
    """Let an application answer questions about the agent that is the current one."""

    @app.get("/v1/explain")
    def show_why() -> Answer:
        return explain(current(), _text("what"))

    @app.get("/v1/history")
    def show_history() -> Answer:
        agent, most = current(), request.args.get("most", "100")
        if not (most.isascii() and most.isdigit() and 0 < int(most[:7]) <= MOST):
            raise RefusedError(400, f"most must be a number from 1 to {MOST}, not {most[:LONGEST]!r}")
        host = _text("host", needed=False)
        return {**identity(agent.config), "running": True, **chronicle(agent.checkpoint, host, int(most))}


def _text(name: str, *, needed: bool = True) -> str:
    text = request.args.get(name, "").strip()
    if needed and not text:
        raise RefusedError(400, f"{name} is missing: name a service, a host or an ADDRESS:PORT")
    if len(text) > LONGEST:
        raise RefusedError(400, f"{name} is longer than {LONGEST} characters")
    return text
