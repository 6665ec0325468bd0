"""Start servers for tests, wait until they are ready, and leave none behind."""

import atexit
import contextlib
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

POLL = 0.02

# Below the range from which Linux takes the local ports of outgoing connections: there, a client that calls a stopped
# server can be given the server's own port, talk to itself, and keep the server from coming back.
PORTS = range(20_000, 32_000)

_handed_out: set[int] = set()
_handing_out = threading.Lock()
_running: set["Process"] = set()

# The kernel ends our children when the *thread* that started them ends, so one thread starts them all.
_starter = ThreadPoolExecutor(1, "testbed-starter")


class ProcessError(RuntimeError):
    """A server did not start, or did not become ready."""


class Served:
    """A server in a process of its own; inside ``with`` it runs, unless a test ends it."""

    process: "Process"

    def close(self) -> None:
        """End the server for good."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kill the server as by `kill -9`."""
        self.process.kill()

    def pause(self) -> None:
        """Freeze the server: its connections stay open, and nothing answers."""
        self.process.pause()

    def resume(self) -> None:
        """Let a frozen server go on."""
        self.process.resume()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def free_port() -> int:
    """Find a port that is free on loopback, over TCP and UDP, and hand it out once."""
    with _handing_out:
        while True:
            port = random.choice(PORTS)
            if port not in _handed_out and _is_free(port):
                _handed_out.add(port)
                return port


def _is_free(port: int) -> bool:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        try:
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until(true: Callable[[], bool], what: str, deadline: float = 30.0) -> None:
    """Return as soon as the condition holds, or raise when it still does not after so many seconds."""
    give_up = time.monotonic() + deadline
    while not true():
        if time.monotonic() > give_up:
            raise ProcessError(f"after {deadline:g} s still not so: {what}")
        time.sleep(POLL)


class Process:
    """One server, which can be started, stopped, killed, paused and started again with the same command."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self.paused = False
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process ID, of a process that was started."""
        if self._popen is None:
            raise ProcessError(f"{self.name} does not run")
        return self._popen.pid

    def is_alive(self) -> bool:
        """Whether the process runs, or is paused."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the process ended, minus the number of the signal that ended it; None while it runs."""
        return None if self._popen is None else self._popen.poll()

    def start(self, ready: Callable[[], bool], deadline: float = 30.0) -> None:
        """Start the process and wait until it is ready; one that fails is ended and its last words are raised."""
        if self.is_alive():
            raise ProcessError(f"{self.name} runs already")
        self._popen = _starter.submit(self._spawn).result()
        _running.add(self)
        give_up = time.monotonic() + deadline
        try:
            while not ready():
                if not self.is_alive():
                    raise ProcessError(f"{self.name} ended with {self._popen.returncode}:\n{self.last_words()}")
                if time.monotonic() > give_up:
                    raise ProcessError(f"{self.name} was not ready after {deadline:g} s:\n{self.last_words()}")
                time.sleep(POLL)
        except BaseException:
            self.kill()
            raise

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # Should the tests themselves be killed, the kernel ends the server.
        leash = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()
        with self.log.open("ab") as log:
            return subprocess.Popen(
                (*leash, *self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt at the terminal is for the tests, which then stop us in order
            )

    def last_words(self) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:]) if self.log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process, and to no other."""
        if self._popen is None:
            raise ProcessError(f"{self.name} does not run")
        self._popen.send_signal(number)

    def pause(self) -> None:
        """Stop the process where it is, all of it, so that it neither answers nor refuses."""
        self.paused = True
        self.signal(signal.SIGSTOP)
        wait_until(self._stands_still, f"{self.name} stands still", 10)

    def _stands_still(self) -> bool:
        # A thread that computes on another core goes on until the kernel gets at it.
        try:
            states = [
                stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{self.pid}/task").glob("*/stat")
            ]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return set(states) == {"T"}

    def resume(self) -> None:
        """Let a paused process go on."""
        self.signal(signal.SIGCONT)
        self.paused = False

    def stop(self, patience: float = 3.0) -> None:
        """Ask the process to end, and kill it if it has not after a while; one that does not run is left alone."""
        if self._popen is None or not self.is_alive():
            return
        if self.paused:
            self.resume()
        self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(patience)
        self.kill()

    def kill(self) -> None:
        """Kill the process, as by `kill -9`, and wait until it is gone; one that does not run is left alone."""
        if self._popen is None:
            return
        self._popen.kill()
        self._popen.wait()
        self.paused = False
        _running.discard(self)


@atexit.register
def _end_all() -> None:
    for process in tuple(_running):
        process.kill()
