"""The Kubernetes cluster against a real API server with Istio's definitions."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from agent.clusters import listing
from agent.clusters.kubernetes import KubernetesCluster
from agent.clusters.settings import KubernetesSettings
from agent.plan import plan
from agent.translate import translate
from state.errors import ClusterError, Fault
from state.limits import Limits
from state.model import WORKLOAD_ENTRY, Held, Resource, ResourceKey, digest_of
from tests.core import endpoint, host
from tests.testbed.apiserver import ApiServer, MakeApiServer
from tests.testbed.pki import Authority
from tests.testbed.processes import wait_until

LIMITS = Limits(write_timeout=10.0, retry=(0.05, 0.1))


def cluster_of(
    server: ApiServer,
    namespace: str,
    *,
    token_file: Path | None = None,
    ca_file: Path | None = None,
    limits: Limits = LIMITS,
) -> KubernetesCluster:
    settings = KubernetesSettings(
        name="east",
        namespace=namespace,
        server=server.url,
        ca_file=ca_file or server.ca_file,
        token_file=token_file or server.token_file,
    )
    return KubernetesCluster(settings, limits)


@pytest.fixture
def cluster(api_server: ApiServer, namespace: str) -> Iterator[KubernetesCluster]:
    made = cluster_of(api_server, namespace)
    yield made
    made.close()


@pytest.fixture
def as_admin(api_server: ApiServer, tmp_path: Path) -> Path:
    """A token file of somebody who may do anything anywhere."""
    path = tmp_path / "admin"
    path.write_text(api_server.admin_token)
    return path


def resources(namespace: str, *addresses: str, owner: str = "dc1", **fields: Any) -> list[Resource]:
    """Return the WorkloadEntries of a host, and its ServiceEntry last, as they are written."""
    endpoints = [endpoint(address, **fields) for address in addresses]
    translation = translate(host(*endpoints), owner=owner, cluster="east", namespace=namespace)
    assert translation.rejected == ()
    return list(translation.resources)


def entry(namespace: str, address: str = "10.1.2.3", owner: str = "dc1", **fields: Any) -> Resource:
    return resources(namespace, address, owner=owner, **fields)[0]


def error_of(call: Callable[[], object]) -> ClusterError:
    with pytest.raises(ClusterError) as raised:
        call()
    return raised.value


def fault_of(call: Callable[[], object]) -> Fault:
    return error_of(call).fault


# Reading and writing.


def test_what_was_written_is_read_again_and_nothing_is_left_to_do(
    cluster: KubernetesCluster, api_server: ApiServer, namespace: str
) -> None:
    assert cluster.read(frozenset()) == {}
    desired = resources(namespace, "10.1.2.3", "2001:db8::1", version="v3", locality="eu-west/eu-west-1a")
    changes = plan(desired, (), "dc1")
    outcomes = cluster.write(changes)

    other = cluster_of(api_server, namespace)
    for held in ({one.key: one for one in outcomes if isinstance(one, Held)}, other.read(frozenset())):
        assert set(held) == {resource.key for resource in desired}
        assert plan(desired, held.values(), "dc1") == ()
        assert held[desired[0].key].endpoint == ("10.1.2.3", 8443)
    other.close()


def test_an_update_replaces_our_part_and_a_delete_removes_it(
    cluster: KubernetesCluster, api_server: ApiServer, namespace: str
) -> None:
    before = api_server.writes()
    held = cluster.create(entry(namespace, version="v3"))
    after = cluster.update(entry(namespace, version="v4", weight=7), held)
    shown = api_server.get(*held.key)
    assert shown["spec"]["weight"] == 7
    assert shown["metadata"]["labels"]["service.istio.io/canonical-revision"] == "v4"
    assert (after.uid, after.generation) == (held.uid, held.generation + 1)
    assert after.spec_digest == digest_of(entry(namespace, weight=7).spec)

    cluster.delete(after)
    cluster.delete(after)  # gone already
    assert cluster.look(held.key) is None
    assert cluster.read(frozenset()) == {}
    assert api_server.writes() - before == 4


def test_what_others_added_outlives_an_update(
    cluster: KubernetesCluster, api_server: ApiServer, namespace: str
) -> None:
    held = cluster.create(entry(namespace, labels=(("team", "a"),)))
    shown = api_server.get(*held.key)
    parent = {"apiVersion": "v1", "kind": "ConfigMap", "name": "parent", "uid": "00000000-0000-0000-0000-000000000001"}
    shown["metadata"]["labels"]["tier"] = "gold"
    shown["metadata"]["annotations"]["note"] = "by hand"
    shown["metadata"]["finalizers"] = ["example.com/keep"]
    shown["metadata"]["ownerReferences"] = [parent]
    shown["spec"]["network"] = "elsewhere"
    api_server.replace(shown)
    shown = api_server.get(*held.key)

    assert fault_of(lambda: cluster.update(entry(namespace, version="v4"), held)) is Fault.CONFLICT
    looked = cluster.look(held.key)
    assert looked is not None
    assert looked.own_labels == held.own_labels
    cluster.update(entry(namespace, version="v4"), looked)
    # Another agent knows of the rest from nowhere, and asks for it.
    stranger = cluster_of(api_server, namespace)
    looked = stranger.look(held.key)
    assert looked is not None
    stranger.close()
    other = cluster_of(api_server, namespace)
    other.update(entry(namespace, version="v5"), looked)
    other.close()

    now = api_server.get(*held.key)
    assert now["metadata"]["labels"] == {**entry(namespace, version="v5").labels, "tier": "gold"}
    assert now["metadata"]["annotations"]["note"] == "by hand"
    assert now["metadata"]["finalizers"] == ["example.com/keep"]
    assert now["metadata"]["ownerReferences"] == shown["metadata"]["ownerReferences"]
    assert now["spec"] == entry(namespace).spec

    looked = cluster.look(held.key)
    assert looked is not None
    cluster.delete(looked)  # which the finalizer delays
    assert cluster.look(held.key) is not None


def test_a_taken_name_is_found_whoever_has_it(
    cluster: KubernetesCluster, api_server: ApiServer, namespace: str
) -> None:
    resource = entry(namespace)
    item = resource.manifest()
    api_server.create({**item, "metadata": {"name": resource.key.name, "namespace": namespace}})

    assert fault_of(lambda: cluster.create(resource)) is Fault.EXISTS
    held = cluster.look(resource.key)
    assert held is not None
    assert held.labels == {}
    assert cluster.read(frozenset()) == {}


def test_an_object_that_was_replaced_is_neither_updated_nor_deleted(
    cluster: KubernetesCluster, api_server: ApiServer, namespace: str
) -> None:
    held = cluster.create(entry(namespace))
    api_server.remove(*held.key)
    assert fault_of(lambda: cluster.update(entry(namespace, weight=7), held)) is Fault.MISSING
    cluster_of(api_server, namespace).create(entry(namespace))
    assert fault_of(lambda: cluster.delete(held)) is Fault.CONFLICT
    assert fault_of(lambda: cluster.update(entry(namespace, weight=7), held)) is Fault.CONFLICT
    unknown = replace(held, resource_version="", uid="")
    assert fault_of(lambda: cluster.delete(unknown)) is Fault.CONFLICT
    assert fault_of(lambda: cluster.update(entry(namespace, weight=7), unknown)) is Fault.CONFLICT


@pytest.mark.parametrize("change", [{"unknown": 1}, {"address": 5}, {"ports": {"main": 99999}}])
def test_what_the_server_does_not_take_is_rejected(
    cluster: KubernetesCluster, namespace: str, change: dict[str, object]
) -> None:
    good = entry(namespace)
    bad = replace(good, spec={**good.spec, **change})
    error = error_of(lambda: cluster.create(bad))
    assert error.fault is Fault.REJECTED
    assert str(good.key) in str(error)
    held = cluster.create(good)
    assert fault_of(lambda: cluster.update(bad, held)) is Fault.REJECTED


def test_a_name_that_is_none_is_rejected(cluster: KubernetesCluster, namespace: str) -> None:
    bad = replace(entry(namespace), key=ResourceKey(WORKLOAD_ENTRY, namespace, "No_Name"))
    assert fault_of(lambda: cluster.create(bad)) is Fault.REJECTED


def test_a_long_list_comes_in_pages_and_whole(
    cluster: KubernetesCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desired = resources(namespace, *(f"10.1.2.{number}" for number in range(1, 8)))
    cluster.write(plan(desired, (), "dc1"))
    monkeypatch.setattr(listing, "PAGE", 2)
    assert set(cluster.read(frozenset())) == {resource.key for resource in desired}


def test_every_named_namespace_is_read_and_every_owners_objects(
    api_server: ApiServer, namespace: str, as_admin: Path
) -> None:
    other = f"{namespace}-b"
    api_server.create_namespace(other)
    cluster = cluster_of(api_server, namespace, token_file=as_admin)
    cluster.create(entry(namespace))
    cluster.create(entry(other, owner="dc2"))
    held = cluster.read(frozenset({other, "not-there-yet"}))
    assert sorted(one.owner for one in held.values()) == ["dc1", "dc2"]
    error = error_of(lambda: cluster.create(entry("not-there-yet")))
    assert error.fault is Fault.OBJECT
    assert 'namespaces "not-there-yet" not found' in str(error)
    cluster.close()


def test_a_namespace_that_ends_takes_no_new_objects(api_server: ApiServer, cluster: KubernetesCluster) -> None:
    held = cluster.create(entry(cluster._own))
    api_server.request("DELETE", f"/api/v1/namespaces/{cluster._own}")
    assert fault_of(lambda: cluster.create(entry(cluster._own, "10.1.2.4"))) is Fault.OBJECT
    cluster.update(entry(cluster._own, weight=7), held)


def test_who_else_writes_is_named(cluster: KubernetesCluster, api_server: ApiServer, namespace: str) -> None:
    held = cluster.create(entry(namespace))
    assert cluster.writers(held.key) == ()
    shown = api_server.get(*held.key)
    shown["spec"]["weight"] = 99
    where = f"/apis/networking.istio.io/v1/namespaces/{namespace}/workloadentries/{held.key.name}"
    api_server.request("PUT", f"{where}?fieldManager=kubectl-edit", shown)
    (writer,) = cluster.writers(held.key)
    assert writer.startswith("kubectl-edit (Update, 20")


# Credentials and TLS.


def test_a_kubeconfig_is_enough(api_server: ApiServer, namespace: str) -> None:
    settings = KubernetesSettings(
        name="east", namespace=namespace, kubeconfig=api_server.kubeconfig(), context="testbed"
    )
    cluster = KubernetesCluster(settings, LIMITS)
    cluster.create(entry(namespace))
    assert len(cluster.read(frozenset())) == 1
    cluster.close()


def test_a_client_certificate_is_a_credential(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    config = json.loads(api_server.kubeconfig().read_text())
    pair = api_server.authority.client("isthmus")
    config["users"][0]["user"] = {"client-certificate": str(pair.cert_file), "client-key": str(pair.key_file)}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    cluster = KubernetesCluster(KubernetesSettings(name="east", namespace=namespace, kubeconfig=path), LIMITS)
    cluster.create(entry(namespace))
    cluster.close()


def test_a_wrong_token_is_unauthorised_and_is_not_shown(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("wr0ng-t0ken")
    cluster = cluster_of(api_server, namespace, token_file=path)
    error = error_of(lambda: cluster.read(frozenset()))
    assert error.fault is Fault.UNAUTHORISED
    assert "wr0ng" not in str(error)
    path.write_text(api_server.token)
    assert cluster.read(frozenset()) == {}
    cluster.close()


def test_what_rbac_forbids_is_unauthorised(api_server: ApiServer, cluster: KubernetesCluster, namespace: str) -> None:
    held = cluster.create(entry(namespace))
    api_server.revoke(namespace)
    api_server.grant(namespace, ("get", "list", "watch"))
    wait_until(lambda: not may_write(cluster, held), "the revocation counts")
    error = error_of(lambda: cluster.update(entry(namespace, weight=7), held))
    assert error.fault is Fault.UNAUTHORISED
    assert 'User "isthmus" cannot update' in str(error)
    assert len(cluster.read(frozenset())) == 1


def may_write(cluster: KubernetesCluster, held: Held) -> bool:
    try:
        cluster.update(entry(held.key.namespace), held)
    except ClusterError as error:
        return error.fault is not Fault.UNAUTHORISED
    return True


def test_a_server_that_another_authority_vouches_for_is_not_talked_to(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "pki")
    cluster = cluster_of(api_server, namespace, ca_file=other.ca_file)
    error = error_of(lambda: cluster.read(frozenset()))
    assert error.fault is Fault.CLUSTER
    assert "TLS: " in str(error)
    assert "certificate verify failed" in str(error)


# Watching.


class Mirror:
    """What a lane keeps: the last delivery of each key, and all deliveries in their order."""

    def __init__(self) -> None:
        self.now: dict[ResourceKey, Held] = {}
        self.all: list[tuple[ResourceKey, Held | None]] = []
        self.changed = threading.Condition()

    def take(self, key: ResourceKey, held: Held | None) -> None:
        with self.changed:
            self.all.append((key, held))
            if held is None:
                self.now.pop(key, None)
            else:
                self.now[key] = held
            self.changed.notify_all()

    def wrote(self, key: ResourceKey, before: Held | None, after: Held | None) -> None:
        with self.changed:
            if self.now.get(key) != before:
                return
            if after is None:
                self.now.pop(key, None)
            else:
                self.now[key] = after

    def wait(self, true: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(true, 20), self.all


@contextmanager
def watching(cluster: KubernetesCluster) -> Iterator[Mirror]:
    stop, mirror = Event(), Mirror()
    mirror.now.update(cluster.read(frozenset()))
    thread = Thread(target=cluster.watch, args=(stop, mirror.take))
    thread.start()
    try:
        yield mirror
    finally:
        stop.set()
        thread.join(1.0)
        assert not thread.is_alive()


def test_a_watch_shows_what_others_do(cluster: KubernetesCluster, api_server: ApiServer, namespace: str) -> None:
    first, second = entry(namespace), entry(namespace, "10.1.2.4")
    held = cluster.create(first)
    cluster.create(second)
    with watching(cluster) as mirror:
        shown = api_server.get(*first.key)
        shown["metadata"]["labels"]["team"] = "a"
        api_server.replace(shown)
        mirror.wait(lambda: "team" in mirror.now[first.key].labels)
        labelled = mirror.now[first.key]
        assert (labelled.spec_digest, labelled.own_labels) == (held.spec_digest, held.own_labels)

        shown = api_server.get(*first.key)
        shown["spec"]["weight"] = 99
        api_server.replace(shown)
        mirror.wait(lambda: mirror.now[first.key].spec_digest == "")

        del (shown := api_server.get(*first.key))["metadata"]["labels"]["app.kubernetes.io/managed-by"]
        api_server.replace(shown)
        mirror.wait(lambda: first.key not in mirror.now)
        assert fault_of(lambda: cluster.create(first)) is Fault.EXISTS

        api_server.remove(*second.key)
        mirror.wait(lambda: second.key not in mirror.now)
        other = entry(namespace, "10.1.2.5", owner="dc2")
        api_server.create(other.manifest())
        mirror.wait(lambda: other.key in mirror.now)
        assert mirror.now[other.key].owner == "dc2"


def test_the_echo_of_an_own_write_is_no_news(cluster: KubernetesCluster, api_server: ApiServer, namespace: str) -> None:
    desired = resources(namespace, *(f"10.2.{number}.1" for number in range(80)))
    last: dict[ResourceKey, Held] = {}

    def write(part: list[Resource], mirror: Mirror) -> None:
        for resource in part:
            key = resource.key
            held = cluster.create(resource)
            mirror.wrote(key, None, held)
            for weight in (2, 3):
                before, held = held, cluster.update(replace(resource, spec={**resource.spec, "weight": weight}), held)
                mirror.wrote(key, before, held)
            if key.name.endswith("0"):
                cluster.delete(held)
                mirror.wrote(key, held, None)
            else:
                last[key] = held

    entries = [resource for resource in desired if resource.key.kind == WORKLOAD_ENTRY]
    with watching(cluster) as mirror:
        threads = [Thread(target=write, args=(entries[number::8], mirror)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        other = entry(namespace, "10.1.2.5", owner="dc2")
        api_server.create(other.manifest())  # told after all that
        mirror.wait(lambda: other.key in mirror.now)
        assert [key for key, _ in mirror.all] == [other.key]
        assert mirror.now.keys() - last.keys() == {other.key}
        assert last.items() <= mirror.now.items()
    assert cluster.read(frozenset()).keys() == mirror.now.keys()


def test_watches_of_a_server_that_restarts_stops_and_freezes(make_api_server: MakeApiServer) -> None:
    server = make_api_server()
    server.create_namespace("legacy")
    server.grant("legacy")
    # Long enough to freeze the server in, short enough to notice.
    cluster = cluster_of(server, "legacy", limits=replace(LIMITS, watch=2.0, read_timeout=1.0, write_timeout=1.5))
    cluster.create(entry("legacy"))
    cluster.read(frozenset())
    for number in range(3):
        server.create(entry("legacy", f"10.1.3.{number}").manifest())
    server.restart()
    mirror = Mirror()
    cluster.watch(Event(), mirror.take)  # too old for the new server: returns, and nothing is gone
    assert [held for _, held in mirror.all if held is None] == []
    assert len(cluster.read(frozenset())) == 4

    server.pause()
    began = time.monotonic()
    error = error_of(lambda: cluster.watch(Event(), mirror.take))
    assert error.fault is Fault.CLUSTER
    assert time.monotonic() - began < 12
    assert fault_of(lambda: cluster.create(entry("legacy", "10.1.4.1"))) is Fault.CLUSTER
    server.resume()
    wait_until(lambda: is_read(cluster), "the server answers again")

    thread = Thread(target=error_of, args=(lambda: cluster.watch(Event(), mirror.take),))
    thread.start()
    server.kill()
    thread.join(12)
    assert not thread.is_alive()
    assert "cannot connect: Connection refused" in str(error_of(lambda: cluster.read(frozenset())))
    cluster.close()


def is_read(cluster: KubernetesCluster) -> bool:
    try:
        cluster.read(frozenset())
    except ClusterError:
        return False
    return True


REGISTRATION = "admissionregistration.k8s.io"
RULES = [
    {"apiGroups": ["networking.istio.io"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["*"]},
]
POLICY = {
    "metadata": {"name": "no"},
    "spec": {
        "matchConstraints": {"resourceRules": RULES},
        "validations": [{"expression": "object.spec.weight != 13", "message": "no thirteen"}],
    },
}
BINDING = {"metadata": {"name": "no"}, "spec": {"policyName": "no", "validationActions": ["Deny"]}}
WEBHOOK = {
    "metadata": {"name": "down"},
    "webhooks": [
        {
            "name": "down.example.com",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": RULES,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 2,
        }
    ],
}


def test_policies_webhooks_and_definitions_that_stand_in_the_way(make_api_server: MakeApiServer) -> None:
    server = make_api_server()
    server.create_namespace("legacy")
    server.grant("legacy")
    cluster = cluster_of(server, "legacy")

    server.request("POST", f"/apis/{REGISTRATION}/v1/validatingadmissionpolicies", POLICY)
    server.request("POST", f"/apis/{REGISTRATION}/v1/validatingadmissionpolicybindings", BINDING)
    numbers = iter(range(1, 250))
    wait_until(lambda: not creates(cluster, entry("legacy", f"10.7.7.{next(numbers)}", weight=13)), "the policy counts")
    error = error_of(lambda: cluster.create(entry("legacy", "10.1.2.9", weight=13)))
    assert error.fault is Fault.REJECTED
    assert "no thirteen" in str(error)
    cluster.create(entry("legacy"))

    server.request("POST", f"/apis/{REGISTRATION}/v1/validatingwebhookconfigurations", WEBHOOK)
    wait_until(lambda: not creates(cluster, entry("legacy", f"10.7.8.{next(numbers)}")), "the webhook counts")
    error = error_of(lambda: cluster.create(entry("legacy", "10.1.2.9")))
    assert error.fault is Fault.CLUSTER
    assert "failed calling webhook" in str(error)

    stop = Event()
    cluster.read(frozenset())
    failed: list[ClusterError] = []
    thread = Thread(target=lambda: failed.append(error_of(lambda: cluster.watch(stop, Mirror().take))))
    thread.start()
    server.request(
        "DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/workloadentries.networking.istio.io"
    )
    thread.join(20)
    assert not thread.is_alive()
    assert failed[0].fault is Fault.CLUSTER
    wait_until(lambda: not is_read(cluster), "the definition is gone")
    for call in (lambda: cluster.read(frozenset()), lambda: cluster.create(entry("legacy", "10.1.2.9"))):
        error = error_of(call)
        assert error.fault is Fault.CLUSTER
    cluster.close()


def creates(cluster: KubernetesCluster, resource: Resource) -> bool:
    try:
        cluster.create(resource)
    except ClusterError:
        return False
    return True
