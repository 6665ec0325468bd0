"""The test bed itself: real servers, which do what the tests of isthmus build upon."""

import ssl
from pathlib import Path

import httpx
import pytest

from tests.testbed.apiserver import ApiServer, MakeApiServer
from tests.testbed.build import TestbedError, binaries
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.processes import Process, ProcessError, free_port, wait_until

HOST = "orders.mesh.internal"


def service_entry(namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {
            "name": HOST,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "isthmus"},
            "annotations": {"isthmus.mesh/author": "dc1"},
        },
        "spec": {
            "hosts": [HOST],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"name": "main", "number": 80, "protocol": "HTTP"}],
            "workloadSelector": {"labels": {"isthmus.mesh/host": HOST}},
        },
    }


def workload_entry(namespace: str, weight: int = 10) -> dict[str, object]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {
            "name": "orders-10.1.2.3-8443-3f9a7c21",
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "isthmus",
                "isthmus.mesh/host": HOST,
                "isthmus.mesh/owner": "dc1",
                "service.istio.io/canonical-name": "orders",
                "service.istio.io/canonical-revision": "v3",
                "security.istio.io/tlsMode": "disabled",
            },
            "annotations": {"isthmus.mesh/source": '[["consul-dc1","orders","node-7","orders-1"]]'},
        },
        "spec": {"address": "10.1.2.3", "ports": {"main": 8443}, "locality": "eu-west/eu-west-1a", "weight": weight},
    }


# The library.


def test_missing_binaries_are_an_error_that_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_TESTBED", str(tmp_path))
    missing = "crds.yaml, etcd, consul, kube-apiserver, eureka-server.jsa"
    with pytest.raises(TestbedError, match=rf"lacks {missing}: run `make testbed`"):
        binaries()


def test_a_process_that_ends_early_says_its_last_words(tmp_path: Path) -> None:
    process = Process("failing", ("sh", "-c", "echo no such luck; exit 3"), tmp_path / "log")
    with pytest.raises(ProcessError, match=r"(?s)ended with 3:.*no such luck"):
        process.start(lambda: False)
    assert not process.is_alive()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = Process("stubborn", ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"), log)
    process.start(lambda: "up" in log.read_text())
    process.pause()
    process.stop(patience=0.3)
    assert not process.is_alive()


def test_ports_are_handed_out_once() -> None:
    assert len({free_port() for _ in range(100)}) == 100


# Consul.


def test_consul_shows_what_is_registered_flipped_and_deregistered(consul: Consul) -> None:
    consul.register(
        "orders", "orders-1", address="10.1.2.3", port=8443, tags=["v3"], meta={"zone": "a"}, weights=(5, 2)
    )
    (orders,) = consul.catalog()
    assert (orders.service, orders.id, orders.address, orders.port) == ("orders", "orders-1", "10.1.2.3", 8443)
    assert (orders.tags, dict(orders.meta), orders.weights) == (("v3",), {"zone": "a"}, (5, 2))
    assert (orders.node, orders.status) == (consul.node, "passing")
    for status in ("warning", "critical", "passing"):
        consul.set_status("orders-1", status)
        assert consul.catalog()[0].status == status
    consul.maintenance("orders-1")
    assert consul.catalog()[0].status == "critical"
    consul.maintenance("orders-1", on=False)
    assert consul.catalog()[0].status == "passing"
    consul.deregister("orders-1")
    assert consul.catalog() == []


def test_consul_keeps_instances_on_nodes_without_an_agent(consul: Consul) -> None:
    for number in range(60):
        node = f"node-{number % 20}"
        consul.register("orders", f"orders-{number}", address=f"10.1.0.{number}", port=80, node=node)
    consul.set_status("orders-3", "critical", node="node-3")
    consul.node_status("node-4", "critical")
    consul.maintenance("orders-5", node="node-5")
    consul.maintenance(node="node-6")
    consul.deregister("orders-7", node="node-7")
    consul.deregister_node("node-8")
    found = consul.catalog()
    assert len(found) == 60 - 1 - 3
    assert {one.id for one in found if one.status == "critical"} == {
        "orders-3", "orders-4", "orders-24", "orders-44", "orders-5", "orders-6", "orders-26", "orders-46",
    }  # fmt: skip
    consul.node_status("node-4", "passing")
    consul.maintenance("orders-5", node="node-5", on=False)
    consul.maintenance(node="node-6", on=False)
    assert {one.id for one in consul.catalog() if one.status != "passing"} == {"orders-3"}
    assert {one.node_address for one in consul.catalog()} == {"10.255.0.1"}


def test_a_wiped_consul_comes_back_empty_on_its_ports_with_a_lower_index(make_consul: MakeConsul) -> None:
    consul = make_consul(dev=False)
    for number in range(40):
        consul.register("orders", f"orders-{number}", node="far")
    url, before = consul.url, consul.index()
    consul.wipe()
    assert (consul.url, consul.catalog()) == (url, [])
    assert consul.index() < before


def test_a_persistent_consul_keeps_its_data_over_a_kill(make_consul: MakeConsul) -> None:
    consul = make_consul(dev=False)
    consul.register("orders", node="far")
    before = consul.index()
    consul.kill()
    with pytest.raises(httpx.ConnectError):
        consul.index()
    consul.start()
    assert [one.service for one in consul.catalog()] == ["orders"]
    assert consul.index() >= before


def test_a_paused_consul_answers_nothing_until_it_is_resumed(consul: Consul) -> None:
    consul.pause()
    with pytest.raises(httpx.TimeoutException):
        consul.client.get("/v1/status/leader", timeout=0.3)
    consul.resume()
    assert consul.client.get("/v1/status/leader").status_code == 200


def test_consul_over_tls_demands_a_client_certificate(make_consul: MakeConsul) -> None:
    consul = make_consul(tls=True)
    consul.register("orders", node="far")
    assert consul.url.startswith("https:")
    assert [one.service for one in consul.catalog()] == ["orders"]
    assert consul.ca_file
    with (
        httpx.Client(verify=ssl.create_default_context(cafile=str(consul.ca_file)), trust_env=False) as stranger,
        pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)),
    ):
        stranger.get(f"{consul.url}/v1/catalog/services")


def test_a_narrowed_consul_token_gets_200_with_less_and_the_header_that_says_so(make_consul: MakeConsul) -> None:
    consul = make_consul(acl=True)
    consul.register("orders", node="far")
    token = consul.create_token('service_prefix "" {policy = "read"} node_prefix "" {policy = "read"}')
    full = consul.response("GET", "/v1/health/service/orders", token=token)
    assert len(full.json()) == 1
    assert "X-Consul-Results-Filtered-By-ACLs" not in full.headers
    consul.set_rules(token, 'service_prefix "team-" {policy = "read"} node_prefix "" {policy = "read"}')
    narrowed = consul.response("GET", "/v1/health/service/orders", token=token)
    assert narrowed.json() == []
    assert narrowed.headers["X-Consul-Results-Filtered-By-ACLs"] == "true"


def test_consul_reads_a_watch_from_a_reloaded_configuration(consul: Consul, tmp_path: Path) -> None:
    called = tmp_path / "called"
    watch = {
        "type": "services",
        "handler_type": "script",
        "args": ["sh", "-c", f"cat > {called}.new; mv {called}.new {called}"],
    }
    consul.reload({"watches": [watch]})
    wait_until(called.exists, "the watch handler was called", 10)
    assert '"consul"' in called.read_text()


# The API server.


def test_the_api_server_takes_what_isthmus_writes_and_refuses_what_is_invalid(
    api_server: ApiServer, namespace: str
) -> None:
    api_server.create(workload_entry(namespace), token=api_server.token)
    api_server.create(service_entry(namespace), token=api_server.token)
    assert [item["metadata"]["name"] for item in api_server.objects("ServiceEntry", namespace)] == [HOST]
    invalid = {
        **service_entry(namespace),
        "metadata": {"name": "invalid", "namespace": namespace},
        "spec": {"hosts": []},
    }
    with pytest.raises(httpx.HTTPStatusError, match=r"422.*spec.hosts"):
        api_server.create(invalid)


def test_the_user_isthmus_may_do_what_was_granted_and_no_more(api_server: ApiServer, namespace: str) -> None:
    api_server.create(workload_entry(namespace), token=api_server.token)
    where = f"/apis/networking.istio.io/v1/namespaces/{namespace}/workloadentries"
    for method, path in (("PATCH", f"{where}/orders-10.1.2.3-8443-3f9a7c21"), ("DELETE", where)):
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            api_server.response(method, path, {} if method == "PATCH" else None, token=api_server.token)
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        api_server.response("GET", where.replace(namespace, "default"), token=api_server.token)
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        api_server.response("GET", where, token="unknown")
    api_server.revoke(namespace)
    api_server.grant(namespace, ["get", "list", "watch"])
    assert len(api_server.request("GET", where, token=api_server.token)["items"]) == 1


def test_the_recorder_sees_every_event_in_order_over_restarts(make_api_server: MakeApiServer) -> None:
    server = make_api_server()
    server.create_namespace("legacy")
    port = server.port
    with server.record("legacy") as recorder:
        made = server.create(workload_entry("legacy"))
        server.create(service_entry("legacy"))
        server.restart()
        assert server.port == port
        assert server.get("WorkloadEntry", "legacy", "orders-10.1.2.3-8443-3f9a7c21") == made
        server.replace(workload_entry("legacy", weight=20))
        server.kill()
        server.start()
        server.remove("WorkloadEntry", "legacy", "orders-10.1.2.3-8443-3f9a7c21")
        events = recorder.events()
    assert [(event.type, event.kind) for event in events] == [
        ("ADDED", "WorkloadEntry"),
        ("ADDED", "ServiceEntry"),
        ("MODIFIED", "WorkloadEntry"),
        ("DELETED", "WorkloadEntry"),
    ]
    assert [event.object["spec"].get("weight") for event in events] == [10, None, 20, 20]
    assert str(events[0].resource_version) == made["metadata"]["resourceVersion"]
    assert events[0].object["metadata"]["uid"] == made["metadata"]["uid"]
    with server.record("legacy", since=events[1].resource_version) as late:
        assert [(event.type, event.resource_version) for event in late.events()] == [
            (event.type, event.resource_version) for event in events[2:]
        ]


def test_a_paused_api_server_answers_nothing_until_it_is_resumed(make_api_server: MakeApiServer) -> None:
    server = make_api_server("--request-timeout=3s")
    server.pause()
    with pytest.raises(httpx.TimeoutException):
        server.client.get("/version", timeout=0.3)
    server.resume()
    server.etcd.pause()
    with pytest.raises(httpx.HTTPStatusError) as failed:
        server.create_namespace("legacy")
    assert failed.value.response.is_server_error
    server.etcd.resume()
    wait_until(server.is_ready, "the API server is ready again")
    server.create_namespace("other")


def test_calls_are_counted_one_by_one(api_server: ApiServer, namespace: str) -> None:
    before = api_server.calls()
    writes = api_server.writes()
    api_server.create(workload_entry(namespace))
    api_server.create(service_entry(namespace))
    api_server.replace(workload_entry(namespace, weight=20))
    assert api_server.calls() - before == {
        ("POST", "workloadentries"): 1,
        ("POST", "serviceentries"): 1,
        ("GET", "workloadentries"): 1,
        ("PUT", "workloadentries"): 1,
    }
    assert api_server.writes() - writes == 3


def test_two_api_servers_share_the_namespace_by_name_and_nothing_else(
    two_api_servers: tuple[ApiServer, ApiServer], namespace: str
) -> None:
    one, other = two_api_servers
    one.create(workload_entry(namespace), token=one.token)
    assert len(one.objects("WorkloadEntry", namespace)) == 1
    assert other.objects("WorkloadEntry", namespace) == []
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        other.create(workload_entry(namespace), token=one.token)


def test_a_kubeconfig_names_the_server_and_the_user(api_server: ApiServer) -> None:
    text = api_server.kubeconfig().read_text()
    assert api_server.url in text
    assert api_server.token in text
    assert api_server.token_file.read_text().strip() == api_server.token
