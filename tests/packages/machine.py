"""A machine for a test: a real systemd on a copy of a root folder, used as its operator would from a shell.

    with Machine(ROOTS["bookworm"], tmp_path) as machine:    # tests take `make_machine("bookworm")` or `el8`
        machine.install(deb)                                 # apt-get install ./isthmus.deb, or rpm --upgrade
        machine.write("/etc/isthmus/isthmus.yaml", text, mode=0o640, owner="root:isthmus")
        machine.forward(6443, api_server.port)               # https://127.0.0.1:6443 in there is the test's server
        consul = start_consul(machine, testbed.consul)       # of tests.packages.consul: its package's user and unit
        machine.run("systemctl", "enable", "--now", "isthmus")
        machine.wait_for_unit("isthmus")
        machine.run("isthmus", "status", user="isthmus").stdout
        machine.run("systemctl", "kill", "--signal=KILL", "isthmus")
        machine.show("isthmus", "NRestarts", "MainPID")
        machine.journal("isthmus")                           # of all boots; messages only, nothing else
        machine.stat("/run/isthmus/hook.sock")               # "660 root:isthmus-hook"
        machine.reboot()                                     # or power_off(), kill() as by the plug, and boot()

A boot takes half a second, a copy nothing. The network is loopback only and lives as long as the machine, reboots
included. A machine that is off still runs commands, one at a time, in its root folder without systemd: an image that is
being built. Several machines can run at once, in several processes; all go with the test, however that ends. A failed
test reports what the journals of its machines say.
"""

import itertools
import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from tests.packages.enclosure import Enclosure, children
from tests.packages.relay import OUTSIDE, Relay
from tests.packages.roots import Root
from tests.testbed.processes import Process, free_port, wait_until

# What a service gets that pam gives nothing else: our own environment stays out, coverage's and pip's included.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    # Without this, nspawn on a host with both versions of cgroups gives its machine the older ones.
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
}
# Nothing is registered with the host's systemd, if it has one. The network is the enclosure's, kept over a reboot.
NSPAWN = (
    *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--link-journal=no"),
    *(
        "--resolv-conf=off",
        "--timezone=off",
        "--network-namespace-path=/proc/self/ns/net",
        "--capability=CAP_NET_ADMIN",
    ),
)
# With --keep-unit a reboot is left to whoever started nspawn:
# https://github.com/systemd/systemd/blob/v252/src/nspawn/nspawn.c (EXIT_FORCE_RESTART)
REBOOT = 133
_numbers = itertools.count(1)


class MachineError(RuntimeError):
    """A machine did not do what it was told."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said, and how it ended."""

    stdout: str
    stderr: str
    code: int


class Machine:
    """A root folder's copy that boots, and forgets everything when it is closed."""

    def __init__(self, root: Root, folder: Path) -> None:
        self.system = root
        number = next(_numbers)
        # The hostname too, on which Consul's node is named.
        self.name = f"{root.name}-{os.getpid()}-{number}"
        self.enclosure = Enclosure(root.make(), folder / f"machine-{number}")
        self.process: Process | None = None
        self.log = folder / f"machine-{number}" / "console.log"
        self._open = ExitStack()
        self._leader = 0

    # -- its life

    def open(self) -> Self:
        """Copy the root folder; the machine is off."""
        self._open.enter_context(self.enclosure)
        return self

    def boot(self) -> Self:
        """Switch the machine on and wait until systemd has started all that it starts."""
        command = (*NSPAWN, f"--directory={self.enclosure.root}", f"--machine={self.name}", "--console=pipe", "--boot")
        environment = (f"{name}={value}" for name, value in ENVIRONMENT.items())
        self.process = Process(self.name, self.enclosure.enter("env", "-i", *environment, *command), self.log)
        self.process.start(self._has_booted, 60)
        return self

    def reboot(self) -> None:
        """Restart the machine as by `systemctl reboot`, and wait until it is up again."""
        self.run("systemctl", "reboot")
        code = self._wait_for_the_end(90)
        if code != REBOOT:
            raise MachineError(f"{self.name} was to reboot, and ended with {code}")
        self.boot()

    def power_off(self) -> None:
        """Shut the machine down as by `systemctl poweroff`; it keeps its disk, and boots again."""
        self.run("systemctl", "poweroff")
        self._wait_for_the_end(90)

    def kill(self) -> None:
        """Pull the plug; the machine keeps its disk, and boots again."""
        os.kill(self.leader, signal.SIGKILL)
        self._wait_for_the_end(10)

    def at_the_end(self, do: Callable[[], object]) -> None:
        """Do something when the machine is closed, before it ends."""
        self._open.callback(do)

    def close(self) -> None:
        """End the machine and forget its disk."""
        self._open.close()
        if self.process:
            self.process.kill()

    @property
    def is_on(self) -> bool:
        """Whether the machine is switched on."""
        return self.process is not None and self.process.is_alive()

    @property
    def leader(self) -> int:
        """The process ID, here, of the machine's systemd; 0 while there is none."""
        if self.process is None:
            return 0
        for nspawn in children(self.process.pid):
            for child in children(nspawn):
                with suppress(FileNotFoundError, ProcessLookupError):
                    # Until it is systemd, it may still be on its way into its namespaces.
                    status = Path(f"/proc/{child}/status").read_text()
                    if re.search(r"^Name:\tsystemd$[^$]*^NSpid:.*\t1$", status, re.MULTILINE):
                        return child
        return 0

    def _has_booted(self) -> bool:
        self._leader = self.leader
        if not self._leader:
            return False
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _wait_for_the_end(self, deadline: float) -> int | None:
        wait_until(lambda: not self.is_on, f"{self.name} is off", deadline)
        if self.process is None:
            return None
        self.process.kill()  # it has ended: it is forgotten
        return self.process.exit_code

    # -- its shell

    def run(
        self,
        *argv: str,
        user: str = "",
        check: bool = True,
        stdin: str | Path = "",
        timeout: float = 120,
    ) -> Done:
        """Run a command as root or another user, and return what it said; raise when it fails, unless told otherwise.

        Its standard input is a text, or a file of the host's.
        """
        command = self.inside(*(("runuser", "-u", user, "--") if user else ()), *argv)
        with TemporaryFile() if isinstance(stdin, str) else stdin.open("rb") as given:
            if isinstance(stdin, str):
                given.write(stdin.encode())
                given.seek(0)
            done = subprocess.run(
                command, env=ENVIRONMENT, cwd="/", stdin=given, capture_output=True, timeout=timeout, check=False
            )
        stdout, stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if check and done.returncode != 0:
            raise MachineError(f"{' '.join(argv)} on {self.name} ended with {done.returncode}:\n{stdout}{stderr}")
        return Done(stdout, stderr, done.returncode)

    def inside(self, *argv: str) -> list[str]:
        """Return the command that runs another one inside, for who wants to talk with it."""
        if not self.is_on:
            return self.enclosure.enter(*NSPAWN, f"--directory={self.enclosure.root}", "--pipe", "--", *argv)
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        return ["nsenter", f"--target={self._leader}", *spaces, "--", *argv]

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.run("cat", path).stdout

    def write(self, path: str, text: str | Path, *, mode: int = 0o644, owner: str = "root:root") -> None:
        """Put a file in place of whatever is there: a text, or a copy of a file of the host's."""
        user, _, group = owner.partition(":")
        self.run("install", "-D", "-m", f"{mode:o}", "-o", user, "-g", group, "/dev/stdin", path, stdin=text)

    def exists(self, path: str) -> bool:
        """Whether there is anything under this path."""
        return self.run("test", "-e", path, check=False).code == 0

    def stat(self, path: str) -> str:
        """Mode and owner, as in `640 root:isthmus`; a symbolic link's are its own."""
        return self.run("stat", "--format=%a %U:%G", path).stdout.strip()

    def install(self, package: Path, *options: str) -> Done:
        """Install a package, or upgrade to it, with apt-get or rpm."""
        path = f"/var/tmp/{package.name}"
        self.write(path, package)
        if package.suffix == ".deb":
            return self.run("apt-get", "install", "--yes", "--quiet", *options, path)
        return self.run("rpm", "--upgrade", "--verbose", *options, path)

    # -- its systemd

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        lines = self.run("systemctl", "show", f"--property={','.join(names)}", "--", unit).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def main_pid(self, unit: str) -> int:
        """The process ID, in there, of a service; raise if it has none, for 0 would mean a whole group to kill(1)."""
        pid = int(self.show(unit, "MainPID")["MainPID"])
        if pid == 0:
            raise MachineError(f"{unit} on {self.name} has no process:\n{self.status(unit)}")
        return pid

    def status(self, unit: str) -> str:
        """What an operator sees of a unit."""
        return self.run("systemctl", "status", "--no-pager", "--full", "--lines=30", "--", unit, check=False).stdout

    def wait_for_unit(self, unit: str, state: str = "active", deadline: float = 60) -> None:
        """Wait until a unit is in a state; when it does not get there, its status says why."""
        try:
            wait_until(lambda: self.show(unit, "ActiveState")["ActiveState"] == state, f"{unit} is {state}", deadline)
        except RuntimeError as error:
            raise MachineError(f"{error}\n{self.status(unit)}") from error

    def journal(self, unit: str = "", *options: str) -> str:
        """What a unit logged, over all boots; or everything, with time and name."""
        if self.is_on:
            self.run("journalctl", "--sync")
        which = (f"--unit={unit}", "--output=cat") if unit else ("--output=short-precise",)
        return self.run("journalctl", "--no-pager", *which, *options, check=False).stdout

    # -- its network

    def forward(self, port: int, outside: int) -> None:
        """Let a port on the machine's loopback be one on the host's, from now on, whether it is on or off."""
        self._open.enter_context(Relay(self.enclosure.network, port, OUTSIDE, outside))

    def reach(self, port: int) -> int:
        """Return a port on the host's loopback that is the machine's."""
        relay = Relay(OUTSIDE, free_port(), self.enclosure.network, port)
        return self._open.enter_context(relay).port

    def __enter__(self) -> Self:
        try:
            return self.open().boot()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
