"""Twenty situations of real servers, prepared at once, and what an operator is told of each: the real commands."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.agents import COMMAND, RunningAgent, served_by
from tests.testbed.apiserver import ApiServer
from tests.testbed.consul import Consul
from tests.testbed.eureka import Eureka
from tests.testbed.processes import free_port, wait_until

Answer = dict[str, Any]
SERVICES = ("orders", "shared", "batch-1", "picky", "local", "last", "theirs", "foreign", "payments")
LIMITS = {"pass_spacing": "200ms", "busy_spacing": "100ms", "empty_grace": "1h", "backoff": ["200ms"]}


def rules() -> list[dict[str, Any]]:
    return [
        {
            "match": {"service": "orders"},
            "port": 9000,
            "labels": {"team": "orders"},
            "aliases": ["{service}.service.consul"],
            "identity": {"service_account": "orders", "tls": "istio"},
            "export_to": ["."],
        },
        {"match": {"service": "batch-*"}, "skip": True},
        {"match": {"service": "picky"}, "warning": "exclude"},
        {"match": {"service": "local"}, "clusters": ["review"]},
    ]


def configuration(consul: Consul, eureka: Eureka, server: ApiServer, namespace: str) -> dict[str, Any]:
    away = {**served_by(server, namespace), "server": f"https://127.0.0.1:{free_port()}"}
    return {
        "owner": "dc1",
        "state": "state.db",
        "control": "control.sock",
        "registries": {
            "consul-dc1": {"type": "consul", "url": consul.url},
            "eureka-dc1": {
                "type": "eureka",
                "urls": [eureka.url],
                "poll": "1s",
                "services": ["ORDERS", "PAYMENTS", "SHARED"],
            },
        },
        "clusters": {
            "east": served_by(server, namespace),
            "away": away,
            "review": {"directory": "review", "namespace": namespace, "policy": "paused"},
        },
        "rules": rules(),
        "limits": LIMITS,
    }


def prepare_consul(consul: Consul) -> None:
    """Register what each situation needs, every instance on a node of its own."""

    def register(service: str, n: int, **fields: Any) -> None:
        values = {"address": f"10.1.0.{n}", "port": 8080, "node": f"node-{n}", **fields}
        consul.register(service, f"{service}-{n}", **values)

    register("orders", 1, meta={"version": "v3", "zone": "a"}, weights=(10, 1))
    register("orders", 2, status="critical")
    register("orders", 3)
    consul.maintenance("orders-3", "node-3")
    register("orders", 4, weights=(1, 0), status="warning")  # Consul takes no other 0
    register("orders", 5)
    consul.node_status("node-5", "critical")
    register("orders", 6, address="127.0.0.1")
    register("orders", 7, meta={"version": "not a label!"})
    register("shared", 8)
    register("batch-1", 9)
    register("picky", 10, status="warning")
    register("local", 11)
    register("last", 13)
    register("theirs", 14)
    register("foreign", 15)


def prepare_eureka(eureka: Eureka) -> None:
    eureka.register("ORDERS", "a:orders:8080", "10.1.0.1")
    eureka.register("PAYMENTS", "a:payments", "10.2.0.1", status="DOWN")
    eureka.register("PAYMENTS", "b:payments", "10.2.0.2")
    eureka.set_status("PAYMENTS", "b:payments", "OUT_OF_SERVICE")
    eureka.register("SHARED", "a:shared", "10.1.0.8", status="DOWN")
    eureka.register("HIDDEN", "a:hidden", "10.2.0.9")


def prepare_cluster(server: ApiServer, namespace: str) -> None:
    """Write what another owner has, and what is nobody's that isthmus knows."""
    ours = {"app.kubernetes.io/managed-by": "isthmus"}
    labels = {**ours, "isthmus.mesh/host": "billing.mesh.internal", "isthmus.mesh/owner": "dc2"}
    entry = {"address": "10.3.0.1", "ports": {"main": 80}}
    server.create(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": "billing-1", "namespace": namespace, "labels": labels},
            "spec": entry,
        }
    )
    for host, metadata in (
        ("theirs.mesh.internal", {"labels": ours, "annotations": {"isthmus.mesh/author": "dc2"}}),
        ("foreign.mesh.internal", {}),
    ):
        server.create(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "ServiceEntry",
                "metadata": {"name": host, "namespace": namespace, **metadata},
                "spec": {
                    "hosts": [host],
                    "location": "MESH_INTERNAL",
                    "resolution": "STATIC",
                    "ports": [{"name": "main", "number": 80}],
                    "workloadSelector": {"labels": {"isthmus.mesh/host": host}},
                },
            }
        )


class Site:
    """An agent, and what it is asked."""

    def __init__(self, agent: RunningAgent, namespace: str) -> None:
        self.agent = agent
        self.namespace = namespace

    def run(self, verb: str, *arguments: str) -> Answer:
        """Ask by the command, as a person does, whether an agent runs or not."""
        command = (COMMAND, verb, *arguments, "-o", "json", "--config", str(self.agent.config_file))
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        answer: Answer = json.loads(done.stdout)
        return answer

    def why(self, what: str) -> Answer:
        return self.agent.ask(f"/v1/explain?{urlencode({'what': what})}")

    def history(self, host: str) -> list[Answer]:
        found: list[Answer] = self.agent.ask(f"/v1/history?{urlencode({'host': host})}")["events"]
        return found

    def host(self, what: str) -> Answer:
        (host,) = self.why(what)["hosts"]
        return dict(host)

    def endpoint(self, what: str) -> Answer:
        (endpoint,) = self.host(what)["endpoints"]
        return dict(endpoint)

    def is_settled(self) -> bool:
        try:
            report = self.agent.status()
        except OSError:  # it does not listen yet
            return False
        read = all(one["passes"] for one in report["registries"].values())
        clusters = {name: one["state"] for name, one in report["clusters"].items()}
        return (
            read
            and clusters["away"] == "unreadable"
            and clusters["east"] not in ("starting", "unreadable")
            and not any("this is under way" in json.dumps(self.why(service)) for service in SERVICES)
        )


@contextmanager
def site(consul: Consul, eureka: Eureka, server: ApiServer, namespace: str, folder: Path) -> Iterator[Site]:
    prepare_consul(consul)
    prepare_eureka(eureka)
    prepare_cluster(server, namespace)
    config = configuration(consul, eureka, server, namespace)
    with RunningAgent(folder / "agent", config) as agent:
        made = Site(agent, namespace)
        wait_until(made.is_settled, "everything is written that can be", 60)
        yield made


def row(answer: Answer, cluster: str) -> tuple[str, str]:
    return next((one["state"], one["why"]) for one in answer["clusters"] if one["cluster"] == cluster)


def sources(answer: Answer) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["value"], one["source"]) for one in answer["values"]}


def check_what_is_in_service(made: Site) -> None:
    endpoint, host = made.endpoint("10.1.0.1:8080"), made.host("orders.service.consul")
    consul = "consul-dc1/orders/node-1/orders-1"
    assert endpoint["verdict"].startswith("10.1.0.1:8080 is in service, and east has it, but in away it is unknown: ")
    assert [voice["id"] for voice in endpoint["voices"]] == ["orders-1", "a:orders:8080"]
    found = sources(endpoint)
    assert found["version"] == ("v3", consul)
    assert found["locality"] == ("dc1/a", consul)
    assert found["weight"] == ("10", consul)
    assert found["label team"] == ("orders", "rules[0].labels")
    assert found["identity"] == ("service account orders, TLS istio", "rules[0].identity")
    assert (host["host"], sources(host)["port"]) == ("orders.mesh.internal", ("9000", "rules[0].port"))
    assert sources(host)["exportTo"] == (".", "rules[0].export_to")
    assert row(endpoint, "east") == ("there", "")
    state, why = row(endpoint, "away")
    assert state == "unknown"
    assert why.startswith("cluster away cannot be read: ")
    assert row(endpoint, "review") == (
        "to be created",
        "new endpoint; cluster review is paused by its policy in the configuration",
    )


VERDICTS = {
    "10.1.0.2:8080": "is not in service: a check of it is critical, says consul-dc1 of orders/node-2/orders-2",
    "10.1.0.3:8080": "is not in service: it is in maintenance, says consul-dc1 of orders/node-3/orders-3",
    "10.1.0.4:8080": "is not in service: its weight is 0, says consul-dc1 of orders/node-4/orders-4",
    "10.1.0.5:8080": "is not in service: its node node-5 is critical, says consul-dc1 of orders/node-5/orders-5",
    "10.1.0.8:8080": "is not in service: its status is DOWN, says eureka-dc1 of SHARED/a:shared, "
    "which outweighs consul-dc1",
    "10.1.0.9:8080": "is left out on purpose: rules[1].skip leaves it out (batch-1/node-9/batch-1-9)",
    "10.1.0.10:8080": "is not in service: a check of it warns, and rules[2].warning leaves out what warns",
    "10.2.0.1:8080": "is not in service: its status is DOWN, says eureka-dc1 of PAYMENTS/a:payments",
    "10.2.0.2:8080": "is not in service: its status is OUT_OF_SERVICE, says eureka-dc1 of PAYMENTS/b:payments",
}


def check_what_is_not_in_service(made: Site) -> None:
    for endpoint, words in VERDICTS.items():
        assert made.endpoint(endpoint)["verdict"].startswith(f"{endpoint} {words}"), endpoint
    payments = made.host("payments")["verdict"]
    assert payments.startswith("payments.mesh.internal has no endpoint in service, so callers get 503: 10.2.0.1:8080: ")
    by_id = {one["voices"][0]["id"]: one for one in made.host("orders")["endpoints"] if one["voices"]}
    rejected, ignored = by_id["orders-6"], by_id["orders-7"]
    assert "is not in service: it was rejected: " in rejected["verdict"]
    assert "127.0.0.1" in rejected["verdict"]
    assert ignored["state"] == "in service"
    assert any("not a label!" in note for note in ignored["voices"][0]["notes"]), ignored["voices"]


def check_what_is_elsewhere(made: Site) -> None:
    assert row(made.endpoint("10.1.0.11:8080"), "east") == ("left out", "rules[3].clusters sends it to review")
    theirs, foreign = made.host("theirs"), made.host("foreign")
    assert row(theirs, "east")[0] == "adopted"
    assert row(theirs, "east")[1].startswith("its author is dc2, who alone changes it")
    assert row(foreign, "east")[0] == "failed"
    assert "not isthmus'" in row(foreign, "east")[1]
    assert row(made.endpoint("10.1.0.15:8080"), "east") == ("there", "")
    billing = made.endpoint("10.3.0.1:80")
    assert billing["verdict"] == (
        "No registry lists 10.3.0.1:80 of billing.mesh.internal, but east still holds it "
        "(another owner's: owner dc2 wrote it, and only that one changes it)."
    )


def check_what_is_unknown(made: Site) -> None:
    hidden, nobody = made.why("hidden"), made.why("odrers")
    assert hidden["found"] is False
    said = {one["registry"]: one["verdict"] for one in hidden["registries"]}
    assert said["eureka-dc1"] == (
        "hidden is out of scope: eureka-dc1 is read for services ORDERS, PAYMENTS, SHARED alone."
    )
    assert said["consul-dc1"].startswith("consul-dc1 lists nothing of it")
    assert nobody["verdict"].lower().endswith("and no cluster is known to hold it; perhaps orders is meant.")


def test_twenty_situations_of_real_registries_are_explained(
    consul: Consul, eureka: Eureka, api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    with site(consul, eureka, api_server, namespace, tmp_path) as made:
        check_what_is_in_service(made)
        check_what_is_not_in_service(made)
        check_what_is_elsewhere(made)
        check_what_is_unknown(made)

        consul.deregister("last-13", "node-13")
        wait_until(lambda: made.endpoint("10.1.0.13:8080")["state"] == "kept", "it waits", 20)
        grace = made.endpoint("10.1.0.13:8080")["verdict"]
        assert grace.startswith(
            "10.1.0.13:8080 is kept in service, as consul-dc1 no longer lists it; its removal waits for the end of its "
        )
        assert "It is the last of its host, and goes in 59 min" in grace or "goes in 1 h" in grace

        consul.register("orders", "orders-1", address="10.1.0.1", port=8080, node="node-1", status="critical")
        wait_until(lambda: made.endpoint("10.1.0.1:8080")["state"] == "absent", "it is critical", 20)
        wait_until(lambda: row(made.endpoint("10.1.0.1:8080"), "east")[0] == "not there", "it is gone", 20)
        wait_until(lambda: made.history("orders.mesh.internal")[0]["action"] == "deleted", "it is stored")
        (last,) = made.run("history", "orders.mesh.internal", "--most", "1")["events"]
        assert (last["cluster"], last["kind"], last["registry"]) == ("east", "WorkloadEntry", "consul-dc1")
        assert last["why"] == "no longer desired: consul-dc1/orders/node-1/orders-1: a check of it is critical"
        assert 0 <= last["lag_seconds"] < 60

        consul.kill()
        wait_until(lambda: made.agent.status()["registries"]["consul-dc1"]["state"] == "unreadable", "no Consul", 30)
        unreadable = made.endpoint("10.1.0.7:8080")
        assert unreadable["verdict"].startswith(
            "10.1.0.7:8080 is in service by the last word of consul-dc1: it cannot be read for "
        )
        assert row(unreadable, "east") == ("there", "")
        assert made.run("explain", "orders")["hosts"][0]["host"] == "orders.mesh.internal"

        made.agent.kill()
        alone = made.run("explain", "10.1.0.7:8080")
        assert alone["running"] is False
        (endpoint,) = alone["hosts"][0]["endpoints"]
        assert endpoint["verdict"].startswith(
            "10.1.0.7:8080 is in service by the last word of consul-dc1: no agent runs, and east has it"
        )
        assert made.run("history", "orders.mesh.internal")["events"][0] == last


@pytest.mark.parametrize("verb", ["explain", "history"])
def test_the_commands_are_listed_with_what_they_do(verb: str) -> None:
    done = subprocess.run((COMMAND, "--help"), capture_output=True, text=True, timeout=60, check=True)
    assert any(line.split()[:1] == [verb] for line in done.stdout.splitlines())
