"""The HTTP server under the demo's embedded registries."""

import logging
import socket
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

R = TypeVar("R")


class EmbeddedServer(ThreadingHTTPServer, Generic[R]):
    """Serves one embedded registry on a free port of loopback, and lets go of every connection at the end."""

    daemon_threads = False  # server_close waits for them
    request_queue_size = 128

    def __init__(self, registry: R, handler: type[BaseHTTPRequestHandler]) -> None:
        self.registry = registry
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection and remember it."""
        connection, address = super().get_request()
        with self._lock:
            self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close a connection and forget it."""
        if isinstance(request, socket.socket):
            with self._lock:
                self._connections.discard(request)
        super().shutdown_request(request)

    def disconnect(self) -> None:
        """Wake the threads that wait for a next request."""
        with self._lock:
            for connection in self._connections:
                _hang_up(connection)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log what is a mistake of ours; that a client went away is none."""
        error = sys.exception()
        if not isinstance(error, OSError):
            logger.error("an embedded registry could not answer: %r", error)


class EmbeddedHandler(BaseHTTPRequestHandler):
    """Answers over connections that stay, and quietly: whoever embeds the registry sees what it asks."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet for headers and body

    def send(self, code: int, kind: str, body: bytes, headers: Mapping[str, str], length: int | None = None) -> None:
        """Send an answer, which claims to be of another length if one is given."""
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
