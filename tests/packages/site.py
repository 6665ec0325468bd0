"""A registry host with isthmus on it, installed from a package: its Consul, its configuration, and its cluster.

installation = Installation(machine, api_server, namespace)     # in a test: machine, api_server, namespace, testbed
installation.install(build("deb"))                              # of tests.packages.built
consul = installation.start_consul(testbed.consul)
installation.configure()
machine.run("systemctl", "enable", "--now", "isthmus")
consul.register("orders", "orders-1", node="node-1", address="10.0.0.1", port=8080)
installation.expect("10.0.0.1:8080")                            # its WorkloadEntry is in the API server
installation.heard()                                            # how many calls of watch handlers arrived
with installation.writing(0): ...                               # nothing is written meanwhile
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.packages.consul import start_consul
from tests.packages.machine import Done, Machine
from tests.testbed.apiserver import ApiServer
from tests.testbed.consul_api import ConsulApi
from tests.testbed.processes import wait_until

FILE = "/etc/isthmus/isthmus.yaml"
CREDENTIALS = "/etc/isthmus/credentials"
KUBECONFIG = f"{CREDENTIALS}/east.kubeconfig"
STATE = "/var/lib/isthmus/state.db"
HOOK_SOCKET = "/run/isthmus/hook.sock"
CONTROL_SOCKET = "/run/isthmus/control.sock"
REGISTRY = "consul-dc1"
CLUSTER = "east"
KUBERNETES_PORT = 6443
Report = dict[str, Any]


class Installation:
    """What an operator does with isthmus on one machine, and what its cluster has of it."""

    def __init__(self, machine: Machine, api_server: ApiServer, namespace: str) -> None:
        self.machine = machine
        self.api_server = api_server
        self.namespace = namespace
        machine.forward(KUBERNETES_PORT, api_server.port)

    def install(self, package: Path, *options: str) -> Done:
        """Install the package, or upgrade to it."""
        return self.machine.install(package, *options)

    def start_consul(self, binary: Path) -> ConsulApi:
        """Start Consul: the system's own, or the binary."""
        return start_consul(self.machine, binary)

    def configure(self, **changes: Any) -> None:
        """Write a working configuration, with other values of its keys, and the kubeconfig that it names."""
        self.machine.write(KUBECONFIG, self.kubeconfig(), mode=0o640, owner="root:isthmus")
        text = yaml.safe_dump(self.configuration(**changes), sort_keys=False)
        self.machine.write(FILE, text, mode=0o640, owner="root:isthmus")

    def configuration(self, **changes: Any) -> Report:
        """Return a working configuration, with other values of its keys."""
        return {
            "owner": "dc1",
            "registries": {REGISTRY: {"type": "consul", "url": "http://127.0.0.1:8500"}},
            "clusters": {CLUSTER: {"kubeconfig": KUBECONFIG, "namespace": self.namespace}},
            "receiver": {"socket": HOOK_SOCKET},
        } | changes

    def kubeconfig(self) -> str:
        """Return one that stands by itself, for the API server as the machine reaches it."""
        authority = base64.b64encode(self.api_server.ca_file.read_bytes()).decode()
        cluster = {"server": f"https://127.0.0.1:{KUBERNETES_PORT}", "certificate-authority-data": authority}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CLUSTER, "cluster": cluster}],
            "users": [{"name": CLUSTER, "user": {"token": self.api_server.token}}],
            "contexts": [{"name": CLUSTER, "context": {"cluster": CLUSTER, "user": CLUSTER}}],
            "current-context": CLUSTER,
        }
        return json.dumps(content, indent=2) + "\n"

    def entries(self) -> dict[str, Report]:
        """Return the WorkloadEntries in the cluster, complete, by their address and port."""
        found: dict[str, Report] = {}
        for entry in self.api_server.objects("WorkloadEntry", self.namespace):
            (port,) = entry["spec"]["ports"].values()
            found[f"{entry['spec']['address']}:{port}"] = entry
        return found

    def expect(self, *endpoints: str, deadline: float = 30) -> None:
        """Wait until the cluster has these endpoints, `ADDRESS:PORT`, and no other."""
        found: set[str] = set()

        def has_them() -> bool:
            nonlocal found
            found = set(self.entries())
            return found == set(endpoints)

        try:
            wait_until(has_them, f"the cluster has {', '.join(endpoints) or 'nothing'}", deadline)
        except RuntimeError as error:
            raise AssertionError(f"{error}; it has {', '.join(sorted(found)) or 'nothing'}") from error

    def status(self, user: str = "isthmus") -> Report:
        """Return what `isthmus status -o json` tells."""
        report: Report = json.loads(self.machine.run("isthmus", "status", "-o", "json", user=user).stdout)
        return report

    def is_settled(self) -> bool:
        """Tell whether the registry was read, and the cluster has everything."""
        report = self.status()
        parts = (*report["registries"].values(), *report["clusters"].values())
        return all(part["state"] == "ok" and not part.get("pending") for part in parts)

    def heard(self) -> int:
        """Count the calls of watch handlers that the running agent took and understood."""
        receiver = self.status()["receiver"]
        return sum(call["calls"] for call in receiver["calls"] if call["result"] == "heard")

    def heard_in_all_lives(self) -> int:
        """Count the calls that were heard by the agent that runs and, as their last words tell, by those before it."""
        words = "receiver: closed; calls heard in this life: "
        lines = self.machine.journal("isthmus").splitlines()
        return self.heard() + sum(int(line.partition(words)[2]) for line in lines if words in line)

    def call(self, *called: str, user: str = "consul", check: bool = True) -> Done:
        """Call the agent as Consul's watch handlers do: `services`, or `service NAME`."""
        command = ("/usr/bin/isthmus-hook", "--socket", HOOK_SOCKET, REGISTRY, *called)
        return self.machine.run(*command, user=user, check=check)

    @contextmanager
    def writing(self, number: int) -> Iterator[None]:
        """See that the cluster is written to so many times meanwhile."""
        before = self.api_server.writes()
        yield
        written = self.api_server.writes() - before
        assert written == number, f"{written} writes, not {number}:\n{self.machine.journal('isthmus')}"
