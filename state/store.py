"""Opening the state file: its lock, its owner, its schema, and what to do when it is unusable."""

import fcntl
import logging
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from sqlite_utils import Database

from state.errors import NewerStateError, StateError
from state.ownership import give, make_folder, refuse_link
from state.schema import MIGRATIONS, VERSION

logger = logging.getLogger(__name__)


def lock(path: Path) -> IO[str]:
    """Lock a state file for this process; StateError while another one has it.

    The lock is on a file of its own: closing a second descriptor of a database
    would drop SQLite's own locks (https://www.sqlite.org/howtocorrupt.html).
    """
    try:
        make_folder(path.parent)
        file = open(f"{path}-lock", "a", opener=_open_plain)  # noqa: SIM115 - held until the checkpoint is closed
        give(Path(f"{path}-lock"))
    except OSError as error:
        raise StateError(f"state file {path}: cannot be locked: {error.strerror}: {error.filename}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise StateError(f"state file {path}: another isthmus is using it") from error
    return file


def open_database(path: Path) -> tuple[Database, bool]:
    """Open or create the database; also tell whether it is new.

    A damaged file, or one of a newer schema, is moved aside: losing it is safe.
    """
    try:
        return _open(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise StateError(f"state file {path}: {error}") from error
        logger.error("state file %s is damaged (%s): starting as after a loss", path, error)
    except _NewerSchemaError as newer:
        logger.error("state file %s has schema %s, newer than %s: starting as after a loss", path, newer, VERSION)
    _move_aside(path)
    return _open(path)


def copy_database(path: Path) -> tuple[Database, bool]:
    """Return a copy in memory of the database, empty if there is none; writes nothing to disk."""
    memory = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        if path.exists():
            _copy(path, memory)
    except OSError as error:
        raise StateError(f"state file {path}: cannot be read: {error.strerror}") from error
    except sqlite3.Error as error:
        raise StateError(f"state file {path}: cannot be read: {error}") from error
    database = Database(memory, execute_plugins=False)
    try:
        new = _migrate(database)
    except _NewerSchemaError as newer:
        raise NewerStateError(f"state file {path} has schema {newer}, newer than {VERSION}") from newer
    return database, new


def _copy(path: Path, memory: sqlite3.Connection) -> None:
    """Copy a file that may be in use.

    Reading a database with a write-ahead log leaves files beside it, which the
    service's user could not write if they were root's. Where there is no log
    nobody uses the file, and it can be read as if it never changed.
    """
    mode = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    disk = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=10)
    try:
        disk.backup(memory)
    finally:
        disk.close()
    _give_to_folder_owner(path)


class _NewerSchemaError(Exception):
    """The file was written by a newer isthmus."""


def _open_plain(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _open(path: Path) -> tuple[Database, bool]:
    _create(path)
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
    try:
        database = Database(connection, execute_plugins=False)
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise sqlite3.DatabaseError(result)
        database.enable_wal()
        connection.execute("PRAGMA synchronous = NORMAL")
        new = _migrate(database)
    except BaseException:
        connection.close()
        raise
    _give_to_folder_owner(path)
    return database, new


def _create(path: Path) -> None:
    """Make an empty file that is whose it should be: SQLite gives its log, whenever it makes one, to the same user.

    https://www.sqlite.org/src/file/src/os_unix.c, robustFchown
    """
    try:
        refuse_link(path)  # SQLite would follow it
    except OSError as error:
        raise StateError(f"state file {path}: {error.strerror}") from error
    with suppress(OSError):  # it is there, or SQLite says what is wrong
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        give(path)


def _migrate(database: Database) -> bool:
    """Bring the schema up to date; tell whether the database was empty."""
    found = int(database.conn.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise _NewerSchemaError(found)
    for number, statements in enumerate(MIGRATIONS[found:], start=found + 1):
        database.conn.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {number}; COMMIT;")
    return found == 0


def _move_aside(path: Path) -> None:
    suffix = time.strftime(".aside-%Y%m%dT%H%M%S", time.gmtime())
    for tail in ("", "-wal", "-shm"):
        source = Path(f"{path}{tail}")
        if source.exists():
            source.rename(f"{path}{suffix}{tail}")


def _give_to_folder_owner(path: Path) -> None:
    for tail in ("", "-wal", "-shm", "-lock"):
        with suppress(FileNotFoundError):
            give(Path(f"{path}{tail}"))
