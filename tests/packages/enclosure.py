"""What a machine is in: namespaces, a file system and a cgroup of its own, which end with the test that made them.

Everything in an enclosure descends from its first process, the init of a PID namespace, and every mount is in its mount
namespace. When pytest ends in whatever way, the kernel ends that process (PR_SET_PDEATHSIG), with it all others, and
with the last one the mounts: pid_namespaces(7), mount_namespaces(7). Only an empty cgroup can stay, for the next one.
"""

import itertools
import os
import re
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.testbed.processes import Process, wait_until

# Two machines in one cgroup would end each other's services, so this process goes into one of its own first. The disk
# is memory. /run hides the host's, for systemd-nspawn keeps its locks there. The shell reaps whoever is orphaned.
INIT = """
set -eu
cgroup=$1 lower=$2 disk=$3
echo 0 >"$cgroup/cgroup.procs"
mount -t tmpfs -o mode=0755 disk "$disk"
mkdir "$disk/upper" "$disk/work" "$disk/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$disk/upper,workdir=$disk/work" root "$disk/root"
mount -t tmpfs -o mode=0755 run /run
ip link set lo up
echo ready
sleep infinity & wait
"""
_PREFIX = "isthmus-test"
_numbers = itertools.count(1)


class EnclosureError(RuntimeError):
    """No machine can be held here."""


class Enclosure:
    """An empty network and a copy of a root folder, in which processes can be started."""

    def __init__(self, lower: Path, folder: Path) -> None:
        if os.getuid() != 0:
            raise EnclosureError("machines are booted with systemd-nspawn, which needs root")
        folder.mkdir(parents=True, exist_ok=True)
        disk = folder / "disk"
        disk.mkdir()
        self.root = disk / "root"
        name = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.cgroup, *self._more = (folder / name for folder in _own_cgroups())
        command = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc", "--"]
        command += ["sh", "-c", INIT, "init", str(self.cgroup), str(lower), str(disk)]
        self.process = Process(f"enclosure {folder.name}", command, folder / "enclosure.log")

    @property
    def pid(self) -> int:
        """The first process in the enclosure, as its host numbers it."""
        (child,) = children(self.process.pid)
        return child

    @property
    def network(self) -> Path:
        """The network namespace."""
        return Path(f"/proc/{self.pid}/ns/net")

    def enter(self, *argv: str) -> list[str]:
        """Return the command that runs another one inside, in the cgroup of the enclosure."""
        into_cgroup = ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', str(self.cgroup)]
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--", *into_cgroup, *argv]

    def open(self) -> Self:
        """Make the enclosure, and sweep up after those whose makers were killed."""
        for parent in (self.cgroup.parent, *(cgroup.parent for cgroup in self._more)):
            for left in parent.glob(f"{_PREFIX}-*"):
                # The maker may also be in a PID namespace of its own, and live.
                if not Path(f"/proc/{left.name.split('-')[2]}").exists() and not _is_populated(left):
                    _remove_cgroup(left)
        self.cgroup.mkdir()
        try:
            self.process.start(lambda: self.process.last_words() == "ready")
        except BaseException:
            _remove_cgroup(self.cgroup)
            raise
        return self

    def close(self) -> None:
        """End everything inside at once."""
        self.process.kill()
        for cgroup in (self.cgroup, *self._more):
            wait_until(partial(_remove_cgroup, cgroup), f"nothing runs in {cgroup}")

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def children(pid: int) -> list[int]:
    """The children of a process; none of one that is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _is_populated(cgroup: Path) -> bool:
    with suppress(FileNotFoundError):
        return "populated 1" in (cgroup / "cgroup.events").read_text()
    return False


def _remove_cgroup(cgroup: Path) -> bool:
    """Remove a cgroup with those below it, and tell whether it is gone: it is not while a process is in it."""
    for folder in (*sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True), cgroup):
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return False
    return True


def _own_cgroups() -> list[Path]:
    """The folder of the cgroup that we are in, and perhaps its namesake in systemd's own hierarchy of version 1.

    Where there is one, systemd-nspawn makes in it what it made in the other: cgroups(7).
    """
    mounts, ours = (Path(f"/proc/self/{name}").read_text() for name in ("mountinfo", "cgroup"))
    found: list[Path] = []
    for mount, member in ((r"cgroup2 .*", "0:"), (r"cgroup .*\bname=systemd\b.*", "[0-9]+:name=systemd")):
        mounted = re.search(rf"^\S+ \S+ \S+ \S+ (\S+) .* - {mount}$", mounts, re.MULTILINE)
        path = re.search(rf"^{member}:(.*)$", ours, re.MULTILINE)
        if mounted and path:
            found.append(Path(mounted[1]) / path[1].lstrip("/"))
        elif not found:
            raise EnclosureError("no cgroup2 is mounted here, in which a machine could keep its services")
    return found
