"""Sockets that systemd listens on for us and passes on: calls queue up there while nobody serves them.

Their files are systemd's, so nothing here binds, removes or changes one.
https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
"""

import errno
import logging
import os
import socket
from collections.abc import Iterator

logger = logging.getLogger(__name__)

FIRST = 3  # the descriptor of the first one
VARIABLES = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")


def take_passed() -> list[socket.socket]:
    """Return the unix sockets that were passed to this process, so that no child inherits them or hears of them.

    What else was passed, or was announced and not passed, is logged and left as it is.
    """
    told = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    whose, number = told.get("LISTEN_PID"), told.get("LISTEN_FDS")
    if whose is None or number is None:
        return []
    if not (_is_number(whose) and _is_number(number)):
        logger.error(
            "sockets passed by systemd: LISTEN_PID=%r and LISTEN_FDS=%r are no numbers; none is used", whose, number
        )
        return []
    if int(whose) != os.getpid():
        logger.warning(
            "sockets passed by systemd are for process %s, not for this one, %d; none is used", whose, os.getpid()
        )
        return []
    return list(_usable(int(number), told.get("LISTEN_FDNAMES", "").split(":")))


def place_of(passed: socket.socket) -> str:
    """Return the path of a unix socket, or its abstract name as systemd writes it."""
    name = passed.getsockname()
    return f"@{name[1:].decode(errors='backslashreplace')}" if isinstance(name, bytes) else str(name)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 10


def _usable(number: int, names: list[str]) -> Iterator[socket.socket]:
    for descriptor in range(FIRST, FIRST + number):
        name = names[descriptor - FIRST] if descriptor - FIRST < len(names) else ""
        what = f"{descriptor} ({name})" if name else f"{descriptor}"
        try:
            os.set_inheritable(descriptor, False)
            passed = socket.socket(fileno=descriptor)
        except OSError as error:
            logger.error("sockets passed by systemd: descriptor %s cannot be used: %s", what, error.strerror or error)
            if error.errno == errno.EBADF:
                return  # systemd leaves no gaps: there are no more
            continue
        if (
            passed.family == socket.AF_UNIX
            and passed.type == socket.SOCK_STREAM
            and passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        ):
            yield passed
        else:
            logger.error(
                "sockets passed by systemd: descriptor %s is no unix socket that listens; it is not used", what
            )
            passed.detach()  # somebody else's: left open
