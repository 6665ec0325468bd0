"""A server on loopback that says exactly what a test wants, byte for byte, whatever it is asked."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def scripted(
    answer: bytes, tls: ssl.SSLContext | None = None, *, drip: float = 0.0
) -> Iterator[tuple[int, list[bytes]]]:
    """Answer every request with these bytes, one connection after another; yield the port and what was asked."""
    asked: list[bytes] = []
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        while not ended.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                connection.settimeout(5)
                with tls.wrap_socket(connection, server_side=True) if tls else connection as stream:
                    asked.append(stream.recv(65536))
                    for start in range(0, len(answer), 1) if drip else ():
                        stream.sendall(answer[start : start + 1])
                        if ended.wait(drip):
                            return
                    stream.sendall(b"" if drip else answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1], asked
        finally:
            ended.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def http(body: bytes = b"[]", status: str = "200 OK", **headers: str) -> bytes:
    lines = {"X-Consul-Index": "7", "Content-Length": str(len(body)), "Connection": "close"}
    for name, value in headers.items():
        lines[name.replace("_", "-")] = value
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"HTTP/1.1 {status}\r\n{text}\r\n".encode("latin-1") + body


def chunked(body: bytes) -> bytes:
    pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    return b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in (*pieces, b""))
