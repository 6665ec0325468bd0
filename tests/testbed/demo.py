"""The demo on real servers: the story of `isthmus demo`, with a Consul, a Eureka and two Kubernetes API servers.

`python -m tests.testbed.demo [--out DIR] [--seconds N]`, or `make demo REAL=1`.
"""

import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from agent.cli.logs import set_up_logging
from agent.cli.options import Options
from agent.demo.estate import NAMESPACE, SHOP
from agent.demo.facts import Fact
from agent.demo.folder import prepare
from agent.demo.play import CLUSTERS, perform
from agent.demo.scene import Scene
from state.errors import IsthmusError
from state.model import ResourceKey
from tests.testbed.apiserver import PLURALS, ApiServer
from tests.testbed.build import TestbedError, binaries
from tests.testbed.consul import Consul
from tests.testbed.eureka import Eureka
from tests.testbed.processes import ProcessError

NAMESPACES = (NAMESPACE, SHOP)


class ConsulRegistry:
    """A real Consul; its nodes have no agents, so that each holds exactly what it was told."""

    def __init__(self, consul: Consul) -> None:
        self._consul = consul
        self._addresses: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Where it answers."""
        return self._consul.url

    def set_node(self, name: str, address: str) -> float:
        """Add a node."""
        self._addresses[name] = address
        self._consul.request("PUT", "/v1/catalog/register", {"Node": name, "Address": address})
        return time.monotonic()

    def register(
        self,
        service: str,
        id_: str,
        node: str,
        port: int,
        *,
        meta: Mapping[str, str] | None = None,
        weights: tuple[int, int] = (1, 1),
        status: str | None = "",
    ) -> float:
        """Add an instance at its node's address, or change it."""
        address = self._addresses[node]
        self._consul.register(
            service, id_, port=port, node=node, node_address=address, meta=meta, weights=weights, status=status
        )
        return time.monotonic()

    def deregister(self, node: str, id_: str) -> float:
        """Remove an instance."""
        self._consul.deregister(id_, node)
        return time.monotonic()

    def set_status(self, node: str, id_: str, status: str) -> float:
        """Change the status of an instance's check."""
        self._consul.set_status(id_, status, node)
        return time.monotonic()

    def maintenance(self, node: str, *, on: bool) -> float:
        """Begin or end the maintenance of a whole node."""
        self._consul.maintenance(node=node, on=on)
        return time.monotonic()

    def wipe(self) -> float:
        """Stop the server, remove its data, and start it again."""
        self._consul.wipe()
        return time.monotonic()


class RealEureka:
    """A real Eureka server; nobody renews there, and it preserves what it has."""

    def __init__(self, eureka: Eureka) -> None:
        self._eureka = eureka

    @property
    def url(self) -> str:
        """Where it answers."""
        return self._eureka.url

    def register(self, app: str, id_: str, address: str, port: int, *, meta: Mapping[str, str] | None = None) -> float:
        """Add an instance that is UP, or change it."""
        self._eureka.register(app, id_, address, port, metadata=meta)
        return time.monotonic()

    def cancel(self, app: str, id_: str) -> float:
        """Remove an instance."""
        self._eureka.cancel(app, id_)
        return time.monotonic()


class ServerPlace:
    """An API server, looked at as its administrator."""

    def __init__(self, name: str, server: ApiServer) -> None:
        self.name = name
        self.settings: Mapping[str, str] = {
            "server": server.url,
            "ca_file": str(server.ca_file),
            "token_file": str(server.token_file),
            "namespace": NAMESPACE,
        }
        self._server = server

    def objects(self) -> Iterable[Mapping[str, Any]]:
        """List both kinds anew."""
        return [one for kind in PLURALS for space in NAMESPACES for one in self._server.objects(kind, space)]

    def where(self, key: ResourceKey, fact: Fact) -> str:  # noqa: ARG002 - a name says it all
        """Name the object."""
        return f"{key.namespace}/{key.name}"


def play(folder: Path, seconds: float) -> int:
    """Start the servers, play the story on them, stop them; return the exit code."""
    built = binaries()
    prepare(folder, ())
    with ExitStack() as running:
        scratch = Path(running.enter_context(TemporaryDirectory(prefix="isthmus-demo-")))
        click.echo("Starting a Consul, a Eureka and two Kubernetes API servers...")
        consul = running.enter_context(Consul(built.consul, scratch / "consul"))
        eureka = running.enter_context(Eureka(scratch / "eureka"))
        servers = [running.enter_context(ApiServer(built, scratch / name)) for name in CLUSTERS]
        for server in servers:
            for namespace in NAMESPACES:
                server.create_namespace(namespace)
                server.grant(namespace)
        scene = Scene(
            registry=ConsulRegistry(consul),
            registry_words=f"A real Consul, which the test bed has built and started. It answers at {consul.url}",
            eureka=RealEureka(eureka),
            eureka_words=f"A real Eureka server, likewise, without a cache. It answers at {eureka.url}",
            clusters=[ServerPlace(name, server) for name, server in zip(CLUSTERS, servers, strict=True)],
            clusters_words="Two real Kubernetes API servers with Istio's kinds, "
            + " and ".join(f"{name} at {server.url}" for name, server in zip(CLUSTERS, servers, strict=True)),
            lag_words="to the API server's of our write",
        )
        return perform(folder, seconds, scene)


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("build/demo"), show_default=True)
@click.option("--seconds", type=click.FloatRange(min=1), default=40.0, show_default=True)
def main(out: Path, seconds: float) -> None:
    """Play the story of `isthmus demo` on a real Consul, a real Eureka and two real API servers."""
    set_up_logging(Options())
    try:
        code = play(out, seconds)
    except (IsthmusError, ProcessError, TestbedError) as error:
        click.echo(error, err=True)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
