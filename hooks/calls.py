"""Connections on which only the head of a request counts: its body is dropped while it comes.

Waitress would keep a body, on disk when it is large, and answer by itself what ends
too late or too early. Here a call that is cut off, too large or wrongly chunked is
judged like any other, and 200 of the largest at once take no memory.
"""

import socket
import threading
from io import BytesIO
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser

LARGEST_BODY = 64 * 2**20  # bytes; of a larger one no more is read


class Dropped:
    """Takes the place of a body, of which only the size is kept."""

    def __init__(self) -> None:
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, part: bytes) -> None:
        """Drop a part."""
        self._size += len(part)

    def getfile(self) -> BytesIO:
        """Return what an application may read: nothing."""
        return BytesIO()

    def close(self) -> None:
        """Do nothing: nothing was kept."""


class Call(HTTPRequestParser):
    """A request without its body, whose length the header then tells."""

    headers: dict[str, str]

    def parse_header(self, header_plus: bytes) -> None:
        """Read the head, and have the body dropped."""
        super().parse_header(header_plus)
        if self.body_rcv is not None:
            self.body_rcv.buf = Dropped()  # type: ignore[assignment]

    def received(self, data: bytes) -> int:
        """Return how many of these bytes belong to this request."""
        consumed: int = super().received(data)
        if self.body_rcv is None:
            return consumed
        if self.error is not None or max(self.content_length, len(self.body_rcv)) > LARGEST_BODY:
            self.end()
            return len(data)
        return consumed

    def end(self) -> None:
        """Take what came for the whole body, and the connection for used up."""
        self.error = None
        self.completed = True
        self.expect_continue = False
        self.headers["CONNECTION"] = "close"
        self.headers["CONTENT_LENGTH"] = str(len(self.body_rcv or b"") or self.content_length)


class CallChannel(HTTPChannel):
    """A connection that is closed when a call takes too long, however steadily it drips."""

    parser_class = Call

    # As waitress has them.
    server: Any
    socket: socket.socket
    requests: list[HTTPRequestParser]
    requests_lock: threading.Lock

    def handle_read(self) -> None:
        """Take what came. Unlike in waitress, it is no sign of life, and the client's end also ends a body."""
        try:
            data = self.socket.recv(self.adj.recv_bytes)
        except BlockingIOError:
            return
        except OSError:
            self.handle_close()
            return
        if data:
            self.received(data)
        elif isinstance(self.request, Call) and self.request.headers_finished:
            self._end_body(self.request)
        else:
            self.handle_close()

    def handle_close(self) -> None:
        """Close the connection, unless a call on it waits for its turn: it is heard although nobody hears the answer.

        So is one that lay in the queue of a socket while no agent served it, for longer than whoever called waited.
        """
        if not self.requests:
            super().handle_close()

    def _end_body(self, call: Call) -> None:
        with self.requests_lock:
            call.end()
            self.requests.append(call)
            self.request = None
        self.server.add_task(self)
