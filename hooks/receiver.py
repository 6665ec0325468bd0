"""The receiver: where Consul's watch handlers call, over a unix socket or on a loopback port.

``POST /v1/consul/REGISTRY/TYPE[/SERVICE]`` tells that something changed and is
answered at once: 202, or 413 to a body that is too large, which tells as much. No
body is read: a call is a hint to look, and whoever hears it asks the registry itself.
Over TCP a call needs a bearer token, and without one is answered 401 whatever it says;
the permissions of the socket's file say who may use that.
Source: https://developer.hashicorp.com/consul/docs/automate/watch.
"""

import logging
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from hooks.calls import LARGEST_BODY, CallChannel
from hooks.passed import place_of
from hooks.server import WebServer, bind_tcp, bind_unix
from hooks.settings import ReceiverSettings
from hooks.tokens import Tokens

logger = logging.getLogger(__name__)

Hear = Callable[[str, str, str], bool]  # registry, type, service; False where no such registry is known

MODE = 0o660
CONNECTIONS = 256  # on one socket: more than Consul has watches, and few of the files that a process may open
THREADS = 2
MOST_TOLD = 100  # different refusals that the log tells of
SHOWN = 80  # characters of a refused call's path


class Result(StrEnum):
    """What became of a call."""

    HEARD = "heard"
    TOO_LARGE = "too_large"  # and heard
    UNAUTHORISED = "unauthorised"
    UNKNOWN = "unknown"
    WRONG_METHOD = "wrong_method"
    FAILED = "failed"


TAKEN = (Result.HEARD, Result.TOO_LARGE)


class Called(NamedTuple):
    """What calls are counted by; of a call that was refused, neither registry nor type is believed."""

    registry: str
    kind: str
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverReport:
    """What was called; ``last`` is when each registry's last hint was heard, in monotonic seconds."""

    calls: Mapping[Called, int]
    last: Mapping[str, float]
    body_bytes: int  # all of them dropped
    faults: tuple[str, ...]  # why a socket or port is not served
    served: tuple[str, ...] = ()  # the sockets and ports that are


class Receiver:
    """Hears the calls of watch handlers; without a socket or port that it cannot have, it does without."""

    def __init__(self, settings: ReceiverSettings, hear: Hear, passed: Iterable[socket.socket] = ()) -> None:
        """``passed`` are unix sockets that systemd listens on for us, to be served whatever the settings say."""
        self._settings = settings
        self._passed = list(passed)
        self._hear = hear
        self._lock = threading.Lock()
        self._calls: Counter[Called] = Counter()
        self._last: dict[str, float] = {}
        self._body_bytes = 0
        self._told: set[str] = set()
        self._faults: list[str] = []
        self._served: list[str] = []
        self._servers: list[WebServer] = []

    def start(self) -> bool:
        """Listen, and tell whether that can be done everywhere; why not is logged."""
        path, listen, token_file = self._settings.socket, self._settings.http, self._settings.token_file
        places = self._serve_passed()
        if path is not None and not any(_is_same(path, place) for place in places):
            self._serve(str(path), lambda: bind_unix(path, MODE), None)
        if listen is not None and token_file is None:
            self._note_fault(f"port {listen[1]}: without a token_file whoever can connect could call")
        elif listen is not None and token_file is not None:
            self._serve(f"port {listen[1]} of {listen[0]}", lambda: bind_tcp(*listen), Tokens(token_file))
        return not self._faults

    def stop(self) -> None:
        """Close every socket and connection."""
        for server in self._servers:
            server.stop()
        if self._servers:
            heard = sum(number for called, number in self._calls.items() if called.result in TAKEN)
            logger.info("receiver: closed; calls heard in this life: %d", heard)
        self._servers.clear()
        self._served.clear()

    def report(self) -> ReceiverReport:
        """Return what was called until now."""
        with self._lock:
            return ReceiverReport(
                calls=dict(self._calls),
                last=dict(self._last),
                body_bytes=self._body_bytes,
                faults=tuple(self._faults),
                served=tuple(self._served),
            )

    def hear(self, registry: str, kind: str, service: str, size: int) -> Result:
        """Pass a hint on, and count it by what became of it; ``size`` is that of the body."""
        if not self._hear(registry, kind, service):
            self.refuse(Result.UNKNOWN, f"there is no registry {registry[:SHOWN]!r}")
            return Result.UNKNOWN
        result = Result.TOO_LARGE if size > LARGEST_BODY else Result.HEARD
        with self._lock:
            self._calls[Called(registry, kind, result)] += 1
            self._last[registry] = time.monotonic()
            self._body_bytes += size
        return result

    def refuse(self, result: Result, why: str = "") -> None:
        """Count a call that tells nothing; a reason that was not told before is logged."""
        with self._lock:
            self._calls[Called("", "", result)] += 1
            if not why or why in self._told or len(self._told) == MOST_TOLD:
                return
            self._told.add(why)
        logger.warning("receiver: a call is refused: %s", why)

    def _serve_passed(self) -> list[str]:
        """Serve what was passed, which a second start does not find again; return where that is."""
        places = []
        while self._passed:
            listening = self._passed.pop(0)
            places.append(place := place_of(listening))
            if not place.startswith("@") and not Path(place).is_socket():
                self._note_fault(f"{place}: the socket that systemd passed has lost its file: restart its socket unit")
            logger.info("receiver: serving %s, passed by systemd", place)
            self._serve_on(place, listening, None, ours=False)
        return places

    def _serve(self, where: str, bind: Callable[[], socket.socket], tokens: Tokens | None) -> None:
        try:
            listening = bind()
        except OSError as error:
            self._note_fault(f"{where}: {error.strerror or error}")
            return
        self._serve_on(where, listening, tokens)

    def _serve_on(self, where: str, listening: socket.socket, tokens: Tokens | None, *, ours: bool = True) -> None:
        server = WebServer(
            "receiver",
            create_app(self, tokens),
            listening,
            threads=THREADS,
            connections=CONNECTIONS,
            largest_body=sys.maxsize - 1,  # the channel judges
            channel=CallChannel,
            ours=ours,
        )
        server.start()
        self._servers.append(server)
        self._served.append(where)

    def _note_fault(self, fault: str) -> None:
        self._faults.append(fault)
        logger.error("receiver: %s; watch handlers cannot call there, and changes are found without them", fault)


def _is_same(path: Path, place: str) -> bool:
    """Tell whether a path leads to the same name in the same folder: `/var/run` is `/run`."""
    passed = Path(place)
    return path.name == passed.name and os.path.realpath(path.parent) == os.path.realpath(passed.parent)


class _Everything(BaseConverter):
    """The rest of a path, whatever it is: Consul takes any name for a service."""

    regex = "(?s:.+)"
    part_isolating = False


def create_app(receiver: Receiver, tokens: Tokens | None) -> Flask:
    """Return the application that answers calls, if there are tokens to those with one of them."""
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False
    app.url_map.converters["everything"] = _Everything

    def call(registry: str, kind: str = "service", service: str = "") -> Response:
        match receiver.hear(registry, kind, service, request.content_length or 0):
            case Result.UNKNOWN:
                return _answer(404, f"there is no registry {registry!r}")
            case Result.TOO_LARGE:
                return _answer(413, f"heard, but the body is larger than {LARGEST_BODY} bytes")
        return _answer(202)

    for rule in ("<any(services, nodes, checks):kind>", "service/<everything:service>"):
        path = f"/v1/consul/<registry>/{rule}"
        app.add_url_rule(path, path, call, methods=["POST"], provide_automatic_options=False)

    @app.before_request
    def authorise() -> Response | None:
        if tokens is None or tokens.allow(_bearer()):
            return None
        receiver.refuse(Result.UNAUTHORISED)
        return Response(status=401, headers={"WWW-Authenticate": "Bearer"})

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        code = error.code or 500
        result = {404: Result.UNKNOWN, 405: Result.WRONG_METHOD}.get(code, Result.FAILED)
        asked = f"{request.method} {request.path}"[:SHOWN]
        receiver.refuse(result, f"{asked!r} is no POST of /v1/consul/REGISTRY/TYPE[/SERVICE]" if code < 500 else "")
        return _answer(code, error.name)

    return app


def _bearer() -> bytes:
    """Return the token that a request carries, as its bytes came."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""


def _answer(code: int, sentence: str = "") -> Response:
    return Response(f"{sentence}\n" if sentence else "", status=code, mimetype="text/plain")
