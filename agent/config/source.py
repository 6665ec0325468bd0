"""A YAML file as plain values, with the line and the spelling of each.

Everything that YAML itself does behind an author's back is a problem here: keys
given twice, keys without a value, and words that are not read as they look
(https://yaml.org/type/, version 1.1, as PyYAML reads it).
"""

import re
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from agent.installation import allowed
from state.errors import ConfigurationError

LARGEST = 1024 * 1024  # bytes
DEEPEST = 32  # levels; the configuration has six
MOST_VALUES = 50_000  # once every alias is written out

Place = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_COLLECTIONS = (f"{_TAG}map", f"{_TAG}seq")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
_SECRET = re.compile(r"(?:.*[-_])?(?:token|password|passwd|passphrase|secret)", re.IGNORECASE)
SHOWN = 80  # characters of a value in a message
_PLAIN_KEY = re.compile(r"[\w-]+", re.ASCII)


class Problem(NamedTuple):
    """A mistake and where it is; ``sentence`` follows the path of the key."""

    line: int
    place: Place
    sentence: str


class Mark(NamedTuple):
    """Where a value stands: its line from 1, its spelling ("" for a collection), the YAML node that it came from."""

    line: int
    word: str
    node: int


@dataclass(frozen=True, slots=True)
class Source:
    """The content of a file, where each value stands, and what is wrong with its YAML.

    ``odd`` are problems of single values: whoever checks those values has no more
    to say about them.
    """

    content: dict[str, object]
    marks: dict[Place, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    odd: dict[Place, str] = field(default_factory=dict)

    def mark(self, place: Place) -> Mark:
        """Return the mark of a place, or of the nearest one around it that exists."""
        while place not in self.marks:
            place = place[:-1]
        return self.marks[place]

    def at(self, place: Place) -> object:
        """Return the value at a place, None if there is none."""
        value: object = self.content
        for step in place:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value


def read(path: Path) -> Source:
    """Return what a file says; raises ConfigurationError when there is nothing to check."""
    text = _text(path)
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        sentence = ", ".join(part for part in (problem.context, problem.problem) if part)
        raise ConfigurationError([f"{path}:{line}: is not YAML: {sentence}"]) from None
    except yaml.reader.ReaderError as problem:
        line = text.encode()[: problem.position].count(b"\n") + 1
        raise ConfigurationError([f"{path}:{line}: is not YAML: {problem.reason}"]) from None
    if root is None or (isinstance(root, ScalarNode) and not root.value):
        return Source({}, {(): Mark(1, "", 0)})
    if not isinstance(root, MappingNode):
        found = "a list" if isinstance(root, SequenceNode) else "a single value"
        raise ConfigurationError([f"{path}:{_line(root)}: must be a mapping of keys to values, not {found}"])
    try:
        _Size().of(root, 1)
    except _TooLargeError as problem:
        raise ConfigurationError([f"{path}:{problem.line}: {problem}"]) from None
    return _Reader().read(root)


def dotted(place: Place) -> str:
    """Return a place as people write it: ``rules[0].match.service``."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _PLAIN_KEY.fullmatch(step) else shown(step))
    return text


def shown(text: str) -> str:
    """Return a text for a message: quoted, on one line, cut where it is long."""
    return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}..."


def is_secret(key: str) -> bool:
    """Tell whether a key asks for a secret itself, not for the file that holds it."""
    return _SECRET.fullmatch(key) is not None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except PermissionError as problem:
        remedy = f"{allowed(path)} read it"
        raise ConfigurationError([f"{path}: cannot be read: {problem.strerror}"], remedy) from problem
    except OSError as problem:
        raise ConfigurationError([f"{path}: cannot be read: {problem.strerror}"]) from problem
    if len(content) > LARGEST:
        raise ConfigurationError([f"{path}: is larger than {LARGEST} bytes"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        byte = content[problem.start]
        raise ConfigurationError([f"{path}:{line}: is not UTF-8: byte 0x{byte:02x}, {problem.reason}"]) from None


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


class _TooLargeError(Exception):
    def __init__(self, node: Node, sentence: str) -> None:
        super().__init__(sentence)
        self.line = _line(node)


class _Size:
    """Measures a tree with its aliases written out, without writing them out.

    An alias can only name what was read before it, so its size is known by then,
    unless it stands inside of what it names.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int] | None] = {}

    def of(self, node: Node, level: int) -> tuple[int, int]:
        """Return how many values and how many levels a node has."""
        if id(node) not in self._known:
            self._known[id(node)] = None
            self._known[id(node)] = self._measure(node, level)
        known = self._known[id(node)]
        if known is None:
            raise _TooLargeError(node, "has an alias inside of what it names")
        if level + known[1] - 1 > DEEPEST:
            raise _TooLargeError(node, f"is nested more than {DEEPEST} levels deep")
        return known

    def _measure(self, node: Node, level: int) -> tuple[int, int]:
        if level > DEEPEST:
            raise _TooLargeError(node, f"is nested more than {DEEPEST} levels deep")
        parts: list[Node] = []
        if isinstance(node, SequenceNode):
            parts = node.value
        elif isinstance(node, MappingNode):
            parts = [part for pair in node.value for part in pair]
        size, height = 1, 1
        for part in parts:
            values, levels = self.of(part, level + 1)
            size, height = size + values, max(height, levels + 1)
            if size > MOST_VALUES:
                raise _TooLargeError(node, f"holds more than {MOST_VALUES} values, its aliases written out")
        return size, height


class _Reader:
    """Turns nodes into values; a node that aliases repeat is complained about once."""

    def __init__(self) -> None:
        self._source = Source({})
        self._reported: set[int] = set()

    def read(self, root: MappingNode) -> Source:
        self._source.marks[()] = Mark(1, "", id(root))
        self._source.content.update(self._mapping(root, ()))
        return self._source

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, object]:
        return {key: self._value(value, (*place, key), line) for key, (line, value) in self._pairs(node, place).items()}

    def _pairs(self, node: MappingNode, place: Place) -> dict[str, tuple[int, Node]]:
        """Return the keys of a mapping, those that it merges first, with their lines and values."""
        own: dict[str, tuple[int, Node]] = {}
        merged: dict[str, tuple[int, Node]] = {}
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                for part in value.value if isinstance(value, SequenceNode) else [value]:
                    if isinstance(part, MappingNode):
                        merged = {**self._pairs(part, place), **merged}
                    else:
                        self._report(part, (*place, "<<"), "must be a mapping, or a list of mappings, to merge")
            elif isinstance(key, ScalarNode):
                name = str(key.value)
                if key.tag != f"{_TAG}str":
                    self._odd(key, (*place, name), "is a key that YAML does not read as text: put it in quotes")
                if name in own:
                    self._report(key, (*place, name), f"is given twice, first in line {own[name][0]}")
                own[name] = (_line(key), value)
            else:
                self._report(key, place, "has a key that is no text")
        return {**merged, **own}

    def _value(self, node: Node, place: Place, line: int) -> object:
        self._source.marks[place] = Mark(line, node.value if isinstance(node, ScalarNode) else "", id(node))
        if isinstance(node, ScalarNode):
            value, sentence = _scalar(node)
            if sentence:
                # Under a key that asks for a secret, the spelling may be one.
                self._odd(node, place, "has a value that is no text" if any(map(_secret_step, place)) else sentence)
            return value
        if node.tag not in _COLLECTIONS:
            self._odd(node, place, "has a YAML tag, and tags have no meaning here")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, place)
        return [self._value(part, (*place, number), _line(part)) for number, part in enumerate(node.value)]

    def _odd(self, node: Node, place: Place, sentence: str) -> None:
        self._source.odd.setdefault(place, "" if id(node) in self._reported else sentence)
        self._reported.add(id(node))

    def _report(self, node: Node, place: Place, sentence: str) -> None:
        if id(node) not in self._reported:
            self._reported.add(id(node))
            self._source.problems.append(Problem(_line(node), place, sentence))


def _secret_step(step: str | int) -> bool:
    return isinstance(step, str) and is_secret(step)


def _scalar(node: ScalarNode) -> tuple[object, str]:
    """Return a scalar's value, and what is odd about it or ""."""
    word, kind = str(node.value), node.tag.removeprefix(_TAG)
    match kind:
        case "str":
            return word, ""
        case "null":
            return None, "has no value: give it one or leave the key out"
        case "bool" if word.lower() in SafeConstructor.bool_values:
            return SafeConstructor.bool_values[word.lower()], ""
        case "int" if _INTEGER.fullmatch(word):
            return int(word), ""
        case "float" if _DECIMAL.fullmatch(word) and isfinite(float(word)):
            return float(word), ""
        case "int" | "float":
            return None, f"{shown(word)} is no plain decimal number: put it in quotes if it is text"
        case "timestamp":
            return None, f"YAML reads {shown(word)} as a date: put it in quotes"
        case "value" | "merge":
            return None, f"{shown(word)} means something to YAML: put it in quotes"
    return None, "has a YAML tag, and tags have no meaning here"
