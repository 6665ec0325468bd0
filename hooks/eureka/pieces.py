"""JSON decoded piece by piece, so that 10 MB of it are never one step, nor in memory twice."""

import codecs
import re
from collections.abc import Iterator
from json import JSONDecoder

from hooks.fields import shown
from state.errors import RegistryError

PIECE = 64 * 1024  # bytes decoded at a time, doubled while one value needs more

_SPACE = re.compile(r"[ \t\n\r]*")
_decode = JSONDecoder().raw_decode


class Pieces:
    """Walks over a JSON text: members and elements one by one, anything smaller as a whole value."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._taken = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._place = 0

    def members(self, what: str) -> Iterator[str]:
        """Yield each key of the object that begins here; the caller takes its value before the next one."""
        if self.sign() in tuple('["tfn-0123456789'):
            raise RegistryError(f"{what} is {shown(self.value())}, not an object")
        self._expect("{")
        if self.sign() == "}":
            self._place += 1
            return
        while True:
            key = self.value() if self.sign() == '"' else None
            if not isinstance(key, str):
                raise self._wrong("a key")
            self._expect(":")
            yield key
            if self._comma_or("}"):
                return

    def places(self) -> Iterator[int]:
        """Stand before each element of the list that begins here, and yield its number; the caller takes it."""
        self._expect("[")
        if self.sign() == "]":
            self._place += 1
            return
        number = 0
        while True:
            yield number
            number += 1
            if self._comma_or("]"):
                return

    def value(self) -> object:
        """Return the whole value that begins here."""
        self.sign()
        size = PIECE
        while True:
            try:
                value, end = _decode(self._text, self._place)
            except (ValueError, RecursionError) as error:  # a huge number is a ValueError
                if not self._more(size):
                    raise self._wrong("a value") from error
            else:
                # At the end of a piece "12" may be the beginning of "123".
                if end < len(self._text) or not self._more(size):
                    self._place = end
                    return value
            size *= 2

    def sign(self) -> str:
        """Return the next character that is no space, without taking it; "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._place)
            self._place = space.end() if space else self._place
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._more(PIECE):
                return ""

    def end(self) -> None:
        """Raise RegistryError unless nothing follows."""
        if self.sign():
            raise self._wrong("the end")

    def _comma_or(self, end: str) -> bool:
        sign = self.sign()
        if sign not in (",", end) or not sign:
            raise self._wrong(f"',' or '{end}'")
        self._place += 1
        return sign == end

    def _expect(self, sign: str) -> None:
        if self.sign() != sign:
            raise self._wrong(f"'{sign}'")
        self._place += 1

    def _more(self, size: int) -> bool:
        """Decode more of the body and forget what was taken; False at its end."""
        if self._taken >= len(self._body):
            return False
        piece = self._body[self._taken : self._taken + size]
        self._taken += len(piece)
        try:
            text = self._utf8.decode(piece, final=self._taken >= len(self._body))
        except UnicodeDecodeError as error:
            place = self._taken - len(piece) + error.start
            raise RegistryError(f"the answer is not UTF-8 (near byte {place})") from error
        self._text = self._text[self._place :] + text
        self._place = 0
        return True

    def _wrong(self, wanted: str) -> RegistryError:
        left = self._text[self._place :]
        if not left:
            return RegistryError(f"the answer ends after {len(self._body)} bytes where {wanted} is missing")
        place = self._taken - len(left.encode("utf-8", "surrogatepass"))
        return RegistryError(
            f"the answer is not the JSON of Eureka: {wanted} is missing at byte {place}: {shown(left)}"
        )
