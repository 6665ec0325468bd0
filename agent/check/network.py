"""What mends a connection that failed, by what the operating system and TLS said of it."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
)

DEEPEST = 12  # errors inside one another
NOT_YET_VALID, EXPIRED = 9, 10  # https://docs.openssl.org/3.0/man1/openssl-verification-options/
OTHER_NAME = (62, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How a server is called in advice: what it is, where its address, its CA and its certificate's name are set."""

    what: str
    url: str
    address: str
    ca: str
    name: str


def failed(error: BaseException) -> bool:
    """Tell whether it is the connection that failed, rather than what the server answered."""
    return any(isinstance(one, OSError | HTTPError | httpx.TransportError) for one in _chain(error))


def advice(error: BaseException, server: Server) -> str:
    """Return what mends a failed connection."""
    for one in _chain(error):
        if isinstance(one, ssl.SSLError):
            return _certificate(one, server) if isinstance(one, ssl.SSLCertVerificationError) else _tls(one, server)
    for kinds, words in _ADVICE:
        if any(isinstance(one, kinds) for one in _chain(error)):
            return words.format(what=server.what, url=server.url, address=server.address)
    return f"see what {server.address} names, and whether {server.what} answers at {server.url}"


_ADVICE: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((ProxyError,), "mend the proxy in between, which the environment or the kubeconfig names"),
    ((socket.gaierror,), "mend the host name in {address}, or the DNS that should know it"),
    ((ConnectionRefusedError,), "nothing listens there: start {what}, or mend {address}"),
    ((NewConnectionError,), "mend the network between here and there, or {address}"),
    (
        (ConnectTimeoutError, httpx.ConnectTimeout),
        "{what} is down, or a firewall drops what is sent to {url}; or mend {address}",
    ),
    (
        (ReadTimeoutError, TimeoutError, httpx.TimeoutException),
        "{what} hangs or is overloaded, or something else listens there: restart it",
    ),
    (
        (ConnectionResetError, ProtocolError, httpx.ProtocolError, httpx.ReadError, httpx.WriteError),
        "something there ends connections: see whether {what} listens there, and whether it speaks https or http",
    ),
)


def _certificate(error: ssl.SSLCertVerificationError, server: Server) -> str:
    if error.verify_code in (NOT_YET_VALID, EXPIRED):
        return f"renew the certificate of {server.what}; if it is valid, the clock of one of the two machines is wrong"
    if error.verify_code in OTHER_NAME:
        return f"name a host for which its certificate was issued, by {server.name}; or issue another certificate"
    return f"{server.ca} must hold the certificate of the authority that issued the one of {server.what}"


def _tls(error: ssl.SSLError, server: Server) -> str:
    reason = (getattr(error, "reason", None) or "").upper()
    if "WRONG_VERSION" in reason or "HTTP_REQUEST" in reason:
        return f"nothing speaks TLS there: write http:// in {server.address}, or name the port for https"
    if isinstance(error, ssl.SSLEOFError):
        return f"{server.what} ends the handshake: perhaps it does not trust the client certificate that it is shown"
    if "ALERT" in reason:
        return f"{server.what} wants a client certificate of an authority that it trusts: mend the one it is shown"
    if reason.startswith(("NO_CERTIFICATE", "PEM", "NO_START_LINE", "KEY_VALUES")):
        return f"{server.ca}, or the client certificate and its key, is no PEM file of such"
    return f"see which versions and ciphers of TLS {server.what} speaks"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it wraps, whichever way."""
    left, seen = [error], 0
    while left and seen < DEEPEST:
        one = left.pop(0)
        seen += 1
        yield one
        below = (one.__cause__, None if one.__suppress_context__ else one.__context__, *one.args)
        left += [other for other in below if isinstance(other, BaseException)]
