"""Whom Consul runs as on this machine, and whether that user may call at the hook's socket."""

import grp
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agent.installation import group_name

PROC = Path("/proc")
NAME = "consul"  # of its program, and of its user in every package
GROUP = "isthmus-hook"  # of the socket, which isthmus.socket makes


class Caller(NamedTuple):
    """The user that runs Consul's handlers.

    ``groups`` are those of the user database. ``in_force`` are those of the Consul that runs, which keeps those that
    its user had when it was started; None while none runs.
    """

    user: int
    name: str
    group: int
    groups: frozenset[int]
    in_force: frozenset[int] | None = None


def caller() -> Caller | None:
    """Return whom the Consul agent on this machine runs as, or will; None when that cannot be told."""
    for user, group, groups in _running():
        known = _known(user) or Caller(user, str(user), group, groups)
        return known._replace(group=group, in_force=groups)
    try:
        return _known(pwd.getpwnam(NAME).pw_uid)
    except KeyError:
        return None


def hindrance(socket: Path, who: Caller | None) -> str:
    """Return what must be done so that Consul's user may call at a socket, "" when nothing must."""
    owner, group = _owners(socket)
    if group is None:
        return f"Consul's user has to be in the group of {socket}, which is not there yet; then restart Consul once."
    name = group_name(group)
    if who is None:
        return f"Consul's user has to be in the group {name}: `usermod -aG {name} USER`, and restart Consul once."
    if who.user in (0, owner) or group in (who.in_force or ()):
        return ""
    once = "restart Consul once, as a reload is not enough."
    if group not in who.groups:
        add = f"`usermod -aG {name} {who.name}`"
        return f"Consul's user {who.name} is not in the group {name}, and could not call: {add}, and {once}"
    if who.in_force is not None:
        return f"Consul was started before its user {who.name} was in the group {name}, and cannot call: {once}"
    return ""


def _owners(socket: Path) -> tuple[int | None, int | None]:
    """Return user and group of a socket; while it is not there, those that isthmus.socket will give it."""
    try:
        found = os.stat(socket)
        return found.st_uid, found.st_gid
    except OSError:
        pass
    try:
        return None, grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None, None


def _known(user: int) -> Caller | None:
    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        return None
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Caller(user, entry.pw_name, entry.pw_gid, frozenset(groups))


def _running() -> Iterator[tuple[int, int, frozenset[int]]]:
    """Yield user, group and all groups of every Consul agent that runs.

    https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
    """
    for folder in PROC.glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().strip() != NAME:
                continue
            if b"agent" not in (folder / "cmdline").read_bytes().split(b"\0")[1:]:
                continue
            lines = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
        except OSError:  # it has ended, or is hidden from us
            continue
        user, group = (int(lines[key].split()[1]) for key in ("Uid", "Gid"))  # the effective ones
        yield user, group, frozenset({group, *map(int, lines["Groups"].split())})
