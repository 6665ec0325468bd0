"""Witnesses of what a cluster holds at every moment, and judges of every change that they see."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

from tests.integration.oracle import Picture, difference, ours, written
from tests.testbed.processes import ProcessError, wait_until
from tests.testbed.recorder import Event, Recorder

Key = tuple[str, str]


class Witness(Protocol):
    """Who looks at one cluster; `problems` are what nobody may ever see, `protected` what may never be missing.

    `events` are what has happened, as far as that can be seen.
    """

    name: str
    protected: set[Key]
    problems: list[str]
    events: list[Event]

    def look(self) -> Picture:
        """Say what the cluster holds."""

    def changed_at(self) -> float:
        """Say when it changed last, in monotonic seconds."""


class ServerWitness:
    """Sees every event of one namespace of an API server, in the order of their happening."""

    def __init__(self, name: str, recorder: Recorder) -> None:
        self.name = name
        self.protected: set[Key] = set()
        self.problems: list[str] = []
        self.events: list[Event] = []
        self._recorder = recorder
        self._picture: Picture = {}

    def look(self) -> Picture:
        """Take in what has happened, and say what the cluster holds."""
        for event in self._recorder.seen()[len(self.events) :]:
            self._take(event)
        return dict(self._picture)

    def changed_at(self) -> float:
        """Say when the last event was seen."""
        return self.events[-1].time

    def _take(self, event: Event) -> None:
        self.events.append(event)
        key = (event.kind, event.name)
        if event.type == "DELETED":
            del self._picture[key]
            if key in self.protected:
                self.problems.append(f"{self.name}: {key} was deleted while it was healthy")
            return
        after = ours(event.object)
        if event.type == "MODIFIED" and self._picture[key] == after:
            self.problems.append(f"{self.name}: {key} was written, and nothing of it changed: {event.object}")
        self._picture[key] = after


class FolderWitness:
    """Sees the files of a directory as often as it looks."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.protected: set[Key] = set()
        self.problems: list[str] = []
        self.events: list[Event] = []
        self._folder = folder
        self._read: dict[Path, tuple[tuple[int, int], Picture]] = {}

    def look(self) -> Picture:
        """Read every file that has changed, and say what the directory holds."""
        found: Picture = {}
        for path in sorted(self._folder.glob("*.yaml")):
            found |= self._file(path)
        for key in self.protected - found.keys():
            self.problems.append(f"{self.name}: {key} is missing, and was healthy all the time")
        return found

    def changed_at(self) -> float:
        """Say when the last file was renamed or removed."""
        return time.monotonic() - (time.time() - self._folder.stat().st_mtime)

    def _file(self, path: Path) -> Picture:
        try:
            found = path.stat()
            stamp = (found.st_ino, found.st_mtime_ns)
            if self._read.get(path, ((), {}))[0] != stamp:
                self._read[path] = (stamp, written(objects(path)))
        except FileNotFoundError:  # between the list and the look
            return {}
        return self._read[path][1]


def objects(path: Path) -> list[Mapping[str, Any]]:
    """Read the objects in a file."""
    return list(yaml.load_all(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def settle(witnesses: Sequence[Witness], wanted: Mapping[str, Picture], deadline: float, where: str) -> None:
    """Wait until every cluster is as wanted; whatever a witness minds is raised."""

    def is_so() -> bool:
        pictures = {witness.name: witness.look() for witness in witnesses}
        assert_no_problems(witnesses, where)
        return all(pictures[name] == wanted[name] for name in pictures)

    try:
        wait_until(is_so, "every cluster is as the oracle says", deadline)
    except ProcessError as error:
        lines = [
            f"{witness.name}: {line}"
            for witness in witnesses
            for line in difference(wanted[witness.name], witness.look())
        ]
        raise AssertionError("\n".join([f"{where}: {error}", *lines])) from None


def assert_no_problems(witnesses: Sequence[Witness], where: str) -> None:
    """Raise what witnesses have seen that nobody may ever see."""
    problems = [problem for witness in witnesses for problem in witness.problems]
    assert not problems, "\n".join([where, *problems])
