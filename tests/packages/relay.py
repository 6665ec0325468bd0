"""A relay between two network namespaces, from loopback to loopback: nothing in it listens to anybody else."""

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

OUTSIDE = Path("/proc/self/ns/net")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Relay:
    """Takes connections on a port in one namespace and hands them over, both ways, to a port in the other.

    A namespace belongs to each thread of its own, and a socket to the namespace in which it was made: setns(2).
    """

    def __init__(self, taken_in: Path, port: int, handed_to: Path, to_port: int) -> None:
        self.port = port
        self._to = ("127.0.0.1", to_port)
        self._target = os.open(handed_to, os.O_RDONLY | os.O_CLOEXEC)
        self._streams: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._listening = _in_namespace(taken_in, lambda: socket.create_server(("127.0.0.1", port), backlog=200))
        except BaseException:
            os.close(self._target)
            raise
        self._accepting = threading.Thread(target=self._accept, name=f"relay-{port}", daemon=True)

    def open(self) -> Self:
        """Begin to hand over."""
        self._accepting.start()
        return self

    def close(self) -> None:
        """End the relay and every connection through it."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listening.close()
        os.close(self._target)
        with self._lock:
            self._closed = True
            for stream in self._streams:
                with suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        _set_namespace(self._target)
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # A thread begins in the namespace of the one that started it.
        with client:
            try:
                server = socket.create_connection(self._to, timeout=10)
            except OSError:
                return  # the client sees its connection end, as from a port behind which nobody listens
            with server:
                server.settimeout(None)
                with self._lock:
                    if self._closed:
                        return
                    self._streams |= {client, server}
                back = threading.Thread(target=_hand_over, args=(server, client), daemon=True)
                back.start()
                _hand_over(client, server)
                back.join()
                with self._lock:
                    self._streams -= {client, server}

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _hand_over(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(2**16):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


def _in_namespace(namespace: Path, make: Callable[[], socket.socket]) -> socket.socket:
    """Return what `make` makes in another network namespace; the calling thread stays in its own."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def go() -> None:
        try:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _set_namespace(descriptor)
            finally:
                os.close(descriptor)
            made.append(make())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
