"""`isthmus purge` and `isthmus adopt`: the real command, a real Consul, and real API servers that are watched."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.clusters.kubernetes import KubernetesCluster
from agent.clusters.settings import KubernetesSettings
from agent.estate import Estate, purgeable
from agent.inheritance import claim, purge
from agent.merge import HostKey
from agent.translate import translate
from state.limits import Limits
from state.model import SERVICE_ENTRY, WORKLOAD_ENTRY, ResourceKey
from tests.core import endpoint, host
from tests.integration.agents import COMMAND, RunningAgent, configuration, served_by
from tests.testbed.apiserver import VERBS, ApiServer
from tests.testbed.consul import Consul
from tests.testbed.processes import wait_until

ORDERS, WEB = "orders.mesh.internal", "web.mesh.internal"
KINDS = (SERVICE_ENTRY, WORKLOAD_ENTRY)
LIMITS = {"pass_spacing": "300ms", "busy_spacing": "100ms", "stop": "5s"}


class Site:
    """A registry with two services, and a configuration for one API server, or two."""

    def __init__(self, consul: Consul, servers: dict[str, ApiServer], namespace: str, folder: Path) -> None:
        for name, number in (("orders", 1), ("orders", 2), ("web", 3)):
            self.register(consul, name, number)
        self.consul = consul
        self.servers = servers
        self.namespace = namespace
        self.folder = folder
        clusters = {name: served_by(server, namespace) for name, server in servers.items()}
        self.config = configuration(consul, clusters, limits=LIMITS)
        self.configure()

    @staticmethod
    def register(consul: Consul, name: str, number: int) -> None:
        address = f"10.0.0.{number}"
        consul.register(name, f"{name}-{number}", port=80, node=f"n{number}", address=address, status="passing")

    def configure(self, **changes: Any) -> None:
        self.config.update(changes)
        (self.folder / "isthmus.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command, which must end with a code."""
        command = [COMMAND, *arguments, "--config", "isthmus.yaml"]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "-o", "json", code=code).stdout)

    def objects(self, cluster: str = "east") -> dict[str, dict[str, Any]]:
        """Return all objects by name."""
        server = self.servers[cluster]
        return {one["metadata"]["name"]: one for kind in KINDS for one in server.objects(kind, self.namespace)}

    def owned(self, owner: str, cluster: str = "east") -> set[str]:
        """Return the names of an owner's objects."""
        return {name for name, one in self.objects(cluster).items() if owner_of(one) == owner}

    def agent(self) -> RunningAgent:
        return RunningAgent(self.folder, self.config)


def owner_of(shown: dict[str, Any]) -> str:
    labels, annotations = shown["metadata"].get("labels", {}), shown["metadata"].get("annotations", {})
    return str(labels.get("isthmus.mesh/owner") or annotations.get("isthmus.mesh/author"))


@pytest.fixture
def site(consul: Consul, api_server: ApiServer, namespace: str, tmp_path: Path) -> Site:
    return Site(consul, {"east": api_server}, namespace, tmp_path)


@contextmanager
def opened(server: ApiServer, namespace: str) -> Iterator[KubernetesCluster]:
    cluster = KubernetesCluster(
        KubernetesSettings(
            name="east", namespace=namespace, server=server.url, ca_file=server.ca_file, token_file=server.token_file
        ),
        Limits(),
    )
    try:
        yield cluster
    finally:
        cluster.close()


def leave(site: Site, owner: str, name: str, *addresses: str, registry: str = "consul-dc9", entry: bool = True) -> None:
    """Let an owner that is gone have left a host."""
    with opened(site.servers["east"], site.namespace) as cluster:
        endpoints = [
            endpoint(address, sources=((registry, name.partition(".")[0], "n", address),)) for address in addresses
        ]
        found = translate(
            host(*endpoints, key=HostKey("", name)), owner=owner, cluster="east", namespace=site.namespace
        )
        for resource in found.resources if entry else found.resources[:-1]:
            cluster.create(resource)


# purge


def test_all_that_a_gone_owner_has_left_goes_but_the_service_entry_of_a_host_that_another_serves(site: Site) -> None:
    leave(site, "dc9", ORDERS, "10.9.0.1", "10.9.0.2")
    leave(site, "dc9", "old.mesh.internal", "10.9.0.3")
    site("once")
    kept = site.owned("dc1")
    with site.servers["east"].record(site.namespace) as recorder:
        done = site("purge", "east", "--owner", "dc9", "--yes")
        assert [event.type for event in recorder.events()] == ["DELETED"] * 4
    assert "- east WorkloadEntry" in done.stdout
    assert f"ServiceEntry {site.namespace}/{ORDERS} is left: it selects WorkloadEntries of dc1" in done.stdout
    assert done.stdout.endswith("east: 4 objects of dc9 deleted.\n")
    assert site.owned("dc9") == {ORDERS}
    assert site.owned("dc1") == kept
    answer = site.json("purge", "east", "--owner", "dc9", "--yes")
    assert answer["objects"] == 0
    assert "Owners there: dc1, dc9." in answer["sentence"]


def test_nothing_is_purged_unasked(site: Site) -> None:
    leave(site, "dc9", ORDERS, "10.9.0.1")
    before = site.objects()
    done = site("purge", "east", "--owner", "dc9", code=2)
    assert f"- east ServiceEntry {site.namespace}/{ORDERS}" in done.stdout
    assert "Nobody can be asked" in done.stderr
    assert "no cluster 'west'. Known are: east" in site("purge", "west", "--owner", "dc9", "--yes", code=2).stderr
    assert site.objects() == before


def test_another_namespace_is_purged_when_it_is_named(site: Site, api_server: ApiServer) -> None:
    leave(site, "dc9", ORDERS, "10.9.0.1")
    elsewhere = f"{site.namespace}-new"
    api_server.create_namespace(elsewhere)
    api_server.grant(elsewhere)
    site.configure(clusters={"east": served_by(api_server, elsewhere)})
    assert site.json("purge", "east", "--owner", "dc9", "--yes")["objects"] == 0
    assert site.json("purge", "east", "--owner", "dc9", "--namespace", site.namespace, "--yes")["objects"] == 2
    assert site.objects() == {}


def test_ones_own_objects_are_purged_only_while_the_cluster_is_paused(site: Site) -> None:
    with site.agent() as agent:
        wait_until(agent.is_settled, "all is written", 30)
        before = site.objects()
        refused = site("purge", "east", "--owner", "dc1", "--yes", code=2)
        assert "first `isthmus pause east`" in refused.stderr
        clusters = site.config["clusters"]
        site.configure(clusters={"east": {**clusters["east"], "policy": "paused"}})  # of which the agent knows nothing
        assert "first `isthmus pause east`" in site("purge", "east", "--owner", "dc1", "--yes", code=2).stderr
        site.configure(clusters=clusters)
        assert site.objects() == before
        assert "east is paused: nothing is written" in site("pause", "east").stdout
        assert site.json("purge", "east", "--owner", "dc1", "--yes")["objects"] == len(before)
        wait_until(lambda: agent.status()["clusters"]["east"]["pending"] == len(before), "all of it waits")
        assert site.objects() == {}
        assert "east is resumed" in site("resume", "east").stdout
        wait_until(lambda: site.objects().keys() == before.keys(), "it is all there again")
        agent.stop()
    assert "first `isthmus pause east`" in site("purge", "east", "--owner", "dc1", "--yes", code=2).stderr
    assert "no agent runs" in site("pause", "east").stdout
    assert site.json("purge", "east", "--owner", "dc1", "--yes")["objects"] == len(before)
    assert "east: 0 objects, 0 writes, paused, 5 waiting" in site("once").stdout


def test_what_was_written_since_it_was_read_goes_if_it_is_still_that_owners(site: Site, api_server: ApiServer) -> None:
    leave(site, "dc9", ORDERS, "10.9.0.1", "10.9.0.2", "10.9.0.3")
    with opened(api_server, site.namespace) as cluster:
        estate = purgeable(cluster.read(frozenset()), "dc9")
        first, second, third = (held.key for held in estate.objects if held.key.kind == WORKLOAD_ENTRY)
        annotate(api_server, first, "annotations", "somebody", "was here")
        annotate(api_server, second, "labels", "isthmus.mesh/owner", "dc1")
        annotate(api_server, third, "labels", "app.kubernetes.io/managed-by", "somebody")
        done = purge(cluster, frozenset(), "dc9", estate)
    assert done.objects == 1
    assert len(done.failures) == 2
    assert [one.why for one in done.left] == ["it selects WorkloadEntries of dc1"]
    assert site.objects().keys() == {second.name, third.name, ORDERS}


def annotate(server: ApiServer, key: ResourceKey, field: str, name: str, text: str) -> None:
    shown = server.get(key.kind, key.namespace, key.name)
    shown["metadata"].setdefault(field, {})[name] = text
    server.replace(shown, server.admin_token)


def test_a_purge_that_is_not_allowed_says_so_once_and_ends_with_1(site: Site, api_server: ApiServer) -> None:
    leave(site, "dc9", ORDERS, *(f"10.9.0.{n}" for n in range(1, 21)))
    api_server.revoke(site.namespace)
    api_server.grant(site.namespace, [verb for verb in VERBS if verb != "delete"])
    done = site("purge", "east", "--owner", "dc9", "--yes", code=1)
    assert len(done.stderr.splitlines()) == 1
    assert "forbidden" in done.stderr.lower()
    assert len(site.owned("dc9")) == 21


# adopt


def test_an_agent_with_another_name_takes_its_objects_over_where_they_are(site: Site, api_server: ApiServer) -> None:
    site("once")
    entry = next(one for one in api_server.objects(WORKLOAD_ENTRY, site.namespace))
    entry["metadata"]["labels"]["team"] = "orders"
    entry["metadata"]["finalizers"] = ["example.com/kept"]
    api_server.replace(entry, api_server.admin_token)
    site("once")
    before = site.objects()
    site.configure(owner="dc2")
    told = site("once", code=10).stderr
    assert "`isthmus adopt CLUSTER --owner dc1`" in told
    with api_server.record(site.namespace) as recorder:
        done = site("adopt", "east", "--owner", "dc1", "--yes")
        assert [event.type for event in recorder.events()] == ["MODIFIED"] * 5
    assert done.stdout.endswith("east: 5 objects of dc1 taken over. The state file is dc2's now.\n")
    after = site.objects()
    assert site.owned("dc2") == before.keys()
    for name, one in before.items():
        assert after[name]["metadata"]["uid"] == one["metadata"]["uid"]
        assert after[name]["spec"] == one["spec"]
        assert after[name]["metadata"].get("finalizers") == one["metadata"].get("finalizers")
        assert len(changed_labels(one, after[name])) == (one["kind"] == WORKLOAD_ENTRY)
    # What was written once more has a label of somebody else's, so nobody could tell what its digest had to be.
    assert site("once").stdout == "east: 5 objects, 1 write\n"
    assert site("once").stdout == "east: 5 objects, 0 writes\n"
    assert site.objects()[entry["metadata"]["name"]]["metadata"]["labels"]["team"] == "orders"
    remove_finalizers(api_server, entry)


def changed_labels(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key, _ in one["metadata"]["labels"].items() ^ other["metadata"]["labels"].items()}


def remove_finalizers(server: ApiServer, entry: dict[str, Any]) -> None:
    shown = server.get(WORKLOAD_ENTRY, entry["metadata"]["namespace"], entry["metadata"]["name"])
    shown["metadata"]["finalizers"] = []
    server.replace(shown, server.admin_token)


def test_the_state_file_goes_over_when_every_cluster_was_adopted(
    consul: Consul, two_api_servers: tuple[ApiServer, ApiServer], namespace: str, tmp_path: Path
) -> None:
    site = Site(consul, dict(zip(("east", "west"), two_api_servers, strict=True)), namespace, tmp_path)
    site("once")
    site.configure(owner="dc2")
    done = site("adopt", "east", "--owner", "dc1", "--yes")
    assert "stays dc1's until west is adopted: isthmus adopt west --owner dc1" in done.stdout
    site("once", code=10)
    assert "The state file is dc2's now." in site("adopt", "west", "--owner", "dc1", "--yes").stdout
    assert site("once").stdout == "east: 5 objects, 0 writes\nwest: 5 objects, 0 writes\n"
    assert site.owned("dc1") == site.owned("dc1", "west") == set()


def test_what_a_registry_lists_that_nobody_here_hears_is_left(site: Site) -> None:
    site("once")
    leave(site, "dc9", "old.mesh.internal", "10.9.0.1")
    before = site.objects()
    done = site("adopt", "east", "--owner", "dc9", "--yes")
    assert "it came from consul-dc9, which this configuration does not have" in done.stdout
    assert "dc9 has nothing in east to take over. Owners there: dc1, dc9." in done.stdout
    assert site.objects() == before


def test_what_was_taken_over_and_no_registry_lists_is_held(site: Site) -> None:
    site("once")
    leave(site, "dc9", ORDERS, "10.9.0.1", "10.9.0.2", registry="consul-dc1", entry=False)
    names = site.owned("dc9")
    assert len(names) == 2
    assert site.json("adopt", "east", "--owner", "dc9", "--yes")["objects"] == 2
    site("once", code=12)
    assert names <= site.owned("dc1")
    assert len(site.json("holds")["holds"]) == 2
    site("accept", "consul-dc1", "--yes")
    site("once")
    assert not names & site.objects().keys()


def test_beside_a_running_agent_nothing_is_adopted(site: Site) -> None:
    leave(site, "dc9", "old.mesh.internal", "10.9.0.1", registry="consul-dc1")
    with site.agent() as agent:
        wait_until(agent.is_settled, "all is written", 30)
        before = site.objects()
        refused = site("adopt", "east", "--owner", "dc9", "--yes", code=11)
        assert "another isthmus is using it: stop the agent, adopt, and start it again" in refused.stderr
        assert site.objects() == before
        agent.stop()
    assert "'dc1' is the owner in the configuration" in site("adopt", "east", "--owner", "dc1", code=2).stderr
    assert "Nobody can be asked" in site("adopt", "east", "--owner", "dc9", code=2).stderr
    assert site.objects() == before


def test_the_state_of_a_third_owner_is_not_gone_over(site: Site) -> None:
    site("once")
    site.configure(owner="dc2")
    assert "was written under 'dc1'" in site("adopt", "east", "--owner", "dc9", "--yes", code=10).stderr


def test_an_adoption_that_was_broken_off_is_carried_on(site: Site, api_server: ApiServer) -> None:
    site("once")
    site.configure(owner="dc2")
    with opened(api_server, site.namespace) as cluster:
        some = purgeable(cluster.read(frozenset()), "dc1")
        assert claim(cluster, "dc1", "dc2", Estate(some.objects[:2])).objects == 2
    done = site("adopt", "east", "--owner", "dc1", "--yes")
    assert "3 objects of dc1 taken over. The state file is dc2's now." in done.stdout
    assert site("once").stdout == "east: 5 objects, 0 writes\n"
