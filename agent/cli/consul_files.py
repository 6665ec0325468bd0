"""A file with watches in Consul's configuration folder, which is Consul's: only a file of ours is replaced there."""

import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from agent.clusters.files import put_in_place
from agent.consul_user import Caller
from hooks import send
from state.errors import IsthmusError

FOLDER = Path("/etc/consul.d")
SUFFIX = ".json"
SECRET, OPEN = 0o640, 0o644  # modes: with a token in it, and without
HOOKS = ("isthmus-hook", Path(send.__file__).name)  # how a package calls it, and how it is called without one


def file_in(place: Path, registry: str) -> Path:
    """Return the file that is meant: the one that is named, or one for the registry in a folder."""
    path = place if place.suffix == SUFFIX else place / f"isthmus-{registry}{SUFFIX}"
    if not path.parent.is_dir():
        raise click.UsageError(
            f"There is no folder {path.parent}. Name the one that Consul's -config-dir names, or a file in it that "
            f"ends in {SUFFIX}."
        )
    return path


def install(path: Path, text: str, registry: str, *, secret: bool, caller: Caller | None) -> bool:
    """Put the watches of a registry into a file at once, and tell whether that changed anything.

    ``secret`` tells that a token is in them, so that only the folder's owner, and Consul, may read them. Raises
    IsthmusError when the file is somebody else's, or cannot be written.
    """
    mode = SECRET if secret else OPEN
    try:
        found = os.lstat(path) if os.path.lexists(path) else None
        before = path.read_text("utf-8") if found is not None and stat.S_ISREG(found.st_mode) else ""
        if found is not None and not is_ours(before, registry):
            raise IsthmusError(
                f"{path} holds something else than isthmus' watches of {registry}, and is left as it is: move it away, "
                "or name another file"
            )
        folder = os.stat(path.parent)
        group = _readers(folder, caller) if secret else folder.st_gid
        if found is not None and before == text and stat.S_IMODE(found.st_mode) == mode:
            return False

        def settle(_: Path, descriptor: int) -> None:
            if os.geteuid() == 0:
                os.fchown(descriptor, folder.st_uid, group)
            os.fchmod(descriptor, mode)

        put_in_place(path, text, settle, mode=0o600)  # under a name that Consul does not read meanwhile
    except OSError as error:
        advice = ": ask as root" if isinstance(error, PermissionError) else ""
        raise IsthmusError(f"{path} cannot be written: {error.strerror or error}{advice}") from error
    except UnicodeDecodeError as error:
        raise IsthmusError(f"{path} is not isthmus', and is left as it is: it is not text") from error
    return True


def is_ours(text: str, registry: str) -> bool:
    """Tell whether a file holds the watches of a registry, as isthmus writes them, and nothing else."""
    try:
        content = json.loads(text)
    except ValueError:
        return False
    if not isinstance(content, dict) or content.keys() != {"watches"} or not isinstance(content["watches"], list):
        return False
    return bool(content["watches"]) and all(_calls_us(watch, registry) for watch in content["watches"])


def _calls_us(watch: object, registry: str) -> bool:
    if not isinstance(watch, Mapping):
        return False
    match watch.get("handler_type"), watch.get("args"), watch.get("http_handler_config"):
        case "script", [*args], None:
            return _starts_the_hook(args, registry)
        case "http", None, {"path": str(path)}:
            return f"/v1/consul/{registry}/" in path
    return False


def _starts_the_hook(args: Sequence[Any], registry: str) -> bool:
    """Tell whether a command is ``... isthmus-hook --socket PATH REGISTRY ...``."""
    at = args.index("--socket") if "--socket" in args[1:] else 0
    return at > 0 and Path(str(args[at - 1])).name in HOOKS and args[at + 2 : at + 3] == [registry]


def _readers(folder: os.stat_result, caller: Caller | None) -> int:
    """Return the group of a file that nobody else may read: the folder's, unless that kept Consul from it."""
    if caller is None or caller.user in (0, folder.st_uid) or folder.st_gid in caller.groups:
        return folder.st_gid
    return caller.group
