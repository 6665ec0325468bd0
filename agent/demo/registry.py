"""An embedded registry that speaks the part of Consul's HTTP protocol that isthmus uses. It is not Consul.

It is there for the demo and for tests: catalogue, health and blocking queries with
Consul's indexes, on loopback, in this process. It has no agents, runs no checks, and
forgets everything at the end. On purpose it can do what a real Consul cannot be made
to do: give a broken answer on one path (``Trouble``).
"""

import json
import re
import threading
from collections import Counter
from enum import StrEnum
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from agent.demo.catalogue import Aborted, Catalogue
from agent.demo.server import EmbeddedHandler, EmbeddedServer

LONGEST_WAIT = 600.0
DEFAULT_WAIT = 300.0
_DURATION = re.compile(r"([0-9]+)(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


class Trouble(StrEnum):
    """A broken answer that a path can be made to give."""

    ERROR = "status 500"
    HTML = "an HTML page with status 200"
    HALF = "half of the JSON"
    CUT = "a connection that ends in the middle of the body"
    LEADERLESS = "status 200 from a server that knows no leader"
    FILTERED = "nothing, as the token may see nothing"
    DROPPED = "a connection that ends without an answer"
    SILENT = "no answer at all"


class EmbeddedRegistry(Catalogue):
    """A registry on a free port of loopback, from ``start`` to ``stop`` or inside ``with``.

    With a ``token`` it answers 403 to every other one. ``asked`` counts the requests of each path.
    """

    def __init__(self, datacenter: str = "dc1", *, token: str = "") -> None:
        super().__init__(datacenter)
        self.token = token
        self.asked: Counter[str] = Counter()
        self._troubles: dict[str, Trouble] = {}
        self._ended = threading.Event()
        self._server = EmbeddedServer(self, _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="embedded-registry")
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Break off every query, close every connection, and end every thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self.wake()
        self._server.disconnect()
        self._server.server_close()

    def trouble(self, paths: str, trouble: Trouble) -> None:
        """Give broken answers on all paths that match a glob, also to the queries that wait there."""
        self._troubles[paths] = trouble
        self.wake()

    def mend(self) -> None:
        """Give whole answers again."""
        self._troubles = {}
        self.wake()

    def trouble_of(self, path: str) -> Trouble | None:
        """Return what is broken on a path."""
        return next((trouble for glob, trouble in list(self._troubles.items()) if fnmatchcase(path, glob)), None)

    def is_interrupted(self, path: str) -> bool:
        """Tell whether a query that waits on a path has to end."""
        return self._ended.is_set() or self.trouble_of(path) is not None

    def sleep_until_the_end(self, path: str) -> None:
        """Wait until the registry stops or the path is silent no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended.is_set() or self.trouble_of(path) is not Trouble.SILENT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Handler(EmbeddedHandler):
    server: EmbeddedServer[EmbeddedRegistry]

    def do_GET(self) -> None:
        """Answer one query."""
        registry = self.server.registry
        url = urlsplit(self.path)
        path = unquote(url.path)
        asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
        registry.asked[path] += 1
        if registry.token and self.headers.get("X-Consul-Token") != registry.token:
            self._refuse(403, "Permission denied: token not found")
        elif asked.get("dc", registry.datacenter) != registry.datacenter:
            self._refuse(500, "No path to datacenter")
        else:
            self._answer(registry, path, asked)

    def _answer(self, registry: EmbeddedRegistry, path: str, asked: dict[str, str]) -> None:
        try:
            wait = _seconds(asked["wait"]) if "wait" in asked else DEFAULT_WAIT
            index, body = registry.read(path, int(asked.get("index", "0")), wait, lambda: registry.is_interrupted(path))
        except Aborted:
            self.close_connection = True
        except ValueError:
            self._refuse(400, "Invalid index or wait")
        except KeyError:
            self._refuse(404, "Invalid URL path: the embedded registry does not speak it")
        else:
            trouble = registry.trouble_of(path)
            if trouble is None:
                self._send(200, json.dumps(body).encode(), index)
            else:
                self._break(registry, path, trouble, index, body)

    def _break(self, registry: EmbeddedRegistry, path: str, trouble: Trouble, index: int, body: object) -> None:
        whole = json.dumps(body).encode()
        if trouble is Trouble.ERROR:
            self._refuse(500, "No cluster leader")
        elif trouble is Trouble.HTML:
            self._send(200, b"<html><body>Please log in</body></html>", index, kind="text/html")
        elif trouble is Trouble.HALF:
            self._send(200, whole[: len(whole) // 2], index)
        elif trouble is Trouble.LEADERLESS:
            self._send(200, whole, index, leader="false")
        elif trouble is Trouble.FILTERED:
            self._send(200, json.dumps(type(body)()).encode(), index, filtered=True)
        else:
            self.close_connection = True
            if trouble is Trouble.CUT:
                self._send(200, whole[: len(whole) // 2], index, length=len(whole))
            elif trouble is Trouble.SILENT:
                registry.sleep_until_the_end(path)

    def _refuse(self, code: int, reason: str) -> None:
        # Consul's errors carry the index 1, which means nothing.
        self._send(code, reason.encode(), 1, leader="false", kind="text/plain")

    def _send(
        self,
        code: int,
        body: bytes,
        index: int,
        *,
        leader: str = "true",
        kind: str = "application/json",
        filtered: bool = False,
        length: int | None = None,
    ) -> None:
        headers = {"X-Consul-Index": str(index), "X-Consul-Knownleader": leader, "X-Consul-Lastcontact": "0"}
        if filtered:
            headers["X-Consul-Results-Filtered-By-ACLs"] = "true"
        self.send(code, kind, body, headers, length)


def _seconds(duration: str) -> float:
    """Return a duration of Go's in seconds; zero means the default, as in Consul."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(duration)
    return min(int(match[1]) * _SECONDS[match[2]], LONGEST_WAIT) or DEFAULT_WAIT
