"""The one adapter to Eureka's REST API: a body that may be parsed, or a RegistryError.

Source: https://github.com/Netflix/eureka/wiki/Eureka-REST-operations. Only GET, and
always JSON: one instance with a colon in a metadata key makes the XML of a whole
registry unreadable.
"""

import asyncio
import threading
from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from hooks.eureka.bounded import CONNECTIONS, Ask, BoundedClient, Reply, longest_call
from hooks.eureka.settings import EurekaSettings
from hooks.secret import read_password
from state.errors import RegistryError
from state.limits import Limits

CUT = 200  # characters of a body in an error
CLOSED = "the client was closed"

T = TypeVar("T")
Named = tuple[str, str]  # application and instance ID
Answers = Mapping[Named, bytes | RegistryError | None]


class EurekaClient:
    """Reads from the servers of one Eureka cluster. For one thread; only ``close`` may be called from another.

    Every read raises RegistryError, with the registry's name, the URL and what was
    seen, unless the answer is 200 with something that begins as JSON.
    """

    def __init__(self, settings: EurekaSettings, limits: Limits) -> None:
        self._settings = settings
        self._limits = limits
        self._lock = threading.Lock()
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._http: BoundedClient | None = None
        self._task: asyncio.Task[Any] | None = None
        self._busy = self._closed = False
        self._stale = False  # connections and certificates are made anew after a failure
        self._password = ""

    def full(self, url: str) -> bytes:
        """Return all applications, from a cache of up to 30 s."""
        return self._run(lambda: self._good(f"{url}/apps/")) or b""

    def delta(self, url: str) -> bytes | None:
        """Return what changed in the last three minutes, from a cache of up to 30 s; None if the server gives none.

        That is so where deltas are disabled, and while a server warms up: a full read tells.
        """
        return self._run(lambda: self._good(f"{url}/apps/delta", (httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND)))

    def instances(self, url: str, asked: Sequence[Named]) -> Answers:
        """Return what the registry itself, without its cache, says of instances: None of one that it does not have.

        What could not be read has its error instead. All together take no longer than one call may.
        """

        async def ask_all() -> Answers:
            free = asyncio.Semaphore(CONNECTIONS)
            return dict(zip(asked, await asyncio.gather(*(self._one(url, one, free) for one in asked)), strict=True))

        return self._run(ask_all)

    def close(self) -> None:
        """End the call in flight, which then raises, and refuse any other."""
        with self._lock:
            self._closed = True
            if not self._busy:
                self._shut()
            elif self._task is not None:
                self._runner.get_loop().call_soon_threadsafe(self._task.cancel)

    # The event loop

    def _run(self, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with self._lock:
            if self._closed:
                raise RegistryError(f"{self._settings.name}: {CLOSED}")
            self._busy = True
        try:
            return self._runner.run(self._cancellable(read))
        except asyncio.CancelledError:
            raise RegistryError(f"{self._settings.name}: {CLOSED}") from None
        finally:
            self._end_call()

    def _end_call(self) -> None:
        with self._lock:
            self._busy, self._task = False, None
            if self._closed:
                self._shut()

    async def _cancellable(self, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with self._lock:
            self._task = asyncio.current_task()
            closed = self._closed
        if closed:
            raise asyncio.CancelledError
        if self._http is not None and self._stale:
            http, self._http = self._http, None
            await http.aclose()
        self._stale = False
        try:
            self._http = self._http or BoundedClient(self._settings, self._limits)
            self._password = read_password(self._settings.password_file)
        except RegistryError as error:
            raise RegistryError(f"{self._settings.name}: {error}") from error
        return await read()

    def _shut(self) -> None:
        if self._http is not None:
            self._runner.run(self._http.aclose())
            self._http = None
        self._runner.close()

    # Reading

    async def _one(self, url: str, named: Named, free: asyncio.Semaphore) -> bytes | RegistryError | None:
        path = "/".join(quote(part, safe="") for part in named)
        try:
            async with asyncio.timeout(longest_call(self._limits)), free:
                return await self._good(f"{url}/apps/{path}", (httpx.codes.NOT_FOUND,))
        except TimeoutError:
            return RegistryError(f"{self._settings.name}: {url}/apps/{path}: no answer in the time for all")
        except RegistryError as error:
            return error

    async def _good(self, url: str, none: Sequence[int] = ()) -> bytes | None:
        """Return a body that may be JSON, or None for some statuses."""
        assert self._http is not None
        try:
            reply = await self._http.urlopen(Ask(url, self._headers()))
            if reply.code in none:
                return None
            _check(reply)
        except RegistryError as error:
            self._stale = True
            raise RegistryError(f"{self._settings.name}: {url}: {self._clean(str(error))}") from error
        return bytes(reply.content)

    def _headers(self) -> Mapping[str, str]:
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "isthmus"}
        if self._settings.username:
            headers["Authorization"] = f"Basic {self._login()}"
        return headers

    def _login(self) -> str:
        return b64encode(f"{self._settings.username}:{self._password}".encode()).decode("ascii")

    def _clean(self, text: str) -> str:
        """Return the beginning of a text that may come from anywhere: on one line, without the password."""
        for secret in (self._login(), self._password) if self._password else ():
            text = text.replace(secret, "***")
        return " ".join("".join(one if one.isprintable() else " " for one in text).split())[: 2 * CUT]


def _check(reply: Reply) -> None:
    """Raise RegistryError unless a reply is 200 with what may be JSON."""
    start = reply.content[: 10 * CUT].decode("utf-8", "replace").strip()[:CUT] or "(an empty body)"
    location = reply.headers.get("Location", "")
    if reply.code == httpx.codes.UNAUTHORIZED:
        raise RegistryError("answered 401: username and password_file are missing, or not those of this server")
    if reply.code == httpx.codes.FORBIDDEN:
        raise RegistryError(f"answered 403: it is warming up, or we may not read: {start}")
    if location and httpx.codes.is_redirect(reply.code):
        raise RegistryError(
            f"answered {reply.code}, a redirect to {location[:CUT]}, which is not followed: is a login needed, or is "
            "this not the address of a Eureka server?"
        )
    if reply.code != httpx.codes.OK:
        raise RegistryError(f"answered {reply.code}: {start}")
    if not start.startswith("{"):
        what = "not JSON"
        if start.startswith("<"):
            what = "HTML, not JSON" if "html" in start[:80].lower() else "XML, though JSON was asked for"
        raise RegistryError(f"answered {what}: is this the address of a Eureka server? {start}")
