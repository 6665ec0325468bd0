"""The status server: a page, metrics and the process's health, for whoever can connect; nothing can be done there.

``GET /`` is a page for people, ``GET /metrics`` is for Prometheus, ``GET /v1/status``
answers what ``agent.report`` describes. ``GET /healthz`` tells of this process: 503 when
something in it does not move any more; a registry or a cluster that does not answer is
told with 200, since a restart would not mend it. 503 is answered during a reload, too.
"""

import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, render_template, request
from flask.typing import ResponseReturnValue
from jinja2 import StrictUndefined
from markupsafe import Markup

from agent.daemon import Agent
from agent.holds import holds
from agent.metrics import Metrics
from agent.report import status
from agent.web.answers import Answer, RefusedError, new_app
from agent.web.serving import OptionalServer
from agent.words import count, plain, span
from hooks.receiver import ReceiverReport
from hooks.server import bind_tcp

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
LARGEST_BODY = 0  # bytes
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

Current = Callable[[], Agent]
Receiving = Callable[[], ReceiverReport | None]


def create_app(current: Current, host: str, metrics: Metrics, receiver: Receiving) -> Flask:
    """Return the application that answers for the agent that is the current one; ``host`` is where it is served."""
    app = new_app(__name__)
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.finalize = _printable
    app.jinja_env.filters |= {"ago": _ago, "span": span, "count": count}

    def show_page() -> str:
        agent = current()
        return render_template("status.html", report=status(agent, receiver()), holds=holds(agent))

    def show_metrics() -> Response:
        return Response(metrics.exposition(current(), receiver(), time.monotonic()), content_type=EXPOSITION)

    def show_status() -> Answer:
        return status(current(), receiver())

    def show_health() -> Answer:
        return health(current(), time.monotonic())

    pages: dict[str, Callable[[], ResponseReturnValue]] = {
        "/": show_page,
        "/metrics": show_metrics,
        "/v1/status": show_status,
        "/healthz": show_health,
    }
    for path, show in pages.items():
        app.add_url_rule(path, path, show, methods=["GET"], provide_automatic_options=False)

    @app.before_request
    def look_at_host() -> None:
        named = request.headers.get("Host")
        if named is not None and not _is_here(named, host):
            raise RefusedError(403, f"this is no server of the name {plain(named)!r}: ask for localhost or {host}")

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    return app


def _printable(value: Any) -> Any:
    """Return a text of the page with what a browser might obey beside its markup escaped."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{span(seconds)} ago"


def _is_here(named: str, host: str) -> bool:
    """Tell whether a Host header names a loopback address, or the one that is served.

    Under any other name a page from elsewhere asks, whose name was made to lead here:
    https://owasp.org/www-community/attacks/DNS_Rebinding
    """
    try:
        name = urlsplit(f"//{named}").hostname or ""
        if name == "localhost" or name.endswith(".localhost"):
            return True
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address == ip_address(host)


def health(agent: Agent, now: float) -> Answer:
    """Return whether everything moves, and what is at one step for too long."""
    told = [loop.stuck(now) for loop in agent.loops.values()] + [lane.stuck(now) for lane in agent.lanes.values()]
    told.append(agent.stuck(now))  # the first of these again, or what is none of them
    stuck = list(dict.fromkeys(filter(None, told)))
    answer = {
        "alive": not stuck,
        "stuck": stuck,
        "registries": {name: loop.report().error for name, loop in agent.loops.items()},
        "clusters": {name: lane.report().error for name, lane in agent.lanes.items()},
    }
    return answer, 503 if stuck else 200


class StatusServer(OptionalServer):
    """Serves the page and the metrics."""

    def __init__(self, current: Current, listen: tuple[str, int], metrics: Metrics, receiver: Receiving) -> None:
        """``current`` returns the agent that serves now, or raises ReloadingError."""
        host, port = listen
        super().__init__(
            "status",
            create_app(current, host, metrics, receiver),
            lambda: bind_tcp(host, port),
            largest_body=LARGEST_BODY,
            where=f"status: port {port} of {host}",
            loss="the page, /metrics and /healthz are not served",
        )
