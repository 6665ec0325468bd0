"""Files that are replaced as a whole, and known by what the file system says of them."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import time

from state.ownership import give, make_folder

TEMPORARY = ".isthmus-"  # begins the names of files that are being written
LEFT_OVER = 3600.0  # seconds after which nobody is still writing one of them


def replace_file(path: Path, text: str) -> tuple[int, ...]:
    """Put a text in a file's place at once, with the file's permissions; return the stamp of what is there."""
    make_folder(path.parent)

    def settle(temporary: Path, descriptor: int) -> None:
        give(temporary)
        with suppress(FileNotFoundError):
            os.fchmod(descriptor, stat.S_IMODE(os.stat(path).st_mode))

    return put_in_place(path, text, settle)


def put_in_place(path: Path, text: str, settle: Callable[[Path, int], object], mode: int = 0o666) -> tuple[int, ...]:
    """Put a text in a file's place at once, and return the stamp of what is there.

    It is made with the mode, less the umask; ``settle`` is given its path and descriptor before anybody finds it under
    its name, to say whose it is and who may read it.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.stem}.new")
    try:
        temporary.unlink(missing_ok=True)  # and whatever else somebody put there is not written into
        with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            settle(temporary, file.fileno())
            temporary.replace(path)
            # Of what was written, not of the path: somebody else may replace it right now.
            return stamp_of(os.fstat(file.fileno()))
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def remove_file(path: Path) -> tuple[int, ...]:
    """Remove a file, if it is there; return the stamp of nothing."""
    path.unlink(missing_ok=True)
    return ()


def yaml_files(folder: Path) -> dict[Path, os.stat_result]:
    """Return a folder's YAML files, none where there is no folder; remove what a killed agent was writing."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return {}
    found: dict[Path, os.stat_result] = {}
    for name in names:
        temporary = name.startswith(TEMPORARY)
        if temporary or (name.endswith(".yaml") and not name.startswith(".")):
            path = folder / name
            with suppress(FileNotFoundError):  # gone meanwhile
                entry = os.lstat(path)
                if temporary and time() - entry.st_mtime > LEFT_OVER:
                    path.unlink()
                elif not temporary and stat.S_ISREG(entry.st_mode):
                    found[path] = entry
    return found


def stamp_of(found: os.stat_result) -> tuple[int, ...]:
    """Return what differs when a file was changed or replaced."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
