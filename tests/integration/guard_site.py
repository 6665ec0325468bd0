"""A site for tests of the guard: an agent in this process, on real registries, and a witness of what leaves."""

import json
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from agent.clusters.open import open_cluster
from agent.config import load
from agent.daemon import Agent, remembering
from agent.holds import holds
from agent.report import status
from state.checkpoint import Checkpoint
from state.errors import RegistryError
from tests.integration.estate import Endpoint
from tests.testbed.processes import POLL, ProcessError, wait_until

DC1 = "consul-dc1"
REVIEW = "review"
NAMESPACE = "legacy"
PATIENCE = 60.0  # for what must happen, on a busy machine
# Times only; what was left ten minutes ago is what the first pass has shown, for as long as a test takes.
LIMITS: Mapping[str, object] = {
    "empty_grace": 0.5,
    "release_spacing": 0.4,
    "pass_spacing": 0.1,
    "busy_spacing": 0.05,
    "retry": [0.05, 0.2],
    "rescan": 0.5,
}


class DirectoryWitness:
    """Looks at one directory again and again, and remembers every endpoint that ever left it."""

    def __init__(self, folder: Path) -> None:
        self.departed: set[Endpoint] = set()
        self.endpoints: frozenset[Endpoint] = frozenset()
        self.looks = 0
        self._folder = folder
        self._files: dict[str, tuple[tuple[int, int], frozenset[Endpoint]]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="directory witness", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()

    def look(self) -> frozenset[Endpoint]:
        """Return what the directory holds, as seen by a look that begins now."""
        goal = self.looks + 2
        wait_until(lambda: self.looks >= goal, "the witness looks", PATIENCE)
        return self.endpoints

    def _run(self) -> None:
        while not self._stopping.wait(POLL / 4):
            with suppress(FileNotFoundError, NotADirectoryError):  # there is no such folder, or it was taken away
                found = self._read()
                self.departed |= self.endpoints - found
                self.endpoints = found
            self.looks += 1

    def _read(self) -> frozenset[Endpoint]:
        files = {}
        place = os.stat(self._folder).st_ino
        with os.scandir(self._folder) as entries:
            listed = list(entries)
        for entry in listed:
            if entry.name.endswith(".yaml"):
                with suppress(FileNotFoundError):
                    found = entry.stat()
                    stamp = found.st_ino, found.st_mtime_ns
                    known = self._files.get(entry.name)
                    fresh = known is None or known[0] != stamp
                    files[entry.name] = (stamp, _endpoints(Path(entry.path))) if known is None or fresh else known
        if os.stat(self._folder).st_ino != place:
            raise FileNotFoundError(self._folder)  # it was taken away meanwhile, and with it what was not found
        self._files = files
        return frozenset().union(*(endpoints for _, endpoints in files.values()))


def _endpoints(path: Path) -> frozenset[Endpoint]:
    objects = list(yaml.load_all(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return frozenset(
        (found["metadata"]["labels"]["isthmus.mesh/host"], found["spec"]["address"])
        for found in objects
        if found["kind"] == "WorkloadEntry"
    )


class Site:
    """One agent, which can be ended and begun again on what it left, and the witness of its first directory."""

    def __init__(
        self,
        folder: Path,
        *urls: str,
        registries: Mapping[str, Mapping[str, object]] | None = None,
        clusters: Collection[str] = (REVIEW,),
        **limits: object,
    ) -> None:
        """`urls` are those of consul-dc1, consul-dc2, ...; `registries` may say more of each."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.places = {name: folder / name / NAMESPACE for name in clusters}
        named = {
            (name := f"consul-dc{number}"): {"type": "consul", "url": url, **(registries or {}).get(name, {})}
            for number, url in enumerate(urls, start=1)
        }
        document = {
            "owner": "dc1",
            "state": "state.db",
            "control": "control.sock",
            "registries": named,
            "clusters": {name: {"directory": name, "namespace": NAMESPACE} for name in clusters},
            "limits": {**LIMITS, **limits},
        }
        (folder / "isthmus.yaml").write_text(json.dumps(document))
        self.config = load(folder / "isthmus.yaml")
        self.witness = DirectoryWitness(self.places[next(iter(clusters))])
        self._checkpoint: Checkpoint | None = None
        self._agent: Agent | None = None

    # Life

    def __enter__(self) -> Self:
        self.witness.start()
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self.witness.stop()

    def begin(self) -> None:
        """Start an agent on what is there."""
        checkpoint = Checkpoint.open(self.config.state)
        self._checkpoint = remembering(self.config, checkpoint)
        self._agent = Agent(
            self.config, checkpoint, lambda name: open_cluster(self.config.clusters[name], self.config.limits)
        )
        self._agent.start()

    def end(self, *, killed: bool = False) -> None:
        """Stop the agent, if one runs; the state of one that was killed is what was in its file before."""
        agent, checkpoint, self._agent, self._checkpoint = self._agent, self._checkpoint, None, None
        if agent and checkpoint:
            before = self._copied() if killed else b""
            agent.stop()
            checkpoint.close()
            if before:
                self.lose_state()
                self.config.state.write_bytes(before)

    def _copied(self) -> bytes:
        with closing(sqlite3.connect(self.config.state)) as file, closing(sqlite3.connect(":memory:")) as memory:
            file.backup(memory)
            return memory.serialize()

    def lose_state(self) -> None:
        """Remove the state file, while no agent runs."""
        for tail in ("", "-wal", "-shm"):
            Path(f"{self.config.state}{tail}").unlink(missing_ok=True)

    @property
    def agent(self) -> Agent:
        """The agent that runs."""
        assert self._agent is not None
        return self._agent

    # What it tells

    def registry(self, name: str = DC1) -> dict[str, Any]:
        """Say what `status` says of a registry."""
        report: dict[str, Any] = status(self.agent)["registries"][name]
        return report

    def waiting(self, name: str = DC1) -> Counter[str]:
        """Count what waits in a registry, by its reason."""
        return Counter(row["reason"] for row in self.rows(name))

    def rows(self, name: str = DC1) -> list[dict[str, Any]]:
        """Say what `holds` says of a registry or a cluster."""
        return [row for row in holds(self.agent) if row["name"] == name]

    def writes(self, cluster: str = REVIEW) -> int:
        """Count the objects that this agent has written or deleted in a cluster."""
        return self.agent.lanes[cluster].report().writes

    # Waiting for it

    def passes(self, count: int, name: str = DC1) -> None:
        """Make passes, one after another, and wait for all that they change."""
        for _ in range(count):
            self.agent.loops[name].pass_now()
        self.wait_until_written()

    def wait_until_written(self) -> None:
        """Wait until every cluster has what the registries have said."""
        for cluster, lane in self.agent.lanes.items():
            wait_until(
                lambda lane=lane: lane.report().read and not lane.report().pending,  # type: ignore[misc]
                f"{cluster} has everything",
                PATIENCE,
            )

    def wait_for_first(self, endpoints: Iterable[Endpoint]) -> None:
        """Wait until the first pass is over and the directory holds exactly what it has shown."""
        wait_until(self.agent.view.passed, "every registry had a pass", PATIENCE)
        self.wait_for(endpoints, "all is there")
        self.wait_until_written()

    def wait_for(self, endpoints: Iterable[Endpoint], what: str) -> None:
        """Wait until the directory holds exactly these endpoints."""
        wanted = frozenset(endpoints)
        try:
            wait_until(lambda: self.witness.endpoints == wanted, what, PATIENCE)
        except ProcessError as error:
            found = self.witness.look()
            surplus, missing = sorted(found - wanted), sorted(wanted - found)
            raise AssertionError(f"{error}: too much {surplus}, missing {missing}; {self.report()}") from None

    def wait_for_waiting(
        self, what: str, name: str = DC1, *, look: int = 0, hold: int = 0, panic: int = 0, grace: int = 0
    ) -> None:
        """Wait until exactly so many removals of a registry wait, by their reasons."""
        wanted = Counter({"look": look, "hold": hold, "panic": panic, "grace": grace})
        try:
            wait_until(lambda: self.waiting(name) == wanted, what, PATIENCE)
        except ProcessError as error:
            raise AssertionError(f"{error}: {self.waiting(name)} wait; {self.report()}") from None

    def wait_for_error(self, *words: str, name: str = DC1) -> None:
        """Wait until a registry cannot be read, for a reason that says all of this."""

        def is_so() -> bool:
            report = self.registry(name)
            return report["state"] == "unreadable" and all(word in report["error"] for word in words)

        try:
            wait_until(is_so, f"{name} is unreadable: {words}", PATIENCE)
        except ProcessError as error:
            raise AssertionError(f"{error}; {self.report()}") from None

    def wait_for_recovery(self, name: str = DC1) -> None:
        """Wait until a registry can be read again and a whole pass was made."""
        wait_until(lambda: self.registry(name)["state"] == "ok", f"{name} can be read again", PATIENCE)

        def is_complete() -> bool:
            # A service that failed and is due for another read of its own still spoils the pass that runs beside it.
            with suppress(RegistryError):
                self.agent.loops[name].pass_now()
                return True
            return False

        wait_until(is_complete, f"{name} had a whole pass", PATIENCE)
        self.wait_until_written()

    def nothing_leaves_for(self, seconds: float) -> None:
        """Watch for a while that nothing leaves the directory."""
        before, end = set(self.witness.departed), time.monotonic() + seconds
        while time.monotonic() < end:
            self.witness.look()
            assert self.witness.departed == before, self.witness.departed - before

    def report(self) -> str:
        """Say everything, for a test that fails."""
        return json.dumps(status(self.agent), indent=1)
