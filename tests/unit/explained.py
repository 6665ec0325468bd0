"""An agent of two registries and two clusters in memory: a test says what a registry has shown."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from agent.clusters.settings import DirectorySettings, Policy
from agent.config import Config
from agent.daemon import Agent, remembering
from agent.explain import explain
from agent.rules import Rule
from hooks.consul.settings import ConsulSettings
from hooks.eureka.settings import EurekaSettings
from state.checkpoint import Checkpoint
from state.limits import Limits
from state.model import Instance, InstanceKey, Reading, Snapshot
from tests.unit.world import PATIENCE, MemoryCluster

CONSUL, EUREKA = "consul-dc1", "eureka-dc1"
LIMITS = Limits(backoff=(0.01,), stop=2.0)
NOWHERE = "http://127.0.0.1:1"  # no registry is asked: its loop never starts

Answer = dict[str, Any]
Clusters = dict[str, MemoryCluster]


class Estate:
    """The agent and its clusters; what is not told otherwise is as in the configuration."""

    def __init__(self, config: Config, checkpoint: Checkpoint, clusters: Clusters) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.clusters = clusters
        for name, cluster in clusters.items():
            cluster.name = name
            cluster._news = SimpleQueue()  # a lane that has ended left its last word there
        self.agent = Agent(config, remembering(config, checkpoint), lambda name: self.clusters[name])
        self.begun = 0

    def start(self, *names: str) -> None:
        """Start the lanes, of all clusters or of these."""
        for name, lane in self.agent.lanes.items():
            if not names or name in names:
                lane.start()

    def show(self, registry: str, *instances: Instance, complete: bool = True) -> None:
        """Let a registry show all its instances in a pass, and wait until the lanes have nothing to do."""
        self.begun += 1
        services = {one.key.service for one in instances} | set(self.agent.view.beliefs[registry].services)
        snapshots = tuple(
            Snapshot(service, tuple(one for one in instances if one.key.service == service), self.begun)
            for service in sorted(services)
        )
        self.agent.view.hear(
            Reading(registry=registry, snapshots=snapshots, heard=time.monotonic(), begun=self.begun, complete=complete)
        )
        self.settle()

    def settle(self) -> None:
        for lane in self.agent.lanes.values():
            if lane._thread.is_alive():
                assert lane.settle(PATIENCE)

    def why(self, what: str) -> Answer:
        return explain(self.agent, what)

    def host(self, what: str) -> Answer:
        """Return what is told of the only host that is found."""
        (host,) = self.why(what)["hosts"]
        return dict(host)

    def endpoint(self, what: str) -> Answer:
        """Return what is told of the only endpoint that is found."""
        (endpoint,) = self.host(what)["endpoints"]
        return dict(endpoint)

    def verdict(self, what: str) -> str:
        return str(self.endpoint(what)["verdict"])


def configured(folder: Path, policy: Policy = "sync", rules: tuple[Rule, ...] = (), **changes: Any) -> Config:
    values: dict[str, Any] = {
        "owner": "dc1",
        "state": folder / "state.db",
        "control": folder / "control.sock",
        "registries": {
            CONSUL: ConsulSettings(name=CONSUL, url=NOWHERE),
            EUREKA: EurekaSettings(name=EUREKA, urls=(f"{NOWHERE}/eureka",)),
        },
        "clusters": {
            name: DirectorySettings(name=name, namespace="legacy", directory=folder / name, policy=policy)
            for name in ("east", "west")
        },
        "rules": rules,
        "limits": LIMITS,
    }
    return Config(**{**values, **changes})


@contextmanager
def estate(folder: Path, clusters: Clusters | None = None, **changes: Any) -> Iterator[Estate]:
    """Give an agent of which nothing runs yet; it is stopped at the end. ``clusters`` are those of an earlier one."""
    config = configured(folder, **changes)
    with closing(Checkpoint.open(config.state)) as checkpoint:
        made = Estate(config, checkpoint, clusters or {name: MemoryCluster() for name in config.clusters})
        try:
            yield made
        finally:
            for cluster in made.clusters.values():
                cluster.readable.set()
                cluster.writable.set()
            made.agent.stop()


def in_consul(n: int = 1, service: str = "orders", **fields: Any) -> Instance:
    """Return an instance of Consul; ``n`` is the last part of its address."""
    values: dict[str, Any] = {"address": f"10.0.0.{n}", "port": 8080, **fields}
    return Instance(key=InstanceKey(service, f"node-{n}", f"{service}-{n}"), **values)


def in_eureka(n: int = 1, service: str = "ORDERS", **fields: Any) -> Instance:
    """Return an instance of Eureka, which has no nodes."""
    values: dict[str, Any] = {"address": f"10.0.0.{n}", "port": 8080, **fields}
    return Instance(key=InstanceKey(service, "", f"host-{n}:orders:8080"), **values)


def cluster_row(answer: Answer, cluster: str) -> tuple[str, str, bool]:
    """Return (state, why, right) of the only object that an answer tells of in a cluster."""
    (row,) = (row for row in answer["clusters"] if row["cluster"] == cluster)
    return row["state"], row["why"], row["right"]


def sources(answer: Answer) -> dict[str, tuple[str, str]]:
    """Return each value and its source by name."""
    return {one["name"]: (one["value"], one["source"]) for one in answer["values"]}
