"""What the embedded registry knows, changed in the process and read with Consul's blocking queries."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from agent.demo.tables import NODE_CHECK, Row, Tables


class Aborted(Exception):  # noqa: N818  # nothing is wrong with the query
    """All was wiped under a blocking query."""


class Catalogue:
    """Nodes, services and checks of one datacenter, for any number of threads.

    Each change returns the monotonic time, in seconds, from which it can be read,
    and raises KeyError when its node or instance is not there.
    """

    def __init__(self, datacenter: str = "dc1") -> None:
        self.datacenter = datacenter
        self._changed = threading.Condition()
        self._tables = Tables(datacenter)

    def set_node(
        self,
        name: str,
        address: str,
        *,
        tagged_addresses: Mapping[str, str] | None = None,
        meta: Mapping[str, str] | None = None,
    ) -> float:
        """Add a node, healthy, or change it."""
        node: Row = {
            "Address": address,
            "Datacenter": self.datacenter,
            "TaggedAddresses": dict(tagged_addresses or {"lan": address, "wan": address}),
            "Meta": dict(meta or {}),
        }
        with self._write() as tables:
            tables.put_node(name, node)
        return time.monotonic()

    def register(
        self,
        service: str,
        id_: str,
        node: str,
        port: object,
        *,
        address: str = "",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        weights: tuple[int, int] = (1, 1),
        tagged_addresses: Mapping[str, tuple[str, int]] | None = None,
        kind: str = "",
        status: str | None = "",
    ) -> float:
        """Add an instance to a node, or change it.

        ``status`` is that of its check: empty keeps it as it is (passing when new),
        None makes no check. ``weights`` are those while passing and while warning.
        """
        registered: Row = {
            "Service": service,
            "Port": port,
            "Address": address,
            "Tags": list(tags),
            "Meta": dict(meta or {}),
            "Weights": {"Passing": weights[0], "Warning": weights[1]},
            "TaggedAddresses": {
                name: {"Address": there, "Port": number} for name, (there, number) in (tagged_addresses or {}).items()
            },
            "Kind": kind,
        }
        with self._write() as tables:
            tables.nodes[node]  # it must be there
            tables.put_service(node, id_, registered)
            if status or (status is not None and (node, _check(id_)) not in tables.checks):
                tables.put_check(node, _check(id_), id_, status or "passing")
        return time.monotonic()

    def deregister(self, node: str, id_: str = "") -> float:
        """Remove an instance, or a node with everything on it."""
        with self._write() as tables:
            if id_:
                tables.remove_service(node, id_)
            else:
                tables.remove_node(node)
        return time.monotonic()

    def set_status(self, node: str, id_: str, status: str, output: str = "") -> float:
        """Change the status of an instance's check, which is made if there is none."""
        with self._write() as tables:
            tables.put_check(node, _check(id_), id_, status, output)
        return time.monotonic()

    def node_status(self, node: str, status: str) -> float:
        """Change the status of a node: ``critical`` while its agent does not answer."""
        with self._write() as tables:
            tables.nodes[node]  # it must be there
            tables.put_check(node, NODE_CHECK, "", status)
        return time.monotonic()

    def maintenance(self, node: str, id_: str = "", *, on: bool = True) -> float:
        """Begin or end the maintenance of an instance, or of a whole node."""
        check = f"_service_maintenance:{id_}" if id_ else "_node_maintenance"
        with self._write() as tables:
            if on:
                tables.nodes[node]  # it must be there
                tables.put_check(node, check, id_, "critical")
            else:
                tables.remove_check(node, check)
        return time.monotonic()

    def wipe(self) -> float:
        """Lose everything, as a server does whose data were removed: indexes start low again, queries break off."""
        with self._changed:
            self._tables = Tables(self.datacenter)
            self._changed.notify_all()
        return time.monotonic()

    def read(
        self, path: str, index: int = 0, wait: float = 0.0, interrupted: Callable[[], bool] = lambda: False
    ) -> tuple[int, object]:
        """Return index and body of a path: with an index when it has moved on, after ``wait`` seconds at the latest.

        As in Consul an index that is too high is waited for as well. Raises KeyError
        for a path that is not spoken, Aborted when all was wiped meanwhile.
        """
        deadline = time.monotonic() + wait
        with self._changed:
            tables = self._tables
            view, seen = tables.view(path), tables.index
            while True:
                left = deadline - time.monotonic()
                if index <= 0 or left <= 0 or view.at > index or interrupted():
                    return view.at, tables.body(path)
                self._changed.wait(left)
                if self._tables is not tables:
                    raise Aborted
                # Consul looks again only when what it watches has moved, whatever the table's index is by then.
                if tables.view(path).moved > seen:
                    view, seen = tables.view(path), tables.index

    def wake(self) -> None:
        """Let waiting queries look whether they are interrupted."""
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def _write(self) -> Iterator[Tables]:
        with self._changed:
            self._tables.index += 1
            yield self._tables
            self._changed.notify_all()


def _check(id_: str) -> str:
    return f"service:{id_}"
