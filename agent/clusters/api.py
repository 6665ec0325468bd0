"""Calls to one API server, through the official client's ``call_api``.

The client gives configuration, TLS and the pool; it neither adds credentials to
such a call nor raises for what the server answers. Both happen here, once.
"""

import json
import logging
from collections.abc import Mapping
from concurrent.futures import Future
from threading import Lock, Thread
from time import monotonic
from typing import Any
from urllib.parse import urlencode

from kubernetes.client.exceptions import ApiException
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from agent.clusters.credentials import Connection, connect
from agent.clusters.faults import Call, from_exception, from_response, unexpected
from agent.clusters.settings import KubernetesSettings
from agent.clusters.sockets import Sockets
from state.errors import ClusterError, Fault
from state.limits import Limits

logger = logging.getLogger(__name__)

JSON = "application/json"
AGAIN = 10.0  # seconds until the next try to renew a credential that is still good
HUNG = 10  # a credential plugin that has taken this many times its time is given up, and another one started


class Api:
    """One API server; may be called from several threads at once."""

    def __init__(self, settings: KubernetesSettings, limits: Limits) -> None:
        self._settings = settings
        self._limits = limits
        self._lock = Lock()  # held while a connection is made
        self._current: Connection | None = None
        self._loading: Future[Connection] | None = None
        self._loading_since = 0.0
        self._sockets = Sockets()
        self._closed = False

    def request(
        self,
        call: Call,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: object = None,
    ) -> dict[str, Any]:
        """Return the JSON object that the server answers with."""
        try:
            answer = json.loads(self._content(call, method, _url(path, query), {"Accept": JSON}, body))
        except (ValueError, RecursionError):
            raise unexpected(call, "not JSON") from None
        if not isinstance(answer, dict):
            raise unexpected(call, "no JSON object")
        return answer

    def page(self, call: Call, path: str, *, query: Mapping[str, str | int]) -> str:
        """Return the text of a large answer, which travels compressed."""
        headers = {"Accept": JSON, "Accept-Encoding": "gzip"}
        try:
            return self._content(call, "GET", _url(path, query), headers).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise unexpected(call, "not JSON") from None

    def _content(self, call: Call, method: str, url: str, headers: dict[str, str], body: object = None) -> bytes:
        """Return the body of an answer that says yes."""
        response = self._send(call, method, url, headers, body, self._limits.write_timeout)
        content = _read(call, response)
        if not 200 <= response.status < 300:
            raise from_response(call, response.status, response.headers, content)
        return content

    def stream(
        self, call: Call, path: str, *, query: Mapping[str, str | int], accept: str, silence: float
    ) -> BaseHTTPResponse:
        """Return an open answer, to be read as it comes; nothing for ``silence`` seconds ends it."""
        response = self._send(call, "GET", _url(path, query), {"Accept": accept}, None, silence)
        if response.status != 200:
            raise from_response(call, response.status, response.headers, _read(call, response))
        return response

    def close(self) -> None:
        """End every connection; who waits for an answer gets an error."""
        self._closed = True
        self._sockets.end()
        if self._current is not None:
            self._current.client.close()  # type: ignore[no-untyped-call]

    def _send(
        self, call: Call, method: str, url: str, headers: dict[str, str], body: object, silence: float
    ) -> BaseHTTPResponse:
        """Send a request, once more with a new credential where the first was refused."""
        connection = self._connection()
        response = self._once(call, connection, method, url, headers, body, silence)
        if response.status != 401:
            return response
        _read(call, response)
        renewed = self._renew(connection)
        return self._once(call, renewed, method, url, headers, body, silence)

    def _once(
        self,
        call: Call,
        connection: Connection,
        method: str,
        url: str,
        headers: dict[str, str],
        body: object,
        silence: float,
    ) -> BaseHTTPResponse:
        if self._closed:
            raise ClusterError(Fault.CLUSTER, f"{call}: the connection to it is closed")
        sent = {**connection.client.default_headers, **headers}
        if body is not None:
            sent["Content-Type"] = JSON
        if authorization := connection.authorization():
            sent["Authorization"] = authorization
        try:
            answer = connection.client.call_api(
                method,
                connection.host + url,
                header_params=sent,
                body=body,
                _request_timeout=(self._limits.connect_timeout, silence),
            )
        except (HTTPError, ApiException, OSError) as error:
            raise from_exception(call, error) from error
        response: BaseHTTPResponse = answer.response
        return response

    def _connection(self) -> Connection:
        """Return the connection to use, made anew when its kubeconfig changed or its credential ages.

        One thread makes it; the others go on with the one they have while that is good.
        """
        current = self._current
        now = monotonic()
        if current is not None and not current.is_due(now):
            return current
        if current is not None and now < current.expires_at and not self._lock.acquire(blocking=False):
            return current
        if current is None or now >= current.expires_at:
            self._lock.acquire()
        try:
            if self._current is not None and self._current is not current:
                return self._current
            return self._replace(current)
        finally:
            self._lock.release()

    def _renew(self, refused: Connection) -> Connection:
        """Return another connection than the one that was refused."""
        with self._lock:
            if self._current is not None and self._current is not refused:
                return self._current
            return self._replace(None)

    def _replace(self, current: Connection | None) -> Connection:
        """Make a new connection; without a new one, go on with ``current`` while that is good."""
        try:
            made = self._load()
        except ClusterError as error:
            if current is None or monotonic() >= current.expires_at:
                raise
            logger.warning("%s; what is in use is still good", error)
            current.renew_at = monotonic() + AGAIN
            return current
        self._sockets.follow(made)
        old, self._current = self._current, made
        if old is not None:
            old.client.close()  # type: ignore[no-untyped-call]
        return made

    def _load(self) -> Connection:
        """Wait for a connection to be made; a plugin that hangs is not started a second time."""
        allowed = self._limits.write_timeout
        loading = self._loading
        if loading is None or monotonic() - self._loading_since > HUNG * allowed:
            loading = self._loading = Future()
            self._loading_since = monotonic()
            Thread(target=self._make, args=(loading,), name=f"connect-{self._settings.name}", daemon=True).start()
        try:
            return loading.result(max(0.0, self._loading_since + allowed - monotonic()))
        except TimeoutError:
            told = f"kubeconfig {self._settings.kubeconfig}: its credential plugin does not end"
            raise ClusterError(Fault.UNAUTHORISED, f"cluster {self._settings.name}: {told}") from None
        finally:
            if loading.done():
                self._loading = None

    def _make(self, future: Future[Connection]) -> None:
        try:
            future.set_result(connect(self._settings))
        except Exception as error:  # noqa: BLE001 - this thread's net: whoever waits gets it
            future.set_exception(error)


def _url(path: str, query: Mapping[str, str | int] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _read(call: Call, response: BaseHTTPResponse) -> bytes:
    """Read an answer to its end, which gives the connection back to the pool."""
    try:
        return response.data
    except (HTTPError, OSError) as error:
        raise from_exception(call, error) from error
