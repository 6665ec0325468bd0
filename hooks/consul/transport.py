"""HTTP to one Consul: python-consul2's ``http.get`` without its traps.

Its typed calls hide the headers that tell whether an answer can be trusted, and
its ``Consul()`` lets environment variables overrule arguments, so only the HTTP
client beneath it is made. That one follows redirects with the token attached,
honours proxies, has no timeout and reads bodies of any size; here it does not.
Its session is replaced by urllib3's pool alone, which takes half the time of
requests around it: every change waits for one read.
"""

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from consul import Consul
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError
from urllib3.util import make_headers

from hooks.consul.settings import ConsulSettings
from state.errors import RegistryError
from state.limits import Limits

LARGEST_BODY = 256 * 2**20  # bytes
PIECE = 2**16
# A query that waits for a minute over a connection that has silently died is found out after 25 s.
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
BODY_PATIENCE = 5  # times the read timeout, for a body that drips


def longest_call(limits: Limits, wait: float = 0.0) -> float:
    """Return the seconds after which a call that waits for a change has ended, whatever the server does."""
    return limits.connect_timeout + wait * 17 / 16 + (1 + BODY_PATIENCE) * limits.read_timeout


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
        self._session = _Session(self, settings)
        self._http = Consul.http_connect("", 0, "")
        self._http.session.close()
        self._http.session = self._session
        self._http.base_uri = urlsplit(settings.url).path.rstrip("/")
        self._http.response = self._reply

    def get(
        self,
        path: str,
        params: list[tuple[str, str]],
        headers: Mapping[str, str],
        wait: float = 0.0,
        patience: float | None = None,
    ) -> Reply:
        """Return whatever a server answers within ``wait`` seconds, which Consul stretches, and the limits.

        ``patience`` takes the place of the limits' read timeout. Raises RegistryError
        with the reason when no whole answer came.
        """
        if self._closed.is_set():
            raise RegistryError("the client was closed")
        patience = self._limits.read_timeout if patience is None else patience
        connect, read = self._limits.connect_timeout, wait * 17 / 16 + patience
        self._deadline = time.monotonic() + connect + read + BODY_PATIENCE * patience
        self._http.timeout = Timeout(connect=connect, read=read)
        try:
            reply: Reply = self._http.get(lambda reply: reply, path, params, headers)
        except (OSError, ValueError, HTTPError) as error:
            if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
                raise RegistryError(f"no connection within {connect:g} s") from error
            if isinstance(error, ReadTimeoutError):
                raise RegistryError(f"no answer within {read:g} s") from error
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
        for option in KEEPALIVE:
            connection.sock.setsockopt(*option)
        if self._closed.is_set():
            connection.close()
            raise ConnectionAbortedError("the client was closed")

    def _reply(self, response: BaseHTTPResponse) -> Reply:
        content = bytearray()
        try:
            # Not stream, which gathers whole pieces first, however slowly they come.
            while piece := response.read1(PIECE, decode_content=True):
                content += piece
                if len(content) > LARGEST_BODY:
                    raise RegistryError(f"the body is larger than {LARGEST_BODY} bytes")
                if time.monotonic() > self._deadline:
                    raise RegistryError(f"the body is not complete, after {len(content)} bytes and too long a time")
        except BaseException:
            response.close()  # what is left of the body must not answer the next call
            raise
        response.release_conn()
        return Reply(response.status, response.headers, bytes(content))


class _Session:
    """What python-consul2 takes for a session: without proxies, redirects, cookies, or anything of the environment."""

    def __init__(self, transport: Transport, settings: ConsulSettings) -> None:
        self._url = urlsplit(settings.url)
        # To compress would only cost a Consul on this machine time.
        self._headers = {
            "User-Agent": "isthmus",
            "Accept-Encoding": "gzip",  # a fifteenth of the bytes, for 0.1 ms of a read of ten instances
        }
        if self._url.username is not None:
            login = f"{unquote(self._url.username)}:{unquote(self._url.password or '')}"
            self._headers.update(make_headers(basic_auth=login))
        self._settings = settings
        self._transport = transport
        self._pool: HTTPConnectionPool | None = None

    def get(self, uri: str, *, headers: Mapping[str, str], timeout: Timeout, **_: object) -> BaseHTTPResponse:
        """Return an answer, whatever it is, its body unread."""
        if self._pool is None:
            self._pool = _pool(self._transport, self._settings)
        return self._pool.urlopen(
            "GET",
            uri,
            headers={**self._headers, **headers},
            timeout=timeout,
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )

    def close(self) -> None:
        """Close the connection that is not in use."""
        if self._pool is not None:
            self._pool.close()


def _pool(transport: Transport, settings: ConsulSettings) -> HTTPConnectionPool:
    """Return a pool of one connection, which tells us its socket and verifies the configured name."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            transport.connected(self)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            transport.connected(self)

    url = urlsplit(settings.url)
    if not url.hostname or url.scheme not in ("http", "https"):
        raise ValueError(f"{url.scheme}: is no address of a Consul")
    for file in (settings.ca_file, settings.cert_file, settings.key_file):
        if file is not None and not file.is_file():
            raise ValueError(f"{file} is not there")
    if url.scheme == "http":
        plain = HTTPConnectionPool(url.hostname, url.port, maxsize=1)
        plain.ConnectionCls = Plain
        return plain
    secure = HTTPSConnectionPool(
        url.hostname,
        url.port,
        maxsize=1,
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(settings.ca_file or DEFAULT_CA_BUNDLE_PATH),
        cert_file=str(settings.cert_file) if settings.cert_file else None,
        key_file=str(settings.key_file) if settings.key_file else None,
        server_hostname=settings.tls_server_name or None,
    )
    secure.ConnectionCls = Secure
    return secure


def _reason(error: BaseException) -> str:
    """Return what the operating system or TLS said, without the layers that wrapped it."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
