"""What others do to the objects in a cluster: what is theirs stays, what is ours is put back."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.agents import RunningAgent, configuration, served_by
from tests.integration.oracle import Oracle, Picture, difference, written
from tests.testbed.apiserver import PLURALS, ApiServer
from tests.testbed.consul import Consul
from tests.testbed.processes import wait_until

FIGHT = 5.0
LIMITS = {
    "empty_grace": "300ms",
    "busy_spacing": "100ms",
    "pass_spacing": "200ms",
    "fight": f"{FIGHT}s",
    "rejected_probe": "1s",
}
MANAGED_BY = "app.kubernetes.io/managed-by"
OWNER = "isthmus.mesh/owner"
AUTHOR = "isthmus.mesh/author"
HOST = ("ServiceEntry", "svc-0.mesh.internal")

Key = tuple[str, str]
Object = dict[str, Any]


class Ground:
    """A cluster in which an agent is at work among others."""

    def __init__(self, server: ApiServer, namespace: str, consul: Consul, folder: Path) -> None:
        self.server = server
        self.namespace = namespace
        self.consul = consul
        self.agent = RunningAgent(folder, configuration(consul, {"east": served_by(server, namespace)}, limits=LIMITS))
        for number in range(16):
            self.register(number)

    def register(self, number: int, weight: int = 10) -> None:
        """Register instance 0 to 15 of four services, or change its weight."""
        service, node, address = f"svc-{number % 4}", f"node-{number}", f"10.1.{number}.1"
        self.consul.register(service, f"i-{number}", address=address, port=8080, node=node, weights=(weight, 1))

    def wanted(self) -> Picture:
        """Ask the oracle."""
        return Oracle().picture(self.consul.catalog(), "east")

    def endpoint(self, number: int) -> Key:
        """Find the WorkloadEntry of an instance."""
        return next(k for k, one in self.wanted().items() if one["spec"].get("address") == f"10.1.{number}.1")

    def get(self, key: Key) -> Object:
        """Read one object."""
        return self.server.get(key[0], self.namespace, key[1])

    def tamper(self, key: Key, change: Callable[[Object], None]) -> Object:
        """Change an object as somebody else would, and return what it was."""
        before = self.get(key)
        after = self.get(key)
        change(after)
        self.server.replace(after)
        return before

    def manifest(self, key: Key, labels: dict[str, str], annotations: dict[str, str] | None = None) -> Object:
        """Write an object of that name, with the spec of another port or address, as somebody else's."""
        spec = self.wanted()[key]["spec"]
        theirs = {"weight": 99} if key[0] == "WorkloadEntry" else {"ports": [{"name": "theirs", "number": 99}]}
        return {
            "apiVersion": "networking.istio.io/v1",
            "kind": key[0],
            "metadata": {
                "name": key[1],
                "namespace": self.namespace,
                "labels": labels,
                "annotations": annotations or {},
            },
            "spec": {**spec, **theirs},
        }

    def settle(self, *but: Key) -> None:
        """Wait until the cluster holds just what it must, whatever the objects that are named here are."""
        wanted = {key: one for key, one in self.wanted().items() if key not in but}

        def held() -> Picture:
            objects = written(found for kind in PLURALS for found in self.server.objects(kind, self.namespace))
            return {key: _without_foreign_labels(one) for key, one in objects.items() if key not in but}

        try:
            wait_until(lambda: held() == wanted, "the cluster is as the oracle says", 20)
        finally:
            assert difference(wanted, held()) == []

    def parked(self) -> dict[str, str]:
        """Ask the agent what it leaves alone, and why."""
        rows = self.agent.status_command()["clusters"]["east"]["parked"]
        return {row["object"]: row["reason"] for row in rows}

    def title(self, key: Key) -> str:
        """Name an object as the agent does."""
        return f"{key[0]} {self.namespace}/{key[1]}"


def _without_foreign_labels(one: Object) -> Object:
    return {**one, "labels": {key: value for key, value in one["labels"].items() if not key.startswith("foreign/")}}


def put(*path: str, value: object) -> Callable[[Object], None]:
    """Return what sets a field of an object, or removes it for None."""

    def change(found: Object) -> None:
        *parents, last = path
        for parent in parents:
            found = found.setdefault(parent, {})
        found[last] = value
        if value is None:
            del found[last]

    return change


@pytest.fixture
def ground(api_server: ApiServer, namespace: str, consul: Consul, tmp_path: Path) -> Ground:
    """A ground on which no agent works yet."""
    return Ground(api_server, namespace, consul, tmp_path / "agent")


@pytest.fixture
def worked(ground: Ground) -> Iterator[Ground]:
    """A ground on which an agent has done its work, and is still there."""
    with ExitStack() as stack:
        stack.enter_context(ground.agent)
        ground.settle()
        ground.agent.look_again(ground.consul)
        yield ground


def test_foreign_labels_and_annotations_stay_through_our_updates(worked: Ground) -> None:
    key = worked.endpoint(0)
    writes = worked.server.writes()
    for one in (key, HOST):
        worked.tamper(one, put("metadata", "labels", "foreign/team", value="x"))
        worked.tamper(one, put("metadata", "annotations", "foreign/note", value="y"))
    worked.agent.look_again(worked.consul)
    assert worked.server.writes() - writes == 4, "those were the test's own"
    worked.register(0, weight=33)
    for number in (0, 4, 8, 12):  # all of one host: its port changes
        worked.consul.register(
            "svc-0", f"i-{number}", address=f"10.1.{number}.1", port=8080, node=f"node-{number}", meta={"port": "8443"}
        )
    worked.settle()
    for one in (key, HOST):
        metadata = worked.get(one)["metadata"]
        assert metadata["labels"]["foreign/team"] == "x"
        assert metadata["annotations"]["foreign/note"] == "y"


def test_whatever_is_ours_is_put_back(worked: Ground) -> None:
    labels, annotations = ("metadata", "labels"), ("metadata", "annotations")
    tampering = {
        worked.endpoint(0): put("spec", "weight", value=77),
        worked.endpoint(1): put("spec", "locality", value=None),
        worked.endpoint(2): put("spec", "network", value="theirs"),
        worked.endpoint(3): put("spec", "address", value="10.99.99.99"),
        worked.endpoint(4): put(*labels, "isthmus.mesh/host", value="other.mesh.internal"),
        worked.endpoint(5): put(*labels, "isthmus.mesh/host", value=None),
        worked.endpoint(6): put(*labels, OWNER, value="dc2"),
        worked.endpoint(7): put(*labels, OWNER, value=None),
        worked.endpoint(8): put(*labels, MANAGED_BY, value="somebody"),
        worked.endpoint(9): put(*labels, MANAGED_BY, value=None),
        worked.endpoint(10): put("metadata", "labels", value={"foreign/all": "gone"}),
        worked.endpoint(11): put(*labels, "security.istio.io/tlsMode", value="istio"),
        worked.endpoint(12): put(*annotations, "isthmus.mesh/source", value="nonsense"),
        worked.endpoint(13): put("metadata", "annotations", value={}),
        HOST: put("spec", "ports", value=[{"name": "theirs", "number": 99}]),
        ("ServiceEntry", "svc-1.mesh.internal"): put(*labels, MANAGED_BY, value=None),
        ("ServiceEntry", "svc-2.mesh.internal"): put("spec", "exportTo", value=["."]),
    }
    uids = {key: worked.tamper(key, change)["metadata"]["uid"] for key, change in tampering.items()}
    worked.settle()
    assert {key: worked.get(key)["metadata"]["uid"] for key in uids} == uids, "put back, not made anew"
    assert worked.parked() == {}
    assert worked.agent.status()["clusters"]["east"]["repairs"] == len(tampering)


def test_what_was_deleted_is_made_anew(worked: Ground) -> None:
    for kind, name in (worked.endpoint(0), worked.endpoint(5), HOST):
        worked.server.remove(kind, worked.namespace, name)
    worked.settle()
    assert worked.agent.status()["clusters"]["east"]["repairs"] == 3


def test_tampering_while_nobody_watches_is_found_at_the_start(worked: Ground) -> None:
    worked.agent.kill()
    worked.tamper(worked.endpoint(0), put("spec", "weight", value=77))
    worked.tamper(worked.endpoint(1), put("metadata", "labels", MANAGED_BY, value=None))
    worked.tamper(worked.endpoint(2), put("metadata", "labels", OWNER, value="dc2"))
    worked.server.remove(*_named(worked, worked.endpoint(3)))
    worked.agent.start()
    worked.settle()


def _named(ground: Ground, key: Key) -> tuple[str, str, str]:
    return key[0], ground.namespace, key[1]


def test_the_fourth_repair_is_not_made_and_is_reported_while_the_rest_goes_on(worked: Ground) -> None:
    key = worked.endpoint(0)
    for _ in range(3):
        worked.tamper(key, put("spec", "weight", value=77))
        worked.settle()
    worked.tamper(key, put("spec", "weight", value=77))
    wait_until(lambda: worked.title(key) in worked.parked(), "it is reported", 10)
    assert "repaired 3 times" in worked.parked()[worked.title(key)]
    worked.register(1, weight=20)
    worked.register(4, weight=20)  # of the same host
    worked.settle(key)
    assert worked.get(key)["spec"]["weight"] == 77
    wait_until(lambda: worked.get(key)["spec"]["weight"] == 10, "the time of the fight is over", 3 * FIGHT)


def test_a_change_in_the_registry_ends_a_fight(worked: Ground) -> None:
    key = worked.endpoint(0)
    for _ in range(3):
        worked.tamper(key, put("spec", "weight", value=77))
        worked.settle()
    worked.tamper(key, put("spec", "weight", value=77))
    wait_until(lambda: worked.title(key) in worked.parked(), "it is reported", 10)
    worked.register(0, weight=20)
    worked.settle()


def test_what_is_not_ours_is_never_touched_and_is_reported_while_the_rest_goes_on(ground: Ground) -> None:
    theirs = (ground.endpoint(0), HOST)
    made = {key: ground.server.create(ground.manifest(key, {"foreign/by": "hand"})) for key in theirs}
    with ground.agent:
        ground.settle(*theirs)
        ground.register(4, weight=20)
        ground.settle(*theirs)
        assert ground.parked().keys() == {ground.title(key) for key in theirs}
        for key in theirs:
            assert "not isthmus'" in ground.parked()[ground.title(key)]
            assert ground.get(key) == made[key]
            ground.server.remove(*_named(ground, key))
        ground.settle()
        assert ground.parked() == {}


def test_another_owners_objects_are_never_touched(ground: Ground) -> None:
    same = ground.endpoint(0)
    other, far = ("WorkloadEntry", "elsewhere-10.7.7.7-80-00000000"), ("ServiceEntry", "elsewhere.mesh.internal")
    labels = {MANAGED_BY: "isthmus", OWNER: "dc2", "isthmus.mesh/host": HOST[1]}
    elsewhere = {**labels, "isthmus.mesh/host": far[1]}
    objects = {
        same: ground.manifest(same, labels),
        HOST: ground.manifest(HOST, {MANAGED_BY: "isthmus"}, {AUTHOR: "dc2"}),
        other: _renamed(ground.manifest(same, elsewhere), other),
        far: _renamed(ground.manifest(HOST, {MANAGED_BY: "isthmus"}, {AUTHOR: "dc2"}), far),
    }
    made = {key: ground.server.create(manifest) for key, manifest in objects.items()}
    with ground.agent:
        ground.settle(*objects)
        ground.consul.set_status("i-0", "critical", "node-0")
        ground.register(4, weight=20)
        ground.settle(*objects)
        ground.agent.look_again(ground.consul)
        assert {key: ground.get(key) for key in objects} == made
        ground.consul.set_status("i-0", "passing", "node-0")
        ground.agent.look_again(ground.consul)
        ground.server.remove(*_named(ground, same))
        ground.settle(HOST, other, far)
        assert ground.parked() == {}


def _renamed(manifest: Object, key: Key) -> Object:
    return {**manifest, "metadata": {**manifest["metadata"], "name": key[1]}}
