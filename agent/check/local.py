"""What the agent needs on this machine: its state file, its sockets and its ports."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from agent.check.directory import unwritable
from agent.check.finding import CONFIGURATION, STATE, Finding, error, note, ok, warning
from agent.config import Config
from agent.daemon import remembering
from hooks.server import bind_tcp
from hooks.settings import Listen
from state.checkpoint import Checkpoint
from state.errors import ConfigurationError, NewerStateError, StateError

LONGEST = 107  # bytes of a unix socket's path: https://man7.org/linux/man-pages/man7/unix.7.html
LOCKS = Path("/proc/locks")


def check_state(config: Config) -> tuple[list[Finding], frozenset[tuple[str, str]]]:
    """Return how it is with the state file, and the (cluster, namespace) pairs that it remembers objects in."""
    path = config.state
    remedy = f"let the user that isthmus runs as write in {path.parent}, or name another file as `state`"
    if told := unwritable(path.parent):
        return [error(STATE, told, remedy)], frozenset()
    try:
        there = path.exists()
        if there and not os.access(path, os.R_OK | os.W_OK):
            return [error(STATE, f"{path} cannot be read and written", remedy)], frozenset()
        with closing(Checkpoint.copy(path)) as copy:
            remembering(config, copy)
            known = frozenset((name, key.namespace) for name in config.clusters for key in copy.applied(name))
    except ConfigurationError as problem:
        mend = "name the old owner again, take its objects over with `isthmus adopt`, or move the state file aside"
        return [error(CONFIGURATION, problem.problems[0], mend)], frozenset()
    except NewerStateError as problem:  # no reason to keep an older isthmus from starting
        mend = "nothing must be done: `isthmus run` moves the file aside and begins as after a loss, which is safe"
        return [warning(STATE, str(problem), mend)], frozenset()
    except (StateError, OSError) as problem:
        mend = (
            f"`isthmus run` moves a damaged file aside and begins as after a loss, which is safe; or move {path} away"
        )
        return [error(STATE, str(problem), mend)], frozenset()
    return [ok(STATE, f"{path} {'can be used' if there else 'is not there yet, and can be made'}")], known


def check_places(config: Config, *, running: bool) -> list[Finding]:
    """Return whether one could listen where it is to; ``running`` tells that an agent of this configuration answers."""
    found = [*_running(config, running=running)]
    sockets = {"control": config.control}
    ports: dict[str, Listen] = {} if config.status is None else {"status": config.status}
    if config.receiver is not None:
        if config.receiver.socket is not None:
            sockets["receiver.socket"] = config.receiver.socket
        if config.receiver.http is not None:
            ports["receiver.http"] = config.receiver.http
    for key, path in sockets.items():
        found += _socket(key, path)
    for key, listen in ports.items():
        found += _port(key, listen, running=running)
    return found


def _running(config: Config, *, running: bool) -> Iterator[Finding]:
    if running:
        yield note(STATE, "an agent of this configuration runs")
    elif process := holder(config.state):
        seen = f"another isthmus, process {process}, has the state file, and does not answer at {config.control}"
        yield note(STATE, seen, "stop that one first: two cannot share a state file")


def holder(path: Path) -> int:
    """Return the process that has locked a state file, 0 when none has; to try the lock could keep an agent from it.

    https://man7.org/linux/man-pages/man5/proc_locks.5.html
    """
    try:
        lock = os.stat(f"{path}-lock")
        lines = LOCKS.read_text("ascii").splitlines()
    except OSError:
        return 0
    device = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    for line in lines:
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == device:
            return int(fields[4])
    return 0


def _socket(key: str, path: Path) -> Iterator[Finding]:
    if len(os.fsencode(path)) > LONGEST:
        yield error(
            CONFIGURATION, f"{key}: {path} is longer than {LONGEST} bytes, the most for a socket", "name a shorter path"
        )
    elif told := unwritable(path.parent):
        remedy = (
            f"make {path.parent} for the user that isthmus runs as (systemd: RuntimeDirectory=), or name another path"
        )
        yield warning(CONFIGURATION, f"{key}: {told}: nobody could call there", remedy)
    elif path.exists() and not path.is_socket():
        yield warning(CONFIGURATION, f"{key}: {path} is no socket: nobody could call there", "move that file away")


def _port(key: str, listen: Listen, *, running: bool) -> Iterator[Finding]:
    """Bind a port for a moment, without listening: that keeps nobody from it."""
    try:
        bind_tcp(*listen).close()
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE and running:
            return
        seen = f"{key}: port {listen[1]} of {listen[0]}: {problem.strerror}: nobody could call there"
        yield warning(CONFIGURATION, seen, "see what listens there: `ss -ltnp`; or name another port")
