"""The connections to one API server: found without a search, and ended whenever that is wanted."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from threading import Lock
from typing import Any
from weakref import WeakSet

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

from agent.clusters.credentials import Connection


class Sockets:
    """The connections that are open, so that they can be ended while a call waits for its answer."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: WeakSet[HTTPConnection] = WeakSet()
        self._ended = False

    def follow(self, connection: Connection) -> None:
        """Let the client's pools report what they open."""
        client = connection.client.rest_client
        client.pool_manager.pool_classes_by_scheme = _pool_classes(self)
        if connection.host.startswith("https://"):  # a proxy of plain HTTP is asked for whole addresses
            client.pool_manager = OneServer(client.pool_manager, connection.host)  # type: ignore[assignment]

    def add(self, connection: HTTPConnection) -> None:
        """Remember a connection until it is forgotten by its pool."""
        with self._lock:
            self._open.add(connection)
            if self._ended:
                _end(connection)

    def end(self) -> None:
        """End them all, and those that come."""
        with self._lock:
            self._ended = True
            for connection in list(self._open):
                _end(connection)


class OneServer:
    """What the client asks of a pool manager, for one server: looking for its pool costs a fifth of a whole call."""

    def __init__(self, manager: PoolManager, host: str) -> None:
        """``host`` is the address that every call begins with."""
        self._manager = manager
        self._host = host
        self._origin = len("/".join(host.split("/")[:3]))
        self._pool: HTTPConnectionPool | None = None

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout: Timeout,
        body: str | None = None,
        **_: object,  # what is the same for every call: no fields, an answer that is read later
    ) -> BaseHTTPResponse:
        """Send a request, and return its answer as it begins; it is neither sent again nor elsewhere."""
        if self._pool is None:
            self._pool = self._manager.connection_from_url(self._host)
        return self._pool.urlopen(
            method,
            url[self._origin :],
            body=body,
            headers=headers,
            timeout=timeout,
            retries=False,
            redirect=False,
            preload_content=False,
        )

    def clear(self) -> None:
        """Close the connections that are idle."""
        self._manager.clear()


def _end(connection: HTTPConnection) -> None:
    # Whoever reads may close it at the same moment.
    with suppress(OSError, ValueError, AttributeError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


class _Joined(HTTPConnection):
    """Sends the head of a request and its body together: each would be a packet, and wake the server."""

    _waits = False
    _head = b""

    def request(self, method: str, url: str, body: Any = None, *rest: Any, **more: Any) -> None:
        """Send a request."""
        self._waits, self._head = bool(body), b""
        super().request(method, url, body, *rest, **more)

    def send(self, data: Any) -> None:
        """Send a part of a request, the first one with the second."""
        if self._waits:
            self._waits, self._head = False, data
            return
        data, self._head = (self._head + data, b"") if self._head else (data, b"")
        super().send(data)


def _pool_classes(sockets: Sockets) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(_Joined):
        def connect(self) -> None:
            super().connect()
            sockets.add(self)

    class Secure(_Joined, HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
