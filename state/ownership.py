"""Whatever root makes in somebody's folder is given to that somebody: the service has to be able to write it.

The folder is somebody else's, who may have put a link where root expects a file. So
no symbolic link is followed, and no file that has a second name is given away.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_folder(path: Path) -> None:
    """Make a folder and those around it that are missing, each given to the owner of the one around it.

    Raises OSError, also where a link of somebody else's would lead root elsewhere.
    """
    for folder in (path, *path.parents):
        refuse_link(folder)
    missing = []
    around = path
    while not around.exists() and around != around.parent:
        missing.append(around)
        around = around.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        give(folder)
    path.mkdir(exist_ok=True)  # which it is now, or is no folder


def refuse_link(path: Path) -> None:
    """As root, raise OSError where a link of somebody else's is: what root made would be where that leads to."""
    if os.geteuid() == 0 and path.is_symlink() and path.lstat().st_uid != 0:
        raise OSError(errno.ELOOP, "is a link of somebody else's, which root does not follow", str(path))


def give(path: Path) -> None:
    """As root, give what root made to the owner of the folder that it is in."""
    if os.geteuid() != 0:
        return
    with _held(path.parent, os.O_DIRECTORY) as around, _held(Path(path.name), os.O_NOFOLLOW, around) as found:
        folder, made = os.fstat(around), os.fstat(found)
        is_plain = stat.S_ISDIR(made.st_mode) or (stat.S_ISREG(made.st_mode) and made.st_nlink == 1)
        if made.st_uid == 0 and is_plain:  # what was looked at, whatever is there under that name now
            os.chown(f"/proc/self/fd/{found}", folder.st_uid, folder.st_gid)


@contextmanager
def _held(path: Path, flags: int, folder: int | None = None) -> Iterator[int]:
    """Hold a file without opening it: to close one that SQLite has open would drop its locks.

    https://man7.org/linux/man-pages/man2/open.2.html, O_PATH
    """
    descriptor = os.open(path, os.O_PATH | flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
