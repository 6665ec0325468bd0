"""The tables of the embedded registry, and the indexes that Consul would keep for them.

Which index moves on which write, and which write wakes a blocking query, was observed
on Consul 1.19. A service's own index moves with its instances, their checks and their
nodes. An index may move without a wake-up: that of the nodes when a service changes,
those of the checks when a service goes. A query for the checks of one state wakes when
that set changes and, while the set is empty, on every write of a check.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

Row = dict[str, object]
Key = tuple[str, str]  # the node, and an instance's ID or a check's

SERVICES = "/v1/catalog/services"
NODES = "/v1/catalog/nodes"
STATE = "/v1/health/state/"
SERVICE = "/v1/health/service/"

FIRST_INDEX = 10
NODE_CHECK = "serfHealth"
SERVER = "consul-server"
STATES = ("critical", "warning", "passing")
ANY = "any"


class View(NamedTuple):
    """What a path shows: its index, and the index of the last write that wakes a query waiting there."""

    at: int
    moved: int


class Tables:
    """One life of a registry's data, with Consul's own service in it. Not safe without a lock around it."""

    def __init__(self, datacenter: str) -> None:
        self.datacenter = datacenter
        self.index = FIRST_INDEX  # of the last write
        self.nodes: dict[str, Row] = {}
        self.services: dict[Key, Row] = {}
        self.checks: dict[Key, Row] = {}
        self._of_table = dict.fromkeys(("nodes", "services", "checks"), FIRST_INDEX)
        self._of_service: dict[str, int] = {}
        self._of_state: dict[str, int] = {}
        self._sizes: Counter[object] = Counter()
        self._extinct = 0
        self.put_node(SERVER, {"Address": "10.255.255.1", "Datacenter": datacenter, "TaggedAddresses": {}, "Meta": {}})
        self.put_service(SERVER, "consul", {"Service": "consul", "Port": 8300, "Address": "", "Tags": [], "Meta": {}})

    def view(self, path: str) -> View:
        """Return the indexes of a path; raises KeyError for one that is not spoken."""
        if path.startswith(SERVICE):
            return self._service_view(path.removeprefix(SERVICE).lower())
        if path.startswith(STATE):
            return View(self._of_table["checks"], self._of_state.get(path.removeprefix(STATE), 0))
        index = self._of_table[{SERVICES: "services", NODES: "nodes"}[path]]
        return View(max(index, self._of_table["services"]), index)

    def body(self, path: str) -> object:
        """Return what a path that is spoken shows."""
        if path.startswith(SERVICE):
            return list(self._entries(path.removeprefix(SERVICE)))
        if path.startswith(STATE):
            state = path.removeprefix(STATE)
            return [check for check in self.checks.values() if state in (ANY, check["Status"])]
        if path == NODES:
            return list(self.nodes.values())
        names: dict[str, set[str]] = {}
        for registered in self.services.values():
            tags = registered["Tags"]
            names.setdefault(str(registered["Service"]), set()).update(tags if isinstance(tags, list) else ())
        return {name: sorted(tags) for name, tags in sorted(names.items())}

    def put_node(self, name: str, columns: Row) -> None:
        """Write a node; a new one gets its agent's check, passing."""
        node = {"Node": name, **columns}
        known = self.nodes.get(name)
        if not _is_same(known, node):
            self.nodes[name] = _stamped(node, known, self.index)
            self._of_table["nodes"] = self.index
            self._touch(name)
        if known is None:
            self.put_check(name, NODE_CHECK, "", "passing", "Agent alive and reachable")

    def put_service(self, node: str, id_: str, columns: Row) -> None:
        """Write an instance; one of another service under this ID goes."""
        registered = {"ID": id_, **columns}
        known = self.services.get((node, id_))
        if known is not None and known["Service"] != registered["Service"]:
            self.remove_service(node, id_)
            known = None
        if not _is_same(known, registered):
            self.services[node, id_] = _stamped(registered, known, self.index)
            self._of_table["services"] = self.index
            self._touch(node, id_)
            for (_, name), check in self._checks_of(node, id_):  # a check carries the tags of its service
                self.put_check(node, name, id_, str(check["Status"]), str(check["Output"]))

    def put_check(self, node: str, name: str, id_: str, status: str, output: str = "") -> None:
        """Write a check of an instance, or of the node when ``id_`` is empty."""
        of: Row = self.services[node, id_] if id_ else {"Service": "", "Tags": []}
        check: Row = {"Node": node, "CheckID": name, "Name": name, "Status": status, "Output": output}
        check |= {"ServiceID": id_, "ServiceName": of["Service"], "ServiceTags": of["Tags"]}
        known = self.checks.get((node, name))
        if _is_same(known, check):
            return
        self._move_states(row["Status"] for row in (known, check) if row)
        self._sizes[status] += 1
        if known:
            self._sizes[known["Status"]] -= 1
        self.checks[node, name] = _stamped(check, known, self.index)
        self._touch(node, id_)

    def remove_node(self, name: str) -> None:
        """Remove a node with everything on it."""
        for node, id_ in [key for key in self.services if key[0] == name]:
            self.remove_service(node, id_)
        for node, check in [key for key in self.checks if key[0] == name]:
            self.remove_check(node, check)
        del self.nodes[name]
        self._of_table["nodes"] = self.index

    def remove_service(self, node: str, id_: str) -> None:
        """Remove an instance with its checks."""
        for key, _ in self._checks_of(node, id_):
            self.remove_check(*key)
        self._touch(node, id_)
        name = str(self.services.pop((node, id_))["Service"]).lower()
        self._of_table |= dict.fromkeys(("services", "checks"), self.index)
        if all(str(other["Service"]).lower() != name for other in self.services.values()):
            del self._of_service[name]
            self._extinct = self.index

    def remove_check(self, node: str, name: str) -> None:
        """Remove a check."""
        check = self.checks.pop((node, name))
        self._move_states((check["Status"],))
        self._sizes[check["Status"]] -= 1
        self._touch(node, str(check["ServiceID"]))

    def _entries(self, name: str) -> Iterable[Row]:
        # Consul looks a name up without case: https://github.com/hashicorp/consul/issues/5707
        for (node, id_), registered in self.services.items():
            if str(registered["Service"]).lower() == name.lower():
                checks = [check for check in self.checks.values() if check["Node"] == node]
                ours = [check for check in checks if check["ServiceID"] in ("", id_)]
                yield {"Node": self.nodes[node], "Service": registered, "Checks": ours}

    def _service_view(self, name: str) -> View:
        index = self._of_service.get(name)
        if index is None:  # the last time that any service went, or else whatever was written last
            return View(self._extinct or max(self._of_table.values()), self._extinct)
        return View(index, index)

    def _checks_of(self, node: str, id_: str) -> list[tuple[Key, Row]]:
        return [(key, row) for key, row in self.checks.items() if key[0] == node and row["ServiceID"] == id_]

    def _touch(self, node: str, id_: str = "") -> None:
        """Move the index of an instance's service, or of all services of a node."""
        keys = [(node, id_)] if id_ else [key for key in self.services if key[0] == node]
        self._of_service.update((str(self.services[key]["Service"]).lower(), self.index) for key in keys)

    def _move_states(self, changed: Iterable[object]) -> None:
        self._of_table["checks"] = self.index
        moved = {ANY, *changed, *(state for state in STATES if not self._sizes[state])}
        self._of_state.update((str(state), self.index) for state in moved)


def _stamped(row: Row, known: Mapping[str, object] | None, index: int) -> Row:
    return {**row, "CreateIndex": known["CreateIndex"] if known else index, "ModifyIndex": index}


def _is_same(known: Row | None, row: Row) -> bool:
    return known is not None and known == {**row, **{key: known[key] for key in ("CreateIndex", "ModifyIndex")}}
