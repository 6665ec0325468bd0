"""HTTP/1.1 answers of which only the head counts, read in pieces as they come.

https://www.rfc-editor.org/rfc/rfc9112
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

OK = 200
LONGEST_HEAD = 2**16  # bytes
LARGEST_BODY = 2**20  # bytes; with the filter that is asked for it is two

Waits = Generator[None, None, None]


class WireError(Exception):
    """An answer that is none, or that did not come; the connection is of no more use."""


class RefusedError(WireError):
    """There may not be so many connections, or requests, of ours."""


class ClosedError(WireError):
    """The connection was closed with nothing answered: so ends one over Consul's limit, or a Consul that ends."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer; header names are in lower case."""

    code: int
    headers: Mapping[str, str]


class Answers:
    """Reads what a server sends on one connection; bodies are dropped.

    An answer of status 200 counts when all of it has come, any other at once.
    """

    __slots__ = ("_buffer", "_heads", "_in_body", "_reading")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._heads: list[Head] = []
        self._in_body = False
        self._reading = self._read()
        next(self._reading)

    def is_amid(self) -> bool:
        """Tell whether an answer has begun to come, and not ended."""
        return self._in_body or bool(self._buffer)

    def feed(self, piece: bytes) -> list[Head]:
        """Return the answers that count with this piece; raises WireError when it is no HTTP, or too much."""
        self._buffer += piece
        try:
            next(self._reading)
        except ValueError as error:
            raise WireError(f"no answer in HTTP: {error}") from None
        heads, self._heads = self._heads, []
        return heads

    def _read(self) -> Waits:
        """Read one answer after another; yields where more must come."""
        while True:
            head = _head((yield from self._until(b"\r\n\r\n")).decode("latin-1"))
            self._in_body = True
            if head.code != OK:
                self._heads.append(head)
            yield from self._drop_body(head)
            if head.code == OK:
                self._heads.append(head)
            self._in_body = False
            del head  # or it would be kept until the next one comes

    def _drop_body(self, head: Head) -> Waits:
        if "chunked" not in head.headers.get("transfer-encoding", "").lower():
            # Without a length it ends with the connection, and so is never whole.
            yield from self._drop(_size(head.headers.get("content-length", str(LARGEST_BODY)), 10), LARGEST_BODY)
            return
        left = LARGEST_BODY
        while size := _size((yield from self._until(b"\r\n")).partition(b";")[0].decode("latin-1"), 16):
            yield from self._drop(size, left)
            left -= size
            yield from self._until(b"\r\n")
        while (yield from self._until(b"\r\n")):
            pass  # trailers

    def _until(self, mark: bytes) -> Generator[None, None, bytes]:
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > LONGEST_HEAD:
                raise ValueError(f"{LONGEST_HEAD} bytes of head and no end")
            yield
        text = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return text

    def _drop(self, size: int, most: int) -> Waits:
        if size > most:
            raise ValueError(f"the body is larger than {LARGEST_BODY} bytes")
        while size > len(self._buffer):
            size -= len(self._buffer)
            self._buffer.clear()
            yield
        del self._buffer[:size]


def _head(text: str) -> Head:
    status, *lines = text.split("\r\n")
    version, code, *_ = [*status.split(" ", 2), "", ""]
    if not version.startswith("HTTP/1.") or len(code) != 3 or not code.isdecimal():
        raise ValueError("it does not begin with a status line")
    fields = (line.partition(":") for line in lines)
    return Head(int(code), {name.strip().lower(): value.strip() for name, _, value in fields})


def _size(text: str, base: int) -> int:
    text = text.strip()
    if not text.isalnum() or len(text) > 16:  # int() alone takes signs, spaces and underscores
        raise ValueError("the size of its body is no number")
    return int(text, base)
