"""One connection for queries of which only the head of the answer counts.

Raw sockets, as a thousand of them wait in one thread, for a kilobyte or two each:
asyncio's own streams take seven, and 290 with TLS.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from hooks.consul.answers import Answers, ClosedError, Head, RefusedError, WireError
from hooks.consul.route import Route, UnreachableError, reason
from state.limits import Limits

logger = logging.getLogger(__name__)

PIECE = 2**14  # bytes
TOO_MANY = 429


class Wire:
    """Connects, sends requests, and hands over the answers in their order, until it is lost or closed.

    For the event loop's thread. Neither callback is called before the constructor
    returns; ``lose`` is called once, and never after ``close``.
    """

    __slots__ = (
        *("_answers", "_awaited", "_connected", "_hear", "_limits", "_loop", "_lose"),
        *("_out", "_patience", "_route", "_socket", "_timer", "_writing", "answered"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        route: Route,
        limits: Limits,
        source: str,
        *,
        hear: Callable[[Head], None],
        lose: Callable[[WireError], None],
    ) -> None:
        """``source`` is the address to come from, "" for the one that everybody has."""
        self._loop = loop
        self._route = route
        self._limits = limits
        self._hear = hear
        self._lose = lose
        self._answers = Answers()
        self._out = bytearray()
        self._awaited = 0  # answers
        self._patience = 0.0
        self._connected = False
        self._writing = False  # is waited for, beside reading
        self.answered = False  # by anything
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = loop.call_later(limits.connect_timeout, self._late)
        try:
            self._socket = route.begin(source)
        except WireError as error:
            loop.call_soon(self._fail, error)
        else:
            loop.add_writer(self._socket, self._ready)

    def send(self, requests: bytes, patience: float, answers: int = 1) -> None:
        """Send requests, whose answers must all have come after ``patience`` seconds."""
        self._awaited += answers
        self._patience = patience
        self._out += requests
        if self._connected:
            self._time(patience)
            self._ready()

    def close(self) -> None:
        """End the connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        self._lose = _ignore

    # Events

    def _ready(self) -> None:
        """Do whatever can be done now."""
        try:
            if self._socket is not None and not self._connected:
                self._connect(self._socket)
            if self._socket is not None:
                self._write(self._socket)
                self._read(self._socket)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except ssl.SSLWantWriteError:
            self._watch(writing=True)
        except WireError as error:
            self._fail(error)
        except OSError as error:
            self._fail(self._named(error))
        except Exception as error:  # the connection's one net: the others go on
            logger.exception("a parked query has failed")
            self._fail(WireError(reason(error)))

    def _connect(self, connecting: socket.socket) -> None:
        """Go on connecting; raises SSLWantReadError or SSLWantWriteError while it is not done."""
        if not isinstance(connecting, ssl.SSLSocket):
            problem = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if problem:
                raise OSError(problem, os.strerror(problem))
            self._loop.remove_writer(connecting)
            self._socket = None
            self._socket = connecting = self._route.secure(connecting)
            self._loop.add_reader(connecting, self._ready)
        if isinstance(connecting, ssl.SSLSocket):
            connecting.do_handshake()
        self._connected = True
        self._time(self._patience if self._awaited else None)

    def _write(self, connected: socket.socket) -> None:
        if self._out:
            with suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                del self._out[: connected.send(self._out)]
        self._watch(writing=bool(self._out))

    def _read(self, connected: socket.socket) -> None:
        """Read what has come; raises BlockingIOError or SSLWantReadError when that was all."""
        while True:
            piece = connected.recv(PIECE)
            if not piece:
                raise ConnectionResetError("the connection was closed")
            amid = self._answers.is_amid()
            heads = self._answers.feed(piece)
            if len(heads) > self._awaited:
                raise WireError("answered what was not asked")
            for head in heads:
                self._told(head)
                if self._socket is None:
                    return
            if self._answers.is_amid() and not amid:
                self._time(self._limits.read_timeout)  # what has begun to come must not drip for as long as a wait
            if len(piece) < PIECE and not isinstance(connected, ssl.SSLSocket):
                return

    def _told(self, head: Head) -> None:
        if head.code == TOO_MANY:
            raise RefusedError(f"answered {TOO_MANY}")
        self._awaited -= 1
        self.answered = True
        if not self._awaited:
            self._time(None)
        self._hear(head)

    def _watch(self, *, writing: bool) -> None:
        if self._socket is not None and writing != self._writing:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._socket, self._ready)
            else:
                self._loop.remove_writer(self._socket)

    def _time(self, patience: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if patience is None else self._loop.call_later(patience, self._late)

    def _late(self) -> None:
        if self._connected:
            self._fail(WireError("no whole answer came in time"))
        else:
            self._fail(UnreachableError(f"no connection within {self._limits.connect_timeout:g} s"))

    def _named(self, error: OSError) -> WireError:
        """Tell what an error of the connection means."""
        refused = isinstance(error, ConnectionRefusedError)
        gone = isinstance(error, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
        if gone and not refused and not self.answered:
            return ClosedError(f"closed unanswered: {reason(error)}")
        return (WireError if self._connected else UnreachableError)(reason(error))

    def _fail(self, error: WireError) -> None:
        lose = self._lose
        self.close()
        lose(error)


def _ignore(error: WireError) -> None:
    """Lose a connection that nobody wants any more."""
