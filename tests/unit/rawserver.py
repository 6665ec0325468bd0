"""A server of the test's own on loopback, which may speak HTTP as badly as the test says."""

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

BACKLOG = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for the index of a service; `index` is 0 in one that does not wait."""

    service: str
    index: int
    wait: float
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(slots=True)
class Connection:
    """A client's connection, as the server has it."""

    number: int
    source: str
    stream: socket.socket
    asked: list[Asked] = field(default_factory=list)
    _buffer: bytes = b""

    def ask(self) -> Asked:
        """Return the next request; ConnectionError when the client has ended the connection."""
        while b"\r\n\r\n" not in self._buffer:
            piece = self.stream.recv(2**16)
            if not piece:
                raise ConnectionResetError("the client is gone")
            self._buffer += piece
        text, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        line, *lines = text.decode("ascii").split("\r\n")
        url = urlsplit(line.split(" ")[1])
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        wait = float(query.get("wait", "0ms").removesuffix("ms")) / 1000
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
        asked = Asked(unquote(url.path.rpartition("/")[2]), int(query.get("index", "0")), wait, query, headers)
        self.asked.append(asked)
        return asked

    def answer(self, index: object = None, code: int = 200, body: bytes = b"[]", **headers: object) -> None:
        """Answer as Consul does, without an index when there is none."""
        found = {"Content-Length": len(body), "X-Consul-Knownleader": "true", "X-Consul-Lastcontact": 0}
        more = {} if index is None else {"X-Consul-Index": index}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"HTTP/1.1 {code} So", *(f"{name}: {value}" for name, value in {**found, **more, **given}.items())]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def send(self, octets: bytes) -> None:
        """Send anything."""
        self.stream.sendall(octets)

    def rest(self, seconds: float) -> None:
        """Wait, unless the client ends the connection meanwhile: ConnectionError."""
        self.stream.settimeout(seconds)
        with suppress(TimeoutError):
            if not self.stream.recv(1, socket.MSG_PEEK):
                raise ConnectionResetError("the client is gone")
        self.stream.settimeout(None)

    def wait_for_end(self) -> None:
        """Return when the client ends the connection, whatever it sends before."""
        while self.stream.recv(2**16):
            pass

    def reset(self) -> None:
        """End the connection as one that was never wanted."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


class RawServer:
    """Serves each connection in a thread of its own, and ends it when that returns."""

    def __init__(self, serve: Callable[[Connection], object], host: str = "127.0.0.1") -> None:
        self.serve = serve
        self.connections: list[Connection] = []
        self.most = 0  # connections open at once
        self._open: set[int] = set()
        self._lock = threading.Lock()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, 0), family=family, backlog=BACKLOG)
        self._threads = [threading.Thread(target=self._accept)]
        self.port = self._listening.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def is_deserted(self) -> bool:
        """Whether no connection is open."""
        return not self._open

    @property
    def asked(self) -> list[Asked]:
        """All requests, by connection."""
        return [asked for connection in tuple(self.connections) for asked in tuple(connection.asked)]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                stream, address = self._listening.accept()
                with self._lock:
                    connection = Connection(len(self.connections), address[0], stream)
                    self.connections.append(connection)
                    self._open.add(connection.number)
                    self.most = max(self.most, len(self._open))
                thread = threading.Thread(target=self._serve, args=(connection,))
                thread.start()
                self._threads.append(thread)

    def _serve(self, connection: Connection) -> None:
        with connection.stream, suppress(OSError):
            self.serve(connection)
        with self._lock:
            self._open.discard(connection.number)

    def cut(self) -> None:
        """End all connections, in the middle of anything."""
        for connection in tuple(self.connections):
            with suppress(OSError):
                connection.stream.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join()
