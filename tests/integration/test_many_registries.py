"""One Consul and one Eureka that list the same services, and every cluster is what their registrations say together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.integration.agents import RunningAgent, configuration, served_by
from tests.integration.mixed import CONSUL, EUREKA, Mixed, Move, picture
from tests.integration.stage import Pace, witnesses_of
from tests.integration.witness import ServerWitness, Witness
from tests.testbed.apiserver import ApiServer
from tests.testbed.consul import Consul
from tests.testbed.eureka import Eureka, MakeEureka, MakeEurekaPeers
from tests.testbed.processes import ProcessError, wait_until

SEED = 20261128
POLL = 0.5
LIMITS = {"empty_grace": "300ms", "service_entry_grace": "500ms", "busy_spacing": "200ms", "pass_spacing": "500ms"}


class Stage(Pace[Move]):
    """Plays a history of both registries; its lags are of each of them."""

    patience = 20.0

    def __init__(self, mixed: Mixed, witnesses: Sequence[Witness], seed: int) -> None:
        self.mixed = mixed
        mixed.fill()
        super().__init__(mixed.play(), lambda _: picture(mixed), witnesses, seed, lambda move: move.registry)


def configured(consul: Consul, urls: Sequence[str], clusters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Write a configuration of both registries."""
    config = configuration(consul, clusters, limits=LIMITS)
    config["registries"][EUREKA] = {"type": "eureka", "urls": list(urls), "poll": POLL}
    return config


def test_clusters_follow_two_registries_that_list_the_same_services(
    two_api_servers: tuple[ApiServer, ApiServer], namespace: str, consul: Consul, eureka: Eureka, tmp_path: Path
) -> None:
    servers = dict(zip(("east", "west"), two_api_servers, strict=True))
    clusters = {name: served_by(server, namespace) for name, server in servers.items()}
    config = configured(consul, [eureka.url], clusters)
    with witnesses_of(servers, namespace) as witnesses, RunningAgent(tmp_path / "agent", config) as agent:
        stage = Stage(Mixed(consul, eureka, SEED), witnesses, SEED)
        stage.settle(40)
        while stage.mixed.unplayed:
            stage.move_and_settle()
        for _ in range(5):
            for _ in range(3):
                stage.move()
            agent.kill()
            stage.move()
            agent.start()
            stage.settle(40)
        wait_until(agent.is_settled, "isthmus has heard that all of it is written", 20)
        report = agent.status()
        assert {row["waiting"].get("hold", 0) for row in report["registries"].values()} == {0}
        for cluster in report["clusters"].values():
            assert (cluster["repairs"], cluster["pending"], cluster["parked"]) == (0, 0, [])
    assert median(stage.lags[EUREKA]) < 2 * POLL + 0.5, stage.lags
    assert median(stage.lags[CONSUL]) < 2.0, stage.lags


def test_nothing_that_is_healthy_leaves_while_one_of_two_peers_dies(
    two_api_servers: tuple[ApiServer, ApiServer],
    namespace: str,
    consul: Consul,
    make_eureka_peers: MakeEurekaPeers,
    tmp_path: Path,
) -> None:
    first, second = make_eureka_peers()
    servers = {"east": two_api_servers[0]}
    clusters = {"east": served_by(servers["east"], namespace)}
    config = configured(consul, [first.url, second.url], clusters)
    with witnesses_of(servers, namespace) as witnesses, RunningAgent(tmp_path / "agent", config) as agent:
        mixed = Mixed(consul, second, SEED + 1)
        stage = Stage(mixed, witnesses, SEED + 1)  # told to the second, and by it to the first
        stage.settle(60)
        for _ in range(8):
            stage.move()
            stage.settle(40)
        first.kill()
        for _ in range(4):
            stage.move()
        stage.settle(60)
        for _ in range(8):
            stage.move()
            stage.settle(40)
        report = agent.status()["registries"][EUREKA]
        assert report["eureka"]["server"] == second.url
        assert report["waiting"] == {}


def test_an_unreadable_registry_costs_no_endpoint_of_another(
    two_api_servers: tuple[ApiServer, ApiServer],
    namespace: str,
    consul: Consul,
    make_eureka: MakeEureka,
    tmp_path: Path,
) -> None:
    servers = {"east": two_api_servers[0]}
    eureka = make_eureka()
    config = configured(consul, [eureka.url], {"east": served_by(servers["east"], namespace)})
    with witnesses_of(servers, namespace) as witnesses, RunningAgent(tmp_path / "agent", config) as agent:
        for number in range(3):
            eureka.register("ORDERS", f"orders-{number}", f"10.4.0.{number + 1}", 8080)
            consul.register("orders", f"c-{number}", address=f"10.5.0.{number + 1}", port=8080, node="node-1")
        both = {f"10.4.0.{number}" for number in (1, 2, 3)} | {f"10.5.0.{number}" for number in (1, 2, 3)}
        wait_for_addresses(witnesses[0], both)
        eureka.kill()
        consul.deregister("c-0", "node-1")
        consul.register("orders", "c-9", address="10.5.0.9", port=8080, node="node-1")
        wait_for_addresses(witnesses[0], both - {"10.5.0.1"} | {"10.5.0.9"})
        agent.kill()  # and who starts while it cannot be read remembers what it said
        agent.start()
        consul.deregister("c-1", "node-1")
        wait_for_addresses(witnesses[0], both - {"10.5.0.1", "10.5.0.2"} | {"10.5.0.9"})
        deleted = {event.object["spec"].get("address") for event in witnesses[0].events if event.type == "DELETED"}
        assert deleted == {"10.5.0.1", "10.5.0.2"}


def wait_for_addresses(witness: ServerWitness, addresses: set[str]) -> None:
    """Wait until a cluster has WorkloadEntries of just these addresses."""

    def found() -> set[str]:
        return {one["spec"]["address"] for (kind, _), one in witness.look().items() if kind == "WorkloadEntry"}

    try:
        wait_until(lambda: found() == addresses, "just these addresses are there", 60)
    except ProcessError as error:
        raise AssertionError(f"{error}: too much {found() - addresses}, missing {addresses - found()}") from None
