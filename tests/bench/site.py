"""Where rows are measured: a Consul with an estate, an API server, the witness, the floor, and isthmus."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.child import Child
from tests.bench.estate import FLOOR, Estate, Instance, Size
from tests.bench.ours import NAMESPACE, REGISTRY, Ours, Registry, configuration, consul
from tests.bench.wire import Server, Wire, pack
from tests.bench.witness import Witness
from tests.testbed.apiserver import ApiServer, path
from tests.testbed.build import Binaries
from tests.testbed.consul import Consul

KIND = "WorkloadEntry"
ADDED_BY_SERVER = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")


class Site:
    """One Consul and one API server for the floor and for isthmus; `agent` starts the latter when it is wanted."""

    def __init__(self, built: Binaries, folder: Path, size: Size) -> None:
        self.folder = folder
        self.size = size
        self._running = ExitStack()
        try:
            self._open(built)
        except BaseException:
            self._running.close()
            raise

    def _open(self, built: Binaries) -> None:
        running = self._running
        self.consul = running.enter_context(Consul(built.consul, self.folder / "consul"))
        self.server = running.enter_context(ApiServer(built, self.folder / "apiserver"))
        for namespace in (NAMESPACE, FLOOR):
            self.server.create_namespace(namespace)
            self.server.grant(namespace)
        self.registry = Server(self.consul.url)
        self.cluster = Server(self.server.url, self.server.token, str(self.server.ca_file))
        self.estate = Estate(self.registry, self.size)
        running.callback(self.estate.close)
        self.estate.fill()
        admin = Server(self.server.url, self.server.admin_token, str(self.server.ca_file))
        self.witness = running.enter_context(Witness(admin))
        self._bare = Wire(self.cluster)
        running.callback(self._bare.close)
        self._agent: Ours | None = None
        self._specimen: dict[str, Any] = {}
        running.callback(self.stop)

    # isthmus

    def agent(self, url: str = "", **registry: object) -> Ours:
        """Return isthmus, running with such a registry, nothing left to do; one that runs otherwise is restarted."""
        wanted = {"url": url or self.consul.url, **registry}
        agent = self._agent
        if agent is None or any(agent.config["registries"][REGISTRY].get(key) != wanted[key] for key in wanted):
            agent = self.start(url, **registry)
            agent.wait_until_settled()
        return agent

    def start(self, url: str = "", **registry: object) -> Ours:
        """Start isthmus anew on its state file, with such a registry, and wait for nothing."""
        return self.run({REGISTRY: consul(url or self.consul.url, **registry)})

    def run(self, registries: Mapping[str, Registry], limits: Mapping[str, object] | None = None) -> Ours:
        """Start isthmus anew on its state file, with these registries, and wait for nothing."""
        self.stop()
        folder = self.folder / "agent"
        folder.mkdir(exist_ok=True)
        self._agent = Ours(folder, configuration(registries, self.server, folder, limits))
        return self._agent.start()

    def stop(self) -> None:
        """Stop isthmus, if it runs."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def last_words(self, lines: int) -> str:
        """Return the end of isthmus' log."""
        return "\n".join(self._agent.process.last_words().splitlines()[-lines:]) if self._agent else ""

    # The floor

    def floor(self) -> Child:
        """Return a floor with its connections open."""
        child = Child("floor")
        child.ask(consul=asdict(self.registry), api_server=asdict(self.cluster))
        return child

    def entry(self, one: Instance) -> tuple[str, dict[str, Any]]:
        """Return the path and body of a WorkloadEntry of the floor: but for names, the last that isthmus wrote."""
        if not self._specimen:
            self._specimen = self.witness.specimen(NAMESPACE)
        found = self._specimen
        kept = {key: value for key, value in found["metadata"].items() if key not in ADDED_BY_SERVER}
        address = self.estate.address(one)
        name = f"{one.service}-{address}-8443-00000000"
        body = {
            **found,
            "metadata": {**kept, "namespace": FLOOR, "name": name},
            "spec": {**found["spec"], "address": address},
        }
        return path(KIND, FLOOR, name), body

    def write_bare(self, one: Instance) -> None:
        """Write a WorkloadEntry of the floor, unmeasured."""
        self._bare.ask("POST", path(KIND, FLOOR), pack(self.entry(one)[1]))

    def rest(self, seconds: float, since: float) -> None:
        """Sleep until so many seconds have passed since then."""
        time.sleep(max(0.0, since + seconds - time.monotonic()))

    def close(self) -> None:
        """End everything."""
        self._running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
