"""The control socket: what a person may ask of an agent that runs, and have it do.

HTTP on a unix socket; file permissions say who may. ``GET /v1/status`` and
``GET /v1/holds`` answer what ``agent.report`` and ``agent.holds`` describe;
``POST /v1/accept`` takes ``{"name": NAME, "hold": HOLD}`` and answers
``{"accepted": NUMBER, "still_held": NUMBER}``. Every error is ``{"error": SENTENCE}``.
"""

import logging
import socket
import threading
from contextlib import suppress
from pathlib import Path
from stat import S_ISSOCK
from typing import Any

from flask import Flask, request
from waitress.server import create_server
from waitress.wasyncore import close_all
from werkzeug.exceptions import HTTPException

from agent.daemon import Agent
from agent.holds import accepts, holds
from agent.report import identity, status
from state.errors import IsthmusError, RegistryError, StateError

logger = logging.getLogger(__name__)

MODE = 0o660
THREADS = 4
LARGEST_BODY = 4096  # bytes
PATIENCE = 5.0  # seconds for requests in flight at the end, and for deletions that were accepted

Answer = tuple[dict[str, Any], int] | dict[str, Any]


class RefusedError(IsthmusError):
    """A request that cannot be carried out; ``code`` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def create_app(agent: Agent) -> Flask:
    """Return the application that answers for an agent."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider
    one_at_a_time = threading.Lock()

    @app.get("/v1/status")
    def show_status() -> Answer:
        return status(agent)

    @app.get("/v1/holds")
    def show_holds() -> Answer:
        return {**identity(agent.config), "running": True, "holds": holds(agent)}

    @app.post("/v1/accept")
    def accept() -> Answer:
        name, hold = _asked(request.get_json(force=True))
        with one_at_a_time:
            return _accept(agent, name, hold)

    app.register_error_handler(HTTPException, _refuse)
    app.register_error_handler(IsthmusError, _explain)
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


def _refuse(error: HTTPException) -> Answer:
    return {"error": error.description or error.name}, error.code or 500


def _explain(error: IsthmusError) -> Answer:
    if isinstance(error, RefusedError):
        return {"error": str(error)}, error.code
    return {"error": str(error)}, 500 if isinstance(error, StateError) else 502


class ControlServer:
    """Serves the control socket in threads of its own; an agent without one is better than none."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._path = agent.config.control
        self._inode = 0
        self._channels: dict[int, Any] = {}
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Listen, and tell whether that can be done; why not is logged."""
        try:
            listening = _bind(self._path)
        except OSError as error:
            why = error.strerror or str(error)
            logger.error("control socket %s: %s; status, holds and accept cannot reach this agent", self._path, why)
            return False
        self._inode = self._path.stat().st_ino
        self._server = create_server(
            create_app(self._agent),
            map=self._channels,
            sockets=[listening],
            threads=THREADS,
            connection_limit=32,
            channel_timeout=30,
            max_request_body_size=LARGEST_BODY,
            ident=None,
            clear_untrusted_proxy_headers=True,
        )
        self._thread = threading.Thread(target=self._server.run, name="control", daemon=True)
        self._thread.start()
        return True

    def stop(self) -> None:
        """Close the socket and every connection, and remove the file if it is still ours."""
        if self._thread is None:
            return
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        # In the thread that waits on them: closing what another one selects on would confuse it.
        with suppress(OSError):  # it may hear of it, and close the trigger, before we have pulled it
            self._server.trigger.pull_trigger(lambda: close_all(self._channels))
        self._thread.join(PATIENCE)
        self._server.task_dispatcher.shutdown(timeout=PATIENCE)
        self._thread = None


def _bind(path: Path) -> socket.socket:
    """Return a socket bound to a path, in place of one that nobody answers any more; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if _is_answered(path):
        raise OSError(0, "another agent answers there")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        path.chmod(MODE)  # nobody can connect before it listens
    except OSError:
        bound.close()
        raise
    return bound


def _is_answered(path: Path) -> bool:
    """Tell whether somebody answers at a socket; a file that nobody answers at is removed."""
    try:
        if not S_ISSOCK(path.lstat().st_mode):
            return False  # binding fails, and says so
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return False
        except BlockingIOError:  # its queue is full: somebody is there
            return True
    return True
