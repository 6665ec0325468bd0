"""A sample data centre: what runs in it, and what clusters should hold of it.

What should be held is worked out here from what runs, simply and once more: not
with the code of the agent, which is to be checked by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.demo.facts import Fact, endpoint_fact, host_fact

REGION = "eu-west"
DOMAIN = "mesh.internal"
SHOP = "shop"  # a team with a namespace and a domain of its own, by a rule
SKIPPED = "batch-"  # services that a rule leaves out
NAMESPACE = "legacy"
CALLED = 80  # the port that callers in the mesh use

ZONES = ("a", "b", "c")
RACKS = 4  # nodes in each zone

# Name, team, protocol, version, port, instances.
SERVICES = (
    ("storefront", SHOP, "http", "5.12.0", 8000, 5),
    ("catalog", SHOP, "http", "3.4.1", 8010, 4),
    ("search", SHOP, "grpc", "2.0.9", 8020, 4),
    ("cart", SHOP, "http", "4.1.2", 8030, 4),
    ("checkout", SHOP, "http", "2.3.1", 8040, 4),
    ("pricing", SHOP, "grpc", "1.9.0", 8050, 3),
    ("promotions", SHOP, "http", "1.2.7", 8060, 2),
    ("payments", "finance", "http", "7.0.3", 8100, 4),
    ("fraud", "finance", "grpc", "0.14.2", 8110, 3),
    ("invoices", "finance", "http", "2.2.0", 8120, 3),
    ("warehouse", "logistics", "http", "3.1.5", 8200, 4),
    ("shipping", "logistics", "http", "2.8.0", 8210, 3),
    ("tracking", "logistics", "grpc", "1.5.3", 8220, 3),
    ("returns", "logistics", "http", "1.1.0", 8230, 2),
    ("identity", "platform", "http", "6.0.1", 8300, 4),
    ("sessions", "platform", "redis", "7.2.4", 6379, 3),
    ("mailer", "platform", "http", "1.0.8", 8310, 2),
    ("orders-db", "platform", "tcp", "15.4", 5432, 2),
    ("reports", "platform", "http", "0.9.2", 8320, 1),
    ("batch-billing", "finance", "http", "1.0.4", 8900, 2),
    ("loyalty", SHOP, "http", "1.3.0", 8070, 3),
    ("ratings", SHOP, "http", "0.8.1", 8080, 2),
)
IN_EUREKA = ("loyalty", "ratings")  # services that are registered in Eureka at first
MOVES = "loyalty"  # the one that moves to Consul
WEIGHT = 10
SMALL = {"storefront-5": 4}  # on half a machine
ILL = ("search-3",)  # critical from the start


@dataclass(frozen=True, slots=True)
class Node:
    """A machine."""

    name: str
    address: str
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One instance of a service, on a node."""

    service: str
    id: str
    node: Node
    port: int
    version: str
    protocol: str
    team: str
    weight: int = WEIGHT
    status: str = "passing"
    in_eureka: bool = False

    @property
    def app(self) -> str:
        """Return what Eureka calls its service."""
        return self.service.upper()

    @property
    def meta(self) -> dict[str, str]:
        """Return what it tells the registry about itself."""
        return {"version": self.version, "protocol": self.protocol, "team": self.team, "zone": self.node.zone}

    @property
    def endpoint(self) -> str:
        """Return where it answers."""
        return f"{self.node.address}:{self.port}"


class Estate:
    """What runs now: the truth, whatever a registry says of it."""

    def __init__(self) -> None:
        self.nodes = {node.name: node for node in _nodes()}
        self.running = {one.id: one for one in _instances(list(self.nodes.values()))}
        self.drained: set[str] = set()

    def services(self) -> set[str]:
        """Return the names of all services."""
        return {one.service for one in self.running.values()}

    def of(self, service: str) -> list[Running]:
        """Return the instances of a service."""
        return [one for one in self.running.values() if one.service == service]

    def on(self, node: str) -> list[Running]:
        """Return the instances on a node, as Consul knows them: Eureka has no nodes."""
        return [one for one in self.running.values() if one.node.name == node and not one.in_eureka]

    def listed(self) -> list[Running]:
        """Return the instances that Consul lists."""
        return [one for one in self.running.values() if not one.in_eureka]

    def node_for(self, service: str) -> Node:
        """Return the node with the fewest instances on which a service does not run yet."""
        taken = {one.node.name for one in self.of(service)}
        free = [node for node in self.nodes.values() if node.name not in taken | self.drained]
        return min(free, key=lambda node: len(self.on(node.name)))

    def put(self, one: Running) -> Running:
        """Start an instance, or change it."""
        self.running[one.id] = one
        return one

    def facts(self) -> frozenset[Fact]:
        """Return what every cluster should hold."""
        return frozenset(fact for one in self.running.values() for fact in self._facts(one))

    def _facts(self, one: Running) -> Iterator[Fact]:
        if one.service.startswith(SKIPPED):
            return
        namespace, domain = (SHOP, "shop.internal") if one.team == SHOP else (NAMESPACE, DOMAIN)
        host = f"{one.service}.{domain}"
        yield host_fact(namespace, host, CALLED, one.protocol.upper())
        if one.status == "passing" and (one.in_eureka or one.node.name not in self.drained):
            yield endpoint_fact(
                namespace,
                host,
                one.node.address,
                one.port,
                weight=one.weight,
                version=one.version,
                locality=f"{REGION}/{one.node.zone}",
                team=SHOP if one.team == SHOP else "",
            )


def _nodes() -> Iterator[Node]:
    for rack in range(1, RACKS + 1):
        for number, zone in enumerate(ZONES, start=1):
            yield Node(f"node-{zone}{rack}", f"10.20.{number}.{10 + rack}", f"{REGION}-1{zone}")


def _instances(nodes: list[Node]) -> Iterator[Running]:
    """Spread every service over the nodes, one instance after the other."""
    turn = 0
    for service, team, protocol, version, port, instances in SERVICES:
        for number in range(1, instances + 1):
            name = f"{service}-{number}"
            yield Running(
                service=service,
                id=name,
                node=nodes[turn % len(nodes)],
                port=port,
                version=version,
                protocol=protocol,
                team=team,
                weight=SMALL.get(name, WEIGHT),
                status="critical" if name in ILL else "passing",
                in_eureka=service in IN_EUREKA,
            )
            turn += 1
