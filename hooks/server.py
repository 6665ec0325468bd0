"""HTTP in threads of its own, on one socket: waitress, started and ended in order.

Waitress mixes no kinds of sockets, so there is one server for each socket.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from stat import S_ISSOCK
from typing import Any

from flask import Flask
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.wasyncore import close_all, dispatcher

PATIENCE = 5.0  # seconds for requests in flight at the end
QUIET = 10  # seconds after which a connection without news is closed
LOOK = 5  # seconds between two looks for such connections
READ = 65_536  # bytes at a time, so that a large body takes few turns
DRAIN = 0.5  # seconds at the end for requests that had come: whoever asks again may find nobody for a while
FRESH = 0.1  # seconds in which a connection's first request arrives, if it comes at all
TURN = 0.01


class WebServer:
    """Serves an application on a bound socket, which is then its own: ``stop`` closes it."""

    def __init__(
        self,
        name: str,
        app: Flask,
        listening: socket.socket,
        *,
        threads: int = 4,
        connections: int = 32,
        largest_body: int = 4096,
        channel: type[HTTPChannel] = HTTPChannel,
        ours: bool = True,
    ) -> None:
        """``ours`` tells that a unix socket's file goes with it; that of a socket passed by systemd is systemd's."""
        self._name = name
        self._app = app
        self._listening = listening
        self._file = _file_of(listening) if ours else None
        self._settings: dict[str, Any] = {
            "threads": threads,
            "connection_limit": connections,
            "max_request_body_size": largest_body + 1,  # waitress refuses what reaches its limit
        }
        self._channel = channel
        self._channels: dict[int, Any] = {}
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen, and answer from now on."""
        self._server = create_server(
            self._app,
            map=self._channels,
            sockets=[self._listening],
            channel_timeout=QUIET,
            cleanup_interval=LOOK,
            asyncore_use_poll=True,  # select takes no file descriptor above 1023, and ends the server at one
            log_socket_errors=False,  # a client that went away is no news
            recv_bytes=READ,
            ident=None,
            clear_untrusted_proxy_headers=True,
            **self._settings,
        )
        self._server.channel_class = self._channel
        self._thread = threading.Thread(target=self._server.run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the socket and every connection, and remove the socket's file if it is still ours."""
        if self._file is not None:
            path, inode = self._file
            with suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()
        if self._thread is None:
            self._listening.close()
            return
        # Connections that nobody has accepted stay in the queue of a socket that systemd passed.
        self._tell(lambda: dispatcher.close(self._server))
        self._drain()
        self._tell(lambda: close_all(self._channels))
        self._thread.join(PATIENCE)
        self._server.task_dispatcher.shutdown(timeout=PATIENCE)
        self._thread = None

    def _tell(self, what: Callable[[], object]) -> None:
        """Have something done in the thread that waits on the sockets: closing what it polls would confuse it."""
        with suppress(OSError):  # it may hear of it, and close the trigger, before we have pulled it
            self._server.trigger.pull_trigger(what)

    def _drain(self) -> None:
        """Wait a moment while requests that have come are answered."""
        deadline = time.monotonic() + DRAIN
        while time.monotonic() < deadline and any(map(_is_busy, list(self._channels.values()))):
            time.sleep(TURN)


def _is_busy(channel: Any) -> bool:
    """Tell whether somebody on a connection waits for an answer, or is about to ask."""
    if not isinstance(channel, HTTPChannel):
        return False
    return bool(channel.requests) or channel.request is not None or time.time() - channel.creation_time < FRESH


def bind_tcp(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, which does not listen yet; raises OSError."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # also right after the last agent's end
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def bind_unix(path: Path, mode: int) -> socket.socket:
    """Return a socket bound to a path, in place of one that nobody answers any more; raises OSError.

    Its folder is made. It does not listen yet, so nobody can connect before the mode holds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if _is_answered(path):
        raise OSError(0, "another agent answers there")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        path.chmod(mode)
    except OSError:
        bound.close()
        raise
    return bound


def _is_answered(path: Path) -> bool:
    """Tell whether somebody answers at a socket; a file that nobody answers at is removed."""
    try:
        if not S_ISSOCK(path.lstat().st_mode):
            return False  # binding fails, and says so
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return False
        except BlockingIOError:  # its queue is full: somebody is there
            return True
    return True


def _file_of(listening: socket.socket) -> tuple[Path, int] | None:
    """Return where a unix socket is, and the inode that tells whether it is still the same one."""
    if listening.family != socket.AF_UNIX:
        return None
    path = Path(listening.getsockname())
    return path, path.stat().st_ino
