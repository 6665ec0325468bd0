import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest
import yaml

from agent.clusters.directory import DirectoryCluster
from agent.clusters.documents import DocumentsError, parse
from agent.clusters.settings import DirectorySettings
from agent.naming import host_label, workload_entry_name
from agent.plan import Action, Change, plan
from state.errors import ClusterError, Fault
from state.limits import Limits
from state.model import (
    AUTHOR,
    HOST_LABEL,
    MANAGED_BY,
    OWNER_LABEL,
    PRODUCT,
    SERVICE_ENTRY,
    SOURCE,
    WORKLOAD_ENTRY,
    Held,
    Resource,
    ResourceKey,
    digest_of,
)

HOST = "orders.mesh.internal"
LIMITS = Limits(rescan=0.02, relist=30.0)


def service_entry(host: str = HOST, namespace: str = "legacy", number: int = 80) -> Resource:
    return Resource(
        key=ResourceKey(SERVICE_ENTRY, namespace, host),
        labels={MANAGED_BY: PRODUCT},
        annotations={AUTHOR: "dc1"},
        spec={
            "hosts": [host],
            "ports": [{"name": "main", "number": number, "protocol": "HTTP"}],
            "workloadSelector": {"labels": {HOST_LABEL: host_label(host)}},
        },
    )


def workload_entry(
    address: str = "10.1.2.3", host: str = HOST, namespace: str = "legacy", version: str = "v3", weight: int = 1
) -> Resource:
    return Resource(
        key=ResourceKey(WORKLOAD_ENTRY, namespace, workload_entry_name(host, address, 8443)),
        labels={
            MANAGED_BY: PRODUCT,
            HOST_LABEL: host_label(host),
            OWNER_LABEL: "dc1",
            "service.istio.io/canonical-revision": version,
        },
        annotations={SOURCE: '[["consul-dc1","orders","node-7","orders-1"]]'},
        spec={"address": address, "ports": {"main": 8443}, "locality": "eu-west/eu-west-1a", "weight": weight},
    )


@pytest.fixture
def cluster(tmp_path: Path) -> DirectoryCluster:
    return DirectoryCluster(DirectorySettings(name="review", namespace="legacy", directory=tmp_path / "out"), LIMITS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "legacy" / f"{HOST}.yaml"


def again(cluster: DirectoryCluster, tmp_path: Path) -> DirectoryCluster:
    """Return another agent on the same directory, which knows nothing yet."""
    settings = DirectorySettings(name=cluster.name, namespace="legacy", directory=tmp_path / "out")
    return DirectoryCluster(settings, LIMITS)


def fault_of(call: Callable[[], object]) -> Fault:
    with pytest.raises(ClusterError) as raised:
        call()
    return raised.value.fault


def creations(*resources: Resource) -> list[Change]:
    return [Change(Action.CREATE, resource.key, resource, None, "new") for resource in resources]


def test_a_host_is_one_file_with_its_service_entry_first(cluster: DirectoryCluster, path: Path) -> None:
    cluster.write(creations(workload_entry("10.1.2.4"), workload_entry("10.1.2.3"), service_entry()))

    documents = list(yaml.safe_load_all(path.read_text()))
    assert [document["kind"] for document in documents] == [SERVICE_ENTRY, WORKLOAD_ENTRY, WORKLOAD_ENTRY]
    assert documents[0]["spec"] == service_entry().spec
    assert documents[1]["metadata"]["labels"] == workload_entry().labels
    assert documents[1]["spec"] == workload_entry().spec


def test_the_bytes_do_not_depend_on_the_order_of_writes(cluster: DirectoryCluster, path: Path) -> None:
    resources = [service_entry(), workload_entry("10.1.2.3"), workload_entry("10.1.2.4")]
    cluster.write(creations(*resources))
    first = path.read_bytes()
    path.unlink()
    for resource in reversed(resources):
        cluster.create(resource)
    assert path.read_bytes() == first


def test_many_changes_of_a_host_are_one_rename(cluster: DirectoryCluster, path: Path) -> None:
    cluster.create(service_entry())
    seen = {path.stat().st_ino}

    held = [one for one in cluster.write(creations(workload_entry("10.1.2.3"), workload_entry("10.1.2.4"))) if one]
    seen.add(path.stat().st_ino)
    assert len(seen) == 2

    update = replace(workload_entry("10.1.2.3"), spec={"address": "10.1.2.3"})
    assert isinstance(held[0], Held)
    assert isinstance(held[1], Held)
    outcomes = cluster.write(
        [
            Change(Action.CREATE, workload_entry("10.1.2.5").key, workload_entry("10.1.2.5"), None, ""),
            Change(Action.UPDATE, update.key, update, held[0], ""),
            Change(Action.DELETE, held[1].key, None, held[1], ""),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [Held, Held, type(None)]
    assert len(list(yaml.safe_load_all(path.read_text()))) == 3
    assert list(path.parent.iterdir()) == [path]


def test_a_change_that_fails_does_not_keep_the_others_back(cluster: DirectoryCluster) -> None:
    cluster.create(service_entry())
    outcomes = cluster.write(creations(service_entry(), workload_entry()))
    assert isinstance(outcomes[0], ClusterError)
    assert outcomes[0].fault is Fault.EXISTS
    assert isinstance(outcomes[1], Held)


def test_what_was_written_is_read_again_and_nothing_is_left_to_do(cluster: DirectoryCluster, tmp_path: Path) -> None:
    resources = [service_entry(), workload_entry(), workload_entry("10.9.9.9", host="cart.mesh.internal")]
    cluster.write(creations(*resources))

    held = again(cluster, tmp_path).read(frozenset())
    assert set(held) == {resource.key for resource in resources}
    assert held[resources[1].key].spec_digest == digest_of(resources[1].spec)
    assert held[resources[1].key].owner == "dc1"
    assert held[resources[1].key].own_labels == ()
    assert held[resources[1].key].endpoint == ("10.1.2.3", 8443)
    assert held[resources[0].key].endpoint is None
    assert plan(resources, held.values(), "dc1") == ()
    assert cluster.read(frozenset())[resources[1].key].own_labels == tuple(resources[1].labels)


def test_values_that_look_like_numbers_stay_text_for_every_reader(cluster: DirectoryCluster, path: Path) -> None:
    tricky = ["12e4567", "1e3", "0x1F", "y", "no", "null", "3", "1.5", "v1.2", "a"]
    for number, version in enumerate(tricky):
        cluster.create(workload_entry(f"10.0.0.{number + 1}", version=version))

    documents = list(yaml.safe_load_all(path.read_text()))
    revisions = {document["metadata"]["labels"]["service.istio.io/canonical-revision"] for document in documents}
    assert revisions == set(tricky)
    text = path.read_text()
    assert "canonical-revision: '12e4567'" in text
    assert "canonical-revision: 'y'" in text
    assert "canonical-revision: v1.2" in text


def test_a_long_host_is_cut_in_the_name_of_its_file(cluster: DirectoryCluster, tmp_path: Path) -> None:
    host = ".".join(["a" * 50, "b" * 50, "mesh", "internal"])
    made = cluster.create(service_entry(host))
    cluster.create(workload_entry(host=host))

    (file,) = (tmp_path / "out" / "legacy").iterdir()
    assert file.name == f"{host_label(host)}.yaml"
    cluster.delete(made)
    assert len(list(yaml.safe_load_all(file.read_text()))) == 1


def test_a_file_goes_with_its_last_object_and_the_folder_stays(cluster: DirectoryCluster, path: Path) -> None:
    held = cluster.create(service_entry())
    cluster.delete(held)
    assert not path.exists()
    assert path.parent.is_dir()
    cluster.delete(held)  # gone already


def test_namespaces_are_folders_made_as_needed(cluster: DirectoryCluster, tmp_path: Path) -> None:
    cluster.create(workload_entry(namespace="shop"))
    assert (tmp_path / "out" / "shop" / f"{HOST}.yaml").is_file()
    other = again(cluster, tmp_path)
    assert other.read(frozenset()) == {}
    assert len(other.read(frozenset({"shop"}))) == 1
    assert len(other.read(frozenset())) == 1  # named once, read until the end


@pytest.mark.parametrize("namespace", ["..", "a/b", ".hidden", ""])
def test_no_name_leads_out_of_the_directory(cluster: DirectoryCluster, tmp_path: Path, namespace: str) -> None:
    assert fault_of(lambda: cluster.create(workload_entry(namespace=namespace))) is Fault.REJECTED
    assert not (tmp_path / "out").exists()


FOREIGN = """\
# kept by hand
apiVersion: networking.istio.io/v1
kind: DestinationRule   # as it is
metadata: {name: orders}
"""


def test_foreign_documents_in_our_file_keep_their_text(cluster: DirectoryCluster, path: Path) -> None:
    held = cluster.create(service_entry())
    path.write_text(path.read_text() + "---\n" + FOREIGN + "---\n# a remark alone\n")

    cluster.create(workload_entry())
    assert path.read_text().endswith("---\n" + FOREIGN + "---\n# a remark alone\n")
    assert len(cluster.read(frozenset())) == 2

    cluster.delete(cluster.read(frozenset())[workload_entry().key])
    cluster.delete(cluster.read(frozenset())[held.key])
    assert path.read_text() == FOREIGN + "---\n# a remark alone\n"


def test_foreign_labels_annotations_and_fields_outlive_an_update(cluster: DirectoryCluster, path: Path) -> None:
    cluster.create(workload_entry())
    document = yaml.safe_load(path.read_text())
    document["metadata"]["labels"]["team"] = "orders"
    document["metadata"]["annotations"]["note"] = "by hand"
    document["metadata"]["finalizers"] = ["example.com/keep"]
    document["status"] = {"seen": True}
    document["spec"]["serviceAccount"] = "stranger"
    path.write_text(yaml.safe_dump(document))

    held = cluster.read(frozenset())[workload_entry().key]
    assert held.spec_digest != digest_of(workload_entry().spec)
    after = cluster.update(workload_entry(version="v4"), held)

    document = yaml.safe_load(path.read_text())
    assert document["metadata"]["labels"] == {**workload_entry(version="v4").labels, "team": "orders"}
    assert document["metadata"]["annotations"]["note"] == "by hand"
    assert document["metadata"]["finalizers"] == ["example.com/keep"]
    assert document["status"] == {"seen": True}
    assert document["spec"] == workload_entry().spec
    assert after.spec_digest == digest_of(workload_entry().spec)


def test_a_label_that_is_ours_no_longer_goes(cluster: DirectoryCluster, path: Path) -> None:
    held = cluster.create(workload_entry())
    labels = {key: value for key, value in workload_entry().labels.items() if "revision" not in key}
    cluster.update(replace(workload_entry(), labels=labels), held)
    assert yaml.safe_load(path.read_text())["metadata"]["labels"] == labels


def test_our_label_that_is_no_text_is_missing_and_written_again(cluster: DirectoryCluster, path: Path) -> None:
    cluster.create(workload_entry(version="3"))
    path.write_text(path.read_text().replace("'3'", "3"))
    held = cluster.read(frozenset())
    (change,) = plan([workload_entry(version="3")], held.values(), "dc1")
    cluster.write([change])
    assert "canonical-revision: '3'" in path.read_text()


def test_a_file_that_somebody_changed_is_a_conflict(cluster: DirectoryCluster, path: Path) -> None:
    held = cluster.create(workload_entry())
    other = cluster.create(workload_entry("10.1.2.4"))
    path.write_text(path.read_text().replace("address: '10.1.2.3'", "address: '10.6.6.6'"))

    assert fault_of(lambda: cluster.update(workload_entry(), held)) is Fault.CONFLICT
    assert fault_of(lambda: cluster.delete(held)) is Fault.CONFLICT
    cluster.update(workload_entry("10.1.2.4", version="v4"), other)  # which nobody touched
    now = cluster.look(held.key)
    assert now is not None
    cluster.update(workload_entry(), now)
    assert "10.6.6.6" not in path.read_text()


def test_an_update_of_what_is_gone_says_so(cluster: DirectoryCluster, path: Path) -> None:
    held = cluster.create(workload_entry())
    path.unlink()
    assert fault_of(lambda: cluster.update(workload_entry(), held)) is Fault.MISSING
    assert cluster.look(held.key) is None


def test_a_taken_name_is_found_whoever_has_it(cluster: DirectoryCluster, path: Path) -> None:
    path.parent.mkdir(parents=True)
    name = workload_entry().key.name
    path.write_text(
        f"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\nspec: {{}}\n"
    )

    assert fault_of(lambda: cluster.create(workload_entry())) is Fault.EXISTS
    held = cluster.look(workload_entry().key)
    assert held is not None
    assert held.labels == {}
    assert cluster.read(frozenset()) == {}


BROKEN = "apiVersion: networking.istio.io/v1\nkind: [\n"


def test_a_file_that_cannot_be_parsed_stops_its_own_host_only(
    cluster: DirectoryCluster, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = cluster.create(workload_entry())
    cluster.create(service_entry("cart.mesh.internal"))
    path.write_text(BROKEN)

    assert len(cluster.read(frozenset())) == 2  # as it was known: not empty
    assert len(again(cluster, tmp_path).read(frozenset())) == 1
    assert f"{HOST}.yaml cannot be used: line 3" in caplog.text
    for call in (
        lambda: cluster.create(service_entry()),
        lambda: cluster.update(workload_entry(), held),
        lambda: cluster.delete(held),
        lambda: cluster.look(held.key),
    ):
        assert fault_of(call) is Fault.OBJECT
    assert path.read_text() == BROKEN
    cluster.create(workload_entry(host="cart.mesh.internal"))

    path.unlink()
    cluster.create(workload_entry())
    assert len(cluster.read(frozenset())) == 3


@pytest.mark.parametrize(
    "text",
    [
        BROKEN,
        "a: [1, 2",
        "\x00",
        "&a [*a]\n---\n\tx",
        "kind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {name: x}\nspec: {1: a, b: c}\n",
        "kind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {name: x}\nspec: !!set {a}\n",
        "kind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {name: x}\nspec: &s {a: *s}\n",
        2 * "kind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {name: x}\n---\n",
        "[" * 50_000,
    ],
)
def test_what_is_no_yaml_of_objects_is_never_read_as_empty(text: str) -> None:
    with pytest.raises(DocumentsError):
        parse(text, "legacy")


def test_foreign_documents_of_any_shape_are_kept() -> None:
    text = "- list\n---\ntext\n---\nkind: ServiceEntry\n---\nwhen: 2024-01-01\n---\n--- # remark\nmetadata: 3\n---\n"
    assert len(parse(text, "legacy")) == 5


def test_foreign_files_are_left_alone(cluster: DirectoryCluster, path: Path) -> None:
    cluster.create(workload_entry())
    copy = path.with_name("backup-of-orders.yaml")
    copy.write_bytes(path.read_bytes())
    path.with_name("broken.yaml").write_text(BROKEN)
    path.with_name("notes.txt").write_text("x")
    path.with_name("link.yaml").symlink_to("/nowhere")
    path.with_name("folder.yaml").mkdir()

    (held,) = cluster.read(frozenset()).values()
    cluster.delete(held)
    left = {entry.name for entry in path.parent.iterdir()}
    assert left == {"backup-of-orders.yaml", "broken.yaml", "notes.txt", "link.yaml", "folder.yaml"}
    assert cluster.read(frozenset()) == {}


def test_a_link_in_the_place_of_a_hosts_file_is_not_written_over(
    cluster: DirectoryCluster, path: Path, tmp_path: Path
) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere.yaml")
    assert fault_of(lambda: cluster.create(workload_entry())) is Fault.OBJECT
    assert path.is_symlink()


def test_a_killed_agents_half_written_file_is_removed_after_a_while(cluster: DirectoryCluster, path: Path) -> None:
    path.parent.mkdir(parents=True)
    old, new = path.with_name(".isthmus-1-x.new"), path.with_name(".isthmus-2-x.new")
    old.write_text("half")
    new.write_text("half")
    os.utime(old, (1, 1))
    cluster.read(frozenset())
    assert not old.exists()
    assert new.exists()


def test_a_files_permissions_stay(cluster: DirectoryCluster, path: Path) -> None:
    cluster.create(workload_entry())
    path.chmod(0o640)
    cluster.create(service_entry())
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_directory_that_cannot_be_used_is_the_clusters_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = DirectorySettings(name="review", namespace="legacy", directory=tmp_path / "file")
    cluster = DirectoryCluster(settings, LIMITS)
    for call in (lambda: cluster.read(frozenset()), lambda: cluster.create(workload_entry())):
        with pytest.raises(ClusterError, match=r"cluster review: .*file.*: Not a directory") as raised:
            call()
        assert raised.value.fault is Fault.CLUSTER


def test_a_file_that_cannot_be_written_fails_its_changes_and_is_left_as_it_is(
    cluster: DirectoryCluster, path: Path
) -> None:
    held = cluster.create(service_entry())
    before = path.read_bytes()
    obstacle = path.with_name(f".isthmus-{os.getpid()}-{HOST}.new")
    obstacle.mkdir()

    outcomes = cluster.write([*creations(service_entry(), workload_entry())])
    assert [one.fault for one in outcomes if isinstance(one, ClusterError)] == [Fault.EXISTS, Fault.CLUSTER]
    assert fault_of(lambda: cluster.delete(replace(held, resource_version="another"))) is Fault.CONFLICT
    assert path.read_bytes() == before
    assert set(cluster.read(frozenset())) == {held.key}
    obstacle.rmdir()
    cluster.create(workload_entry())


def test_eight_threads_write_one_file_without_losing_anything(cluster: DirectoryCluster, path: Path) -> None:
    resources = [workload_entry(f"10.0.{number}.1") for number in range(80)]
    threads = [
        Thread(target=lambda part=part: [cluster.create(one) for one in part])
        for part in (resources[n::8] for n in range(8))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(cluster.read(frozenset())) == {resource.key for resource in resources}
    assert len(list(yaml.safe_load_all(path.read_text()))) == 80


@contextmanager
def watching(cluster: DirectoryCluster) -> Iterator[Callable[[ResourceKey], Held | None]]:
    """Watch in a thread; yield what waits for the next delivery of a key."""
    stop = Event()
    delivered: dict[ResourceKey, Held | None] = {}
    changed = threading.Condition()

    def deliver(key: ResourceKey, held: Held | None) -> None:
        with changed:
            delivered[key] = held
            changed.notify_all()

    def wait(key: ResourceKey) -> Held | None:
        with changed:
            assert changed.wait_for(lambda: key in delivered, 10)
            return delivered.pop(key)

    thread = Thread(target=cluster.watch, args=(stop, deliver))
    thread.start()
    try:
        yield wait
    finally:
        stop.set()
        thread.join(1.0)
        assert not thread.is_alive()


def test_a_watch_delivers_what_others_change(cluster: DirectoryCluster, path: Path) -> None:
    one, two = workload_entry(), workload_entry("10.1.2.4")
    cluster.write(creations(one, two))
    cluster.read(frozenset())
    with watching(cluster) as wait:
        path.write_text(path.read_text().replace("address: '10.1.2.3'", "address: '10.6.6.6'"))
        changed = wait(one.key)
        assert changed is not None
        assert changed.spec_digest != digest_of(one.spec)
        assert changed.own_labels == tuple(one.labels)
        path.unlink()
        assert wait(one.key) is None
        assert wait(two.key) is None


def test_a_change_that_another_call_came_upon_is_delivered_all_the_same(cluster: DirectoryCluster, path: Path) -> None:
    one, two = workload_entry(), workload_entry("10.1.2.4")
    cluster.write(creations(one, two))
    cluster.read(frozenset())
    path.write_text(path.read_text().replace("address: '10.1.2.3'", "address: '10.6.6.6'"))
    held = cluster.look(two.key)
    assert held is not None
    cluster.update(workload_entry("10.1.2.4", version="v4"), held)
    with watching(cluster) as wait:
        changed = wait(one.key)
        assert changed is not None
        assert changed.spec_digest != digest_of(one.spec)
        after = wait(two.key)
        assert after is not None
        assert after.labels["service.istio.io/canonical-revision"] == "v4"


def ignore(key: ResourceKey, held: Held | None) -> None:
    """Take a delivery that no test looks at."""


def test_a_watch_ends_when_a_read_is_due_and_when_the_cluster_is_closed(tmp_path: Path) -> None:
    settings = DirectorySettings(name="review", namespace="legacy", directory=tmp_path)
    DirectoryCluster(settings, Limits(relist=0.05)).watch(Event(), ignore)

    cluster = DirectoryCluster(settings, Limits())
    thread = Thread(target=cluster.watch, args=(Event(), ignore))
    thread.start()
    cluster.close()
    thread.join(2.0)
    assert not thread.is_alive()
