"""A cluster on a loopback server, and the objects that such a server shows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from agent.clusters.kubernetes import KubernetesCluster
from agent.clusters.settings import KubernetesSettings
from state.errors import ClusterError
from state.limits import Limits
from state.model import MANAGED_BY, PRODUCT, WORKLOAD_ENTRY, Resource, ResourceKey
from tests.unit.loopback import Answer, Request, Serve, Server, Stream, as_json

LIMITS = Limits(connect_timeout=1.0, read_timeout=0.4, write_timeout=0.6, watch=0.1, retry=(0.01, 0.01))
KEY = ResourceKey(WORKLOAD_ENTRY, "legacy", "orders-1")
OURS = {MANAGED_BY: PRODUCT}
SPEC: dict[str, object] = {"address": "10.1.2.3", "ports": {"main": 8443}}
RESOURCE = Resource(key=KEY, labels=OURS, annotations={}, spec=SPEC)
EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
SECRET = "s3cr3t-t0ken"


def shown(version: int, generation: int = 1, uid: str = "u1", **fields: Any) -> dict[str, Any]:
    metadata = {"name": KEY.name, "namespace": KEY.namespace, "uid": uid, "labels": OURS}
    return {"metadata": {**metadata, "resourceVersion": str(version), "generation": generation}, **fields}


def listing(*items: dict[str, Any], version: int = 10, more: str = "") -> Answer:
    return as_json({"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)})


def event(what: str, object_: object) -> dict[str, object]:
    return {"type": what, "object": object_}


def stay_open(_: Stream) -> None:
    """Say nothing more, for longer than any test lasts."""
    Event().wait(20)


class Scene:
    """A server, a token file and the cluster that uses both."""

    def __init__(self, folder: Path, serve: Serve, limits: Limits = LIMITS) -> None:
        self.token_file = folder / "token"
        self.token_file.write_text(SECRET + "\n")
        self.server = Server(serve)
        self.settings = KubernetesSettings(
            name="east", namespace="legacy", server=self.server.url + "/", token_file=self.token_file
        )
        self.cluster = KubernetesCluster(self.settings, limits)

    @property
    def requests(self) -> list[Request]:
        return self.server.requests


@contextmanager
def scene(folder: Path, serve: Serve, limits: Limits = LIMITS) -> Iterator[Scene]:
    made = Scene(folder, serve, limits)
    with made.server:
        yield made
        made.cluster.close()


def error_of(call: Callable[[], object]) -> ClusterError:
    with pytest.raises(ClusterError) as raised:
        call()
    assert SECRET not in str(raised.value)
    return raised.value
