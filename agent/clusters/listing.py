"""A list of a Kubernetes API server, read object by object.

Parsed as a whole, ten thousand objects take ten times the memory of what is kept of
them, and the process does not give it back. So of each page only the text is whole.
"""

from collections.abc import Callable, Iterator
from json import JSONDecoder
from typing import Any

from agent.clusters.api import Api
from agent.clusters.faults import Call, unexpected
from agent.clusters.known import Record
from agent.clusters.watch import SELECTOR, record_of

PAGE = 1000  # objects; ten thousand cost the server the same in pages of 500 or of 5000

_SPACES = frozenset(" \t\n\r")
_decode = JSONDecoder().raw_decode


def read_list(api: Api, call: Call, path: str, kind: str) -> tuple[str, list[Record]]:
    """Return all isthmus objects of one kind and the version of the list; ClusterError when it is not complete."""
    # Without resourceVersion a list is consistent: it shows every write that was acknowledged before.
    query: dict[str, str | int] = {"labelSelector": SELECTOR, "limit": PAGE}
    records: list[Record] = []
    while True:
        text = api.page(call, path, query=query)
        try:
            metadata = split(text, "items", lambda shown: records.append(record_of(kind, shown)))["metadata"]
            version, following = metadata["resourceVersion"], metadata.get("continue")
            int(version)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise unexpected(call, f"no list of Kubernetes ({error})") from None
        if not following:
            return version, records
        query["continue"] = following


def split(text: str, name: str, take: Callable[[Any], None]) -> dict[str, Any]:
    """Hand over each element of one list in a JSON object, and return the other fields; ValueError for other JSON."""
    fields: dict[str, Any] = {}
    reader, found = _Reader(text), False
    for _ in reader.elements("{", "}"):
        field = reader.value()
        reader.need(":")
        if field == name:
            for _ in reader.elements("[", "]"):
                take(reader.value())
            found = True
        else:
            fields[field] = reader.value()
    reader.end()
    if not found:
        raise ValueError(f"there are no {name}")
    return fields


class _Reader:
    """A place in a JSON text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def value(self) -> Any:
        """Return the value that begins here, and step over it."""
        self._skip()
        value, self._at = _decode(self._text, self._at)
        return value

    def elements(self, first: str, last: str) -> Iterator[None]:
        """Stop at each element between two brackets, which whoever iterates reads."""
        self.need(first)
        if self._take(last):
            return
        while True:
            yield
            if self._take(last):
                return
            self.need(",")

    def need(self, mark: str) -> None:
        """Step over a mark; ValueError when it is not here."""
        if not self._take(mark):
            raise ValueError(f"no {mark} at character {self._at}")

    def end(self) -> None:
        """Raise ValueError unless the text ends here."""
        self._skip()
        if self._at < len(self._text):
            raise ValueError(f"more than one value, at character {self._at}")

    def _take(self, mark: str) -> bool:
        self._skip()
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        return True

    def _skip(self) -> None:
        while self._text[self._at : self._at + 1] in _SPACES:
            self._at += 1
