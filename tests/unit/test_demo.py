from pathlib import Path

import pytest
import yaml

from agent.clusters.directory import DirectoryCluster
from agent.clusters.settings import DirectorySettings
from agent.config import load
from agent.demo.estate import NAMESPACE, Estate
from agent.demo.facts import differences, endpoint_fact, fact_of, facts_of, host_fact
from agent.demo.folder import OWNER, prepare, write_configuration
from agent.demo.scene import DirectoryPlace
from agent.plan import Action, Change
from hooks.consul.settings import ConsulSettings
from state.errors import ConfigurationError, StateError
from state.limits import Limits
from state.model import AUTHOR, HOST_LABEL, MANAGED_BY, OWNER_LABEL, PRODUCT, SERVICE_ENTRY, Resource, ResourceKey
from state.store import lock

URL = "http://127.0.0.1:8500"
EUREKA = "http://127.0.0.1:8761/eureka"
CART = endpoint_fact("shop", "cart.shop", "10.0.0.1", 80, weight=3, version="1", locality="eu/a", team="shop")


def host(name: str, owner: str) -> Resource:
    spec = {"hosts": [name], "ports": [{"name": "main", "number": 80, "protocol": "HTTP"}]}
    key = ResourceKey(SERVICE_ENTRY, NAMESPACE, name)
    return Resource(key=key, labels={MANAGED_BY: PRODUCT}, annotations={AUTHOR: owner}, spec=spec)


def write(folder: Path, *resources: Resource) -> None:
    settings = DirectorySettings(name=folder.name, namespace=NAMESPACE, directory=folder)
    cluster = DirectoryCluster(settings, Limits())
    cluster.write([Change(Action.CREATE, one.key, one, None, "") for one in resources])


def prepared(folder: Path) -> Path:
    prepare(folder, ("east", "west"))
    places = [DirectoryPlace(name, folder / name, Path(name), NAMESPACE) for name in ("east", "west")]
    return write_configuration(folder, URL, EUREKA, places, 10)


def test_the_sample_is_a_data_centre_of_some_size() -> None:
    estate = Estate()
    assert len(estate.services()) == 22
    assert len(estate.running) >= 60
    assert len(estate.nodes) == 12
    assert len({one.endpoint for one in estate.running.values()}) == len(estate.running)


def test_no_two_instances_of_a_service_share_a_node() -> None:
    estate = Estate()
    for service in estate.services():
        nodes = [one.node for one in estate.of(service)]
        assert len(set(nodes)) == len(nodes)


def test_what_is_skipped_ill_or_drained_is_no_endpoint() -> None:
    estate = Estate()
    endpoints = {fact.place.endpoint for fact in estate.facts()}
    assert {fact.place.host for fact in estate.facts()}.isdisjoint({"batch-billing.mesh.internal"})
    assert estate.running["search-3"].endpoint not in endpoints
    estate.drained.add("node-b2")
    after = {fact.place.endpoint for fact in estate.facts()}
    assert endpoints - after == {one.endpoint for one in estate.on("node-b2")}


def test_an_object_says_what_it_is() -> None:
    workload = {
        "kind": "WorkloadEntry",
        "metadata": {
            "name": "cart-1",
            "namespace": "shop",
            "labels": {
                MANAGED_BY: PRODUCT,
                HOST_LABEL: "cart.shop",
                OWNER_LABEL: OWNER,
                "service.istio.io/canonical-revision": "1",
                "team": "shop",
            },
        },
        "spec": {"address": "10.0.0.1", "ports": {"main": 80}, "weight": 3, "locality": "eu/a"},
    }
    assert fact_of(workload) == CART
    assert fact_of(host("a.b", OWNER).manifest()) == host_fact(NAMESPACE, "a.b", 80, "HTTP")
    assert list(facts_of([workload], OWNER)) == [CART]
    assert list(facts_of([workload], "another")) == []


def test_whatever_differs_is_named_also_what_is_there_twice() -> None:
    assert differences([CART], [CART]) == []
    assert differences([CART], []) == ["lacks shop/cart.shop 10.0.0.1:80 (weight 3, version 1, eu/a, team shop)"]
    assert differences([CART], [CART, CART])[0].startswith("has shop/cart.shop 10.0.0.1:80")


def test_the_configuration_is_one_that_isthmus_loads(tmp_path: Path) -> None:
    config = load(prepared(tmp_path))
    assert config.owner == OWNER
    assert [settings.url for settings in config.registries.values() if isinstance(settings, ConsulSettings)] == [URL]
    assert list(config.clusters) == ["east", "west"]
    assert config.limits.empty_grace == 0.5


def test_only_what_a_demo_wrote_is_replaced(tmp_path: Path) -> None:
    prepared(tmp_path)
    write(tmp_path / "east", host("ours.mesh", OWNER), host("theirs.mesh", "dc1"))
    (tmp_path / "state.db").write_text("old")
    kept = {
        tmp_path / "notes.txt": "mine",
        tmp_path / "east" / NAMESPACE / "hand.yaml": "kind: Gateway\n",
        tmp_path / "east" / NAMESPACE / "notes.md": "mine",
    }
    for path, text in kept.items():
        path.write_text(text)
    mixed = tmp_path / "east" / NAMESPACE / "ours.mesh.yaml"
    mixed.write_text(mixed.read_text() + "---\nkind: Gateway # by hand\n")
    prepared(tmp_path)
    assert {path: path.read_text() for path in kept} == kept
    assert mixed.read_text() == "kind: Gateway # by hand\n"
    assert not (tmp_path / "state.db").exists()
    left = DirectoryPlace("east", tmp_path / "east", Path(), NAMESPACE).objects()
    assert [one["metadata"]["name"] for one in left if one["kind"] == SERVICE_ENTRY] == ["theirs.mesh"]


@pytest.mark.parametrize("name", ["isthmus.yaml", "state.db"])
def test_the_folder_of_another_isthmus_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("owner: dc1\n")
    with pytest.raises(ConfigurationError, match=f"{name}: is there, and was not written by `isthmus demo`"):
        prepare(tmp_path, ("east",))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_in_which_a_demo_runs_is_refused(tmp_path: Path) -> None:
    text = prepared(tmp_path).read_text()
    write(tmp_path / "east", host("ours.mesh", OWNER))
    with lock(tmp_path / "state.db"), pytest.raises(StateError, match="another isthmus is using it"):
        prepare(tmp_path, ("east",))
    assert (tmp_path / "isthmus.yaml").read_text() == text
    assert yaml.safe_load((tmp_path / "east" / NAMESPACE / "ours.mesh.yaml").read_text())["kind"] == SERVICE_ENTRY
