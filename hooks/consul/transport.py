"""HTTP to one Consul: python-consul2's ``http.get`` without its traps.

Its typed calls hide the headers that tell whether an answer can be trusted, and
its ``Consul()`` lets environment variables overrule arguments, so only the HTTP
client beneath it is made. That one follows redirects with the token attached,
honours proxies, has no timeout and reads bodies of any size; here it does not.
"""

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import requests
from consul import Consul
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from hooks.consul.settings import ConsulSettings, is_loopback
from state.errors import RegistryError
from state.limits import Limits

LARGEST_BODY = 256 * 2**20  # bytes
PIECE = 2**16
BODY_PATIENCE = 5  # times the read timeout, for a body that drips


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came; header names have no case."""

    code: int
    headers: Mapping[str, str]
    content: bytes


class Transport:
    """One connection, used by one thread at a time; only ``close`` may come from another."""

    def __init__(self, settings: ConsulSettings, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None  # the last one connected: the one in use
        self._closed = threading.Event()
        self._deadline = 0.0
        self._session = _Session()
        self._session.headers["User-Agent"] = "isthmus"
        if is_loopback(settings.url):
            self._session.headers["Accept-Encoding"] = "identity"  # compressing would only cost Consul's time
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(self, settings.tls_server_name))
        verify = True if settings.ca_file is None else str(settings.ca_file)
        certificate = [str(file) for file in (settings.cert_file, settings.key_file) if file is not None]
        self._http = Consul.http_connect("", 0, "", verify=verify, cert=tuple(certificate) or None)
        self._http.session.close()
        self._http.session = self._session
        self._http.base_uri = settings.url.rstrip("/")
        self._http.response = self._reply

    def get(self, path: str, params: list[tuple[str, str]], headers: Mapping[str, str], wait: float = 0.0) -> Reply:
        """Return whatever a server answers within ``wait`` seconds, which Consul stretches, and the limits.

        Raises RegistryError with the reason when no whole answer came.
        """
        if self._closed.is_set():
            raise RegistryError("the client was closed")
        connect, read = self._limits.connect_timeout, wait * 17 / 16 + self._limits.read_timeout
        self._deadline = time.monotonic() + connect + read + BODY_PATIENCE * self._limits.read_timeout
        self._http.timeout = (connect, read)
        try:
            reply: Reply = self._http.get(lambda reply: reply, path, params, headers)
        except requests.ConnectTimeout as error:
            raise RegistryError(f"no connection within {connect:g} s") from error
        except requests.Timeout as error:
            raise RegistryError(f"no answer within {read:g} s") from error
        except (OSError, ValueError, HTTPError) as error:
            raise RegistryError("the client was closed" if self._closed.is_set() else _reason(error)) from error
        return reply

    def close(self) -> None:
        """End the call in flight and refuse any other."""
        with self._lock:
            self._closed.set()
            connected = self._socket
        if connected is not None:
            with suppress(OSError):
                # Not SSLSocket.shutdown, which takes the TLS layer away from the thread that reads.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)
        self._session.close()

    def connected(self, connection: HTTPConnection) -> None:
        """Remember the socket of a new connection, so that it can be shut down."""
        with self._lock:
            self._socket = connection.sock
        if self._closed.is_set():
            connection.close()
            raise ConnectionAbortedError("the client was closed")

    def _reply(self, response: requests.Response) -> Reply:
        content = bytearray()
        with response:
            # Not iter_content, which gathers whole pieces first, however slowly they come.
            while piece := response.raw.read1(PIECE, decode_content=True):
                content += piece
                if len(content) > LARGEST_BODY:
                    raise RegistryError(f"the body is larger than {LARGEST_BODY} bytes")
                if time.monotonic() > self._deadline:
                    raise RegistryError(f"the body is not complete, after {len(content)} bytes and too long a time")
        return Reply(response.status_code, response.headers, bytes(content))


class _Session(requests.Session):
    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # no proxy, no .netrc, no CA bundle of the environment's
        self.stream = True

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        """Follow none: it would carry the token elsewhere, and end at a page that is no answer."""
        return None


class _Adapter(HTTPAdapter):
    def __init__(self, transport: Transport, server_name: str) -> None:
        self._transport = transport
        self._server_name = server_name
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: object) -> None:
        """Make the pool, whose connections tell us their sockets and verify the configured name."""
        if self._server_name:
            options["server_hostname"] = self._server_name
        super().init_poolmanager(connections, maxsize, block, **options)
        self.poolmanager.pool_classes_by_scheme = _pools(self._transport)


def _pools(transport: Transport) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            transport.connected(self)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            transport.connected(self)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _reason(error: BaseException) -> str:
    """Return what the operating system or TLS said, without the layers that wrapped it."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
