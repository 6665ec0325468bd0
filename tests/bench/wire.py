"""One kept-alive HTTP connection, with nothing around it: what every figure is measured through."""

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and what it wants to see; plain values, so that child processes can be told."""

    url: str
    token: str = ""
    ca_file: str = ""


class WireError(RuntimeError):
    """A server answered that a call failed."""


class Wire:
    """A connection to one server, opened at the first call and again when the server closed it between two."""

    def __init__(self, server: Server, timeout: float = 90.0, *, packed: bool = False) -> None:
        """Ask for gzip if ``packed``; what comes is returned as it came."""
        parts = urlsplit(server.url)
        self._headers = {"Accept": JSON} | ({"Authorization": f"Bearer {server.token}"} if server.token else {})
        self._headers |= {"Accept-Encoding": "gzip"} if packed else {}
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=server.ca_file)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.netloc, timeout=timeout, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)

    def send(self, method: str, path: str, body: bytes | None = None) -> None:
        """Send a request, all of it."""
        headers = self._headers if body is None else {**self._headers, "Content-Type": JSON}
        self._connection.request(method, path, body=body, headers=headers)

    def open(self, method: str, path: str) -> http.client.HTTPResponse:
        """Send a request and return its answer as it begins; WireError when that is not a good one."""
        self.send(method, path)
        answer = self._connection.getresponse()
        if answer.status >= 300:
            raise WireError(f"{method} {path}: {answer.status} {answer.read()[:300]!r}")
        return answer

    def receive(self) -> tuple[http.client.HTTPResponse, bytes]:
        """Return the answer to what was sent, read to its end; WireError when it is not a good one."""
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise WireError(f"{answer.status} {content[:300]!r}")
        return answer, content

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a request and return its answer."""
        try:
            self.send(method, path, body)
            return self.receive()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()
            self.send(method, path, body)
            return self.receive()
        except WireError as error:
            raise WireError(f"{method} {path}: {error}") from None

    def json(self, method: str, path: str, body: object = None) -> Any:
        """Send and receive JSON."""
        return json.loads(self.ask(method, path, None if body is None else pack(body))[1])

    def end(self) -> None:
        """End the connection while another thread reads from it, which `close` would wait for."""
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def pack(body: Mapping[str, Any] | object) -> bytes:
    """Write a body."""
    return json.dumps(body, separators=(",", ":")).encode()
