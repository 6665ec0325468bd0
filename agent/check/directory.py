"""One directory as a cluster: whether it can be written, and what else is in it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.check.finding import Finding, cluster, error, note, ok, warning
from agent.clusters.documents import DocumentsError, parse
from agent.clusters.files import TEMPORARY
from agent.clusters.settings import DirectorySettings
from agent.words import count

SHOWN = 3  # names of files


def check_directory(settings: DirectorySettings, namespaces: Iterable[str]) -> list[Finding]:
    """Return how it is with a directory, in which nothing is written."""
    place, root = cluster(settings.name), settings.directory
    found: list[Finding] = []
    for folder in (root, *(root / namespace for namespace in sorted(namespaces))):
        if told := unwritable(folder):
            found.append(
                error(place, told, f"let the user that isthmus runs as write in {folder}, or name another one")
            )
            break
        if folder != root:
            found += _files(place, folder)
    if any(finding.remedy for finding in found):
        return found
    return [ok(place, f"{root} {'can be written' if root.is_dir() else 'is not there yet, and can be made'}"), *found]


def unwritable(folder: Path) -> str:
    """Return why nothing can be written in a folder, "" when it can be, or when it can be made."""
    try:
        there = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
        if not there.is_dir():
            return f"{there} is no folder"
    except OSError as problem:
        return f"{folder}: {problem.strerror or problem}"
    if os.access(there, os.W_OK | os.X_OK):
        return ""
    return f"{folder} cannot be written" if there == folder else f"{folder} is not there, and cannot be made in {there}"


def _files(place: str, folder: Path) -> Iterator[Finding]:
    """Yield what is in a namespace's folder that is not isthmus'."""
    foreign: list[str] = []
    try:
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
    except OSError as problem:
        yield error(place, f"{folder}: {problem.strerror}", f"let the user that isthmus runs as read {folder}")
        return
    for name in names:
        if not name.endswith(".yaml") or name.startswith("."):
            foreign += [] if name.startswith(TEMPORARY) else [name]
            continue
        try:
            if not any(document.is_ours for document in parse((folder / name).read_text("utf-8"), folder.name)):
                foreign.append(name)
        except (OSError, UnicodeDecodeError, DocumentsError) as problem:
            told = problem.strerror if isinstance(problem, OSError) else problem
            seen = f"{folder / name} cannot be read as objects: {told}"
            yield warning(place, seen, "mend it or move it away: until then, what belongs into it is not written")
    if foreign:
        more = f" and {count(len(foreign) - SHOWN, 'more')}" if len(foreign) > SHOWN else ""
        seen = f"{folder} also holds {', '.join(foreign[:SHOWN])}{more}, not isthmus': left as it is"
        yield note(place, seen)
