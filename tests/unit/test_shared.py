"""What is equal is kept once: counted in objects, as ten thousand instances would be too many to weigh here."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.applied import AppliedRows
from agent.clusters.watch import record_of
from agent.rules import Rules
from agent.view import View
from hooks.consul import parse
from hooks.consul.settings import ConsulSettings
from state import shared
from state.checkpoint import Applied, Checkpoint
from state.limits import Limits
from state.model import DIGEST, HOST_LABEL, WORKLOAD_ENTRY, Held, Instance, Reading, ResourceKey

SETTINGS = ConsulSettings(name="dc1", url="http://127.0.0.1:8500")
LABELS = ("app.kubernetes.io/managed-by", HOST_LABEL)


def answer(service: str) -> Any:
    """Return what Consul answers about a service with ten instances, fresh as from a socket."""
    body = [
        {
            "Node": {"Node": f"node-{n}", "Address": "10.0.0.1", "Datacenter": "dc1"},
            "Service": {
                "ID": f"{service}-{n}",
                "Service": service,
                "Address": f"10.0.0.{n + 1}",
                "Port": 8443,
                "Tags": ["public", "gold"],
                "Meta": {"version": "v1", "port": "80", "zone": "a"},
            },
            "Checks": [],
        }
        for n in range(10)
    ]
    return json.loads(json.dumps(body))


def shown(service: str, number: int) -> Any:
    """Return an object as a cluster shows it, fresh as from a socket."""
    metadata = {
        "name": f"{service}-10.0.0.{number}-8443-0123abcd",
        "namespace": "legacy",
        "uid": f"uid-of-{service}-{number}",
        "resourceVersion": f"{1000 + number}",
        "generation": 1,
        "labels": {LABELS[0]: "isthmus", HOST_LABEL: f"{service}.mesh.internal"},
        "annotations": {DIGEST: f"digest-of-{service}-{number}"},
    }
    return json.loads(json.dumps({"metadata": metadata, "spec": {"address": f"10.0.0.{number}"}}))


def different(values: Iterable[object]) -> int:
    values = list(values)  # all at once: what is gone could leave its place to another
    return len({id(value) for value in values})


def assert_kept_once(instances: list[Instance]) -> None:
    for field in ("tags", "metadata", "locality", "version", "service_port_from"):
        assert different([getattr(one, field) for one in instances]) == 1, field
    assert different([one.key.service for one in instances]) == 1


def test_what_the_instances_of_a_service_have_in_common_is_kept_once() -> None:
    assert_kept_once(list(parse.snapshot(SETTINGS, "orders", answer("orders")).instances))


def test_so_it_is_when_it_comes_back_after_a_restart(tmp_path: Path) -> None:
    snapshot = parse.snapshot(SETTINGS, "orders", answer("orders"), 7)
    for _ in ("first", "again"):
        checkpoint = Checkpoint.open(tmp_path / "state.db")
        view = View(("dc1",), Rules(), checkpoint, Limits(), "")
        view.hear(Reading(registry="dc1", snapshots=(snapshot,), heard=0.0, begun=1, complete=True))
        (service,) = checkpoint.registry("dc1", 0.0).services
        assert_kept_once(list(service.instances))
        assert {service.service} == {one.key.service for one in service.instances}
        checkpoint.close()


def test_instances_that_are_read_again_are_not_kept_twice(tmp_path: Path) -> None:
    view = View(("dc1",), Rules(), Checkpoint.copy(tmp_path / "none.db"), Limits(), "")
    kept: list[Instance] = []
    for begun in (1, 2):
        snapshot = parse.snapshot(SETTINGS, "orders", answer("orders"), 7)
        view.hear(Reading(registry="dc1", snapshots=(snapshot,), heard=0.0, begun=begun, complete=True))
        kept += view.beliefs["dc1"].services["orders"].values()
    assert (len(kept), different(kept)) == (20, 10)


def test_the_labels_of_one_host_are_kept_once() -> None:
    records = [record_of(WORKLOAD_ENTRY, shown("orders", n), LABELS) for n in range(10)]
    assert different([record.held.labels for record in records]) == 1
    assert different([record.held.own_labels for record in records]) == 1
    assert different([record.rest for record in records]) == 1
    assert record_of(WORKLOAD_ENTRY, shown("billing", 1)).held.labels[HOST_LABEL] == "billing.mesh.internal"


def row_of(held: Held) -> Applied:
    """Return what is remembered of an object, fresh as from the state file."""
    text = json.dumps([*held.key, held.annotations[DIGEST], held.uid, held.resource_version])
    kind, namespace, name, digest, uid, version = json.loads(text)
    key = ResourceKey(kind, namespace, name)
    return Applied(key=key, digest=digest, uid=uid, generation=1, resource_version=version, unneeded=2.0)


def test_what_a_cluster_took_and_what_it_holds_share_their_words() -> None:
    held = [record_of(WORKLOAD_ENTRY, shown("orders", n)).held for n in range(3)]
    given = [row_of(held[0]), row_of(held[1]), row_of(record_of(WORKLOAD_ENTRY, shown("gone", 1)).held)]
    changed = replace(held[1], uid="another", resource_version="2000", annotations={DIGEST: "other"})
    rows = AppliedRows({row.key: row for row in given}, "dc1")
    rows.meet({held[0].key: held[0], changed.key: changed, held[2].key: held[2]})
    assert list(rows.rows.values()) == given
    kept, other, gone = rows.rows.values()
    assert gone is given[2]
    assert different([kept.key, held[0].key]) == 1
    assert different([kept.digest, held[0].annotations[DIGEST]]) == 1
    assert different([kept.uid, held[0].uid]) == different([kept.resource_version, held[0].resource_version]) == 1
    assert different([other.key, changed.key]) == 1
    assert other.uid == given[1].uid


def test_what_is_written_has_the_key_by_which_it_was_written() -> None:
    key = ResourceKey(WORKLOAD_ENTRY, "legacy", shown("orders", 1)["metadata"]["name"])
    assert record_of(WORKLOAD_ENTRY, shown("orders", 1), LABELS, key).held.key is key
    assert record_of(WORKLOAD_ENTRY, shown("orders", 2), LABELS, key).held.key.name == "orders-10.0.0.2-8443-0123abcd"


def test_what_is_remembered_of_many_objects_is_kept_once(tmp_path: Path) -> None:
    checkpoint = Checkpoint.copy(tmp_path / "none.db")
    held = [record_of(WORKLOAD_ENTRY, shown("orders", n)).held for n in range(3)]
    checkpoint.apply("east", [replace(row_of(one), labels=LABELS) for one in held])
    rows = checkpoint.applied("east").values()
    assert different([row.labels for row in rows]) == 1
    assert different([row.key.namespace for row in rows]) == different([row.key.kind for row in rows]) == 1


def test_a_mapping_keeps_the_order_of_its_keys_and_is_not_the_one_that_was_given() -> None:
    given = {"b": "1", "a": "2"}
    kept = shared.mapping(given)
    assert list(kept.items()) == [("b", "1"), ("a", "2")]
    assert kept is shared.mapping({"b": "1", "a": "2"})
    assert list(shared.mapping({"a": "2", "b": "1"})) == ["a", "b"]
    given["b"] = "changed"
    assert kept["b"] == "1"


def test_only_what_was_seen_lately_is_known() -> None:
    first = shared.words(("first",))
    for number in range(shared.LATELY):
        shared.words((f"word-{number}",))
    assert shared.words(("first",)) is not first
    assert shared.words(("first",)) == first
