"""HTTP to Eureka: py-eureka-client's HttpClient without its traps.

The library's own makes a client and a TLS context for every call, follows redirects,
honours proxies, and limits neither the whole time nor the size of an answer; its
requests refuse host names that Eureka's own clients take. Its logger, which writes to
standard output, is not loaded by any of this.
"""

import asyncio
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from io import BytesIO
from ssl import PROTOCOL_TLS_CLIENT, SSLContext, create_default_context
from typing import Any
from urllib.parse import urlsplit

import httpx
from py_eureka_client.http_client import HttpClient, HttpRequest, HttpResponse

from hooks.eureka.settings import EurekaSettings
from state.errors import RegistryError
from state.limits import Limits

LARGEST_BODY = 256 * 2**20  # bytes, when unpacked
LARGEST_ERROR = 2**16  # bytes of an answer that is only shown
CONNECTIONS = 8
IDLE = 60.0  # seconds for which an unused connection is kept: longer than any sensible poll
PACKED = frozenset(("", "identity", "gzip"))


def longest_call(limits: Limits) -> float:
    """Return the seconds after which a call has ended, whatever the server does."""
    return limits.connect_timeout + limits.read_timeout


class Ask(HttpRequest):  # type: ignore[misc]
    """One GET; whoever made the configuration has checked the address."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        # Not the parent's, which takes no underscore in a host name and no short form of an IPv6 address.
        self.url = url
        self.headers = dict(headers)
        self.method = "GET"
        self.content = None


class Reply(HttpResponse):  # type: ignore[misc]
    """An answer as it came, unpacked; header names have no case."""

    def __init__(self, code: int, headers: Mapping[str, str], content: bytes) -> None:
        super().__init__()
        self.code = code
        self.headers = headers
        self.content = content


class BoundedClient(HttpClient):  # type: ignore[misc]
    """Kept connections to the servers of one Eureka cluster, for one event loop."""

    def __init__(self, settings: EurekaSettings, limits: Limits) -> None:
        """Raise RegistryError when a file for TLS cannot be used."""
        self._limits = limits
        self._sni = {"sni_hostname": settings.tls_server_name} if settings.tls_server_name else {}
        self._client = httpx.AsyncClient(
            verify=_context(settings),
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            timeout=httpx.Timeout(limits.read_timeout, connect=limits.connect_timeout),
            limits=httpx.Limits(
                max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=IDLE
            ),
        )

    async def urlopen(self, request: Ask, data: None = None, timeout: float | None = None) -> Reply:  # noqa: ARG002
        """Return whatever a server answers within the limits; RegistryError with the reason when no whole answer came.

        ``timeout``, in seconds, takes the place of the limits' own.
        """
        total = longest_call(self._limits) if timeout is None else timeout
        try:
            async with asyncio.timeout(total):
                return await self._whole(request)
        except TimeoutError as error:
            raise RegistryError(f"no whole answer within {total:g} s") from error
        except httpx.ConnectTimeout as error:
            raise RegistryError(f"no connection within {self._limits.connect_timeout:g} s") from error
        except httpx.TimeoutException as error:
            raise RegistryError(f"no answer within {self._limits.read_timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise RegistryError(_reason(error)) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _whole(self, request: Ask) -> Reply:
        try:
            response = await self._send(request)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # A kept connection that the server was about to close; on a new one the answer counts.
            response = await self._send(request)
        try:
            most = LARGEST_BODY if response.status_code == httpx.codes.OK else LARGEST_ERROR
            content = await _body(response, most)
        finally:
            await response.aclose()
        return Reply(response.status_code, response.headers, content)

    async def _send(self, request: Ask) -> httpx.Response:
        sent = request._to_httpx_request()
        sent.extensions = {**sent.extensions, **self._sni, "timeout": self._client.timeout.as_dict()}
        return await self._client.send(sent, stream=True)


async def _body(response: httpx.Response, most: int) -> bytes:
    """Return the body, unpacked; of an answer that is no success the beginning is enough."""
    packed = response.headers.get("Content-Encoding", "").strip().lower()
    if packed not in PACKED:  # packed twice, a few bytes can become more than any memory
        raise RegistryError(f"answered with Content-Encoding {packed[:80]!r}, which nobody asked for")
    body = BytesIO()  # joined as it comes, so that 10 MB are not there twice
    async for piece in response.aiter_bytes():
        body.write(piece)
        if body.tell() > most:
            if response.status_code != httpx.codes.OK:
                break
            raise RegistryError(f"the body is larger than {most} bytes")
    return body.getvalue()


def _context(settings: EurekaSettings) -> SSLContext:
    """Return what verifies the servers; without https, one that trusts nobody, which costs nothing to make."""
    if all(urlsplit(url).scheme != "https" for url in settings.urls):
        return SSLContext(PROTOCOL_TLS_CLIENT)
    for file in (settings.ca_file, settings.cert_file, settings.key_file):
        if file is not None and not file.is_file():
            raise RegistryError(f"{file} is not there")
    try:
        context = create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ValueError) as error:
        files = ", ".join(str(file) for file in (settings.ca_file, settings.cert_file, settings.key_file) if file)
        raise RegistryError(f"no TLS with {files}: {_reason(error)}") from error
    return context


def _reason(error: BaseException) -> str:
    """Return what the operating system or TLS said, without the layers that wrapped it."""
    deepest: Any = error
    while (deeper := deepest.__cause__ or deepest.__context__) is not None:
        deepest = deeper
    if isinstance(deepest, BaseExceptionGroup) and deepest.exceptions:
        deepest = deepest.exceptions[0]
    return str(getattr(deepest, "strerror", None) or deepest or error) or type(error).__name__
