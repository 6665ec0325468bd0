"""The way to one registry's server: where it is, and what verifies it."""

import errno
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from hooks.consul.answers import RefusedError, WireError
from hooks.consul.settings import ConsulSettings
from hooks.consul.transport import KEEPALIVE

FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # what we cannot have more of ourselves

Post = Callable[[Callable[[], None]], object]


class UnreachableError(WireError):
    """No connection could be made, for a reason that has nothing to do with how many there are."""


class SourceError(WireError):
    """The machine does not let us come from an address of our own."""


class Route:
    """Begins connections; for one thread. Names are looked up in another, as that can take long."""

    def __init__(self, settings: ConsulSettings) -> None:
        url = urlsplit(settings.url)
        self._settings = settings
        self._secure = url.scheme == "https"
        self._host = url.hostname or ""
        self._port = url.port or (443 if self._secure else 80)
        self._tls: ssl.SSLContext | None = None
        self._versions: list[int] = []  # of the files that it was made of
        self._waiting: list[Callable[[], None]] = []
        self._addresses: list[tuple[Any, ...]] | None = None  # None: to be looked up
        self._unknown = ""

    def prepare(self, post: Post, then: Callable[[], None]) -> None:
        """Call ``then`` as soon as it is known where the server is, or is not known at all."""
        if self._addresses is None and _is_literal(self._host):
            self._look_up()
        if self._addresses is not None:
            then()
            return
        self._waiting.append(then)
        if len(self._waiting) == 1:
            name = f"{self._settings.name} address"
            threading.Thread(target=self._look_up_beside, args=(post,), name=name, daemon=True).start()

    def _look_up_beside(self, post: Post) -> None:
        self._look_up()
        with suppress(RuntimeError):  # it has ended meanwhile
            post(self._known)

    def _known(self) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()

    def _look_up(self) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._unknown, found = f"{self._host} is not known: {reason(error)}", []
        # Consul listens on 127.0.0.1 unless told otherwise, and only there can we come from other addresses.
        self._addresses = sorted(found, key=lambda one: one[0] != socket.AF_INET)

    def doubt(self) -> None:
        """Note that no connection could be made: the next is made to another address, or the name is looked up."""
        if self._addresses:
            del self._addresses[0]
        self._addresses = self._addresses or None

    def begin(self, source: str) -> socket.socket:
        """Return a socket that is being connected, from an address of ours if one is given; raises WireError."""
        if not self._addresses:
            raise UnreachableError(self._unknown or "its address is not known")
        family, kind, protocol, _, address = self._addresses[0]
        try:
            connecting = socket.socket(family, kind, protocol)
        except OSError as error:
            raise (RefusedError if error.errno in FULL else UnreachableError)(reason(error)) from error
        try:
            connecting.setblocking(False)
            for option in (*KEEPALIVE, (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)):
                connecting.setsockopt(*option)
            if source and family == socket.AF_INET:
                _bind(connecting, source)
            with suppress(BlockingIOError):
                connecting.connect(address)
        except OSError as error:
            connecting.close()
            raise UnreachableError(reason(error)) from error
        except WireError:
            connecting.close()
            raise
        return connecting

    def secure(self, connected: socket.socket) -> socket.socket:
        """Return the connection itself for plain HTTP, else one with TLS in its place, whose handshake is to be done.

        Raises UnreachableError, the connection being closed then.
        """
        if not self._secure:
            return connected
        try:
            name = self._settings.tls_server_name or self._host
            return self._context().wrap_socket(connected, server_hostname=name, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            connected.close()
            raise UnreachableError(f"no TLS: {reason(error)}") from error

    def _context(self) -> ssl.SSLContext:
        """Return what verifies the server; it is made anew when a file was: a certificate can be renewed."""
        settings = self._settings
        files = (settings.ca_file, settings.cert_file, settings.key_file)
        versions = [file.stat().st_mtime_ns for file in files if file is not None]
        if self._tls is None or versions != self._versions:
            context = ssl.create_default_context(cafile=str(settings.ca_file or DEFAULT_CA_BUNDLE_PATH))
            if settings.cert_file is not None:
                context.load_cert_chain(settings.cert_file, settings.key_file)
            self._tls, self._versions = context, versions
        return self._tls


def _bind(connecting: socket.socket, source: str) -> None:
    try:
        connecting.bind((source, 0))
    except OSError as error:
        raise SourceError(f"no connection can come from {source}: {reason(error)}") from error


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def reason(error: BaseException) -> str:
    """Return what the operating system or TLS said."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
