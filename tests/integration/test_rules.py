"""What rules ask for, taken by a real API server; and what a real Consul's checks prove of protocols."""

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from agent.clusters.kubernetes import KubernetesCluster
from agent.clusters.settings import KubernetesSettings
from agent.plan import plan
from agent.rules import Choice, Identity
from agent.translate import translate
from hooks.consul.client import ConsulClient
from hooks.consul.settings import ConsulSettings
from state.limits import Limits
from state.model import Resource, ResourceKey
from tests.core import HOST, endpoint, host
from tests.integration.agents import COMMAND, configuration
from tests.testbed.apiserver import ApiServer
from tests.testbed.build import Binaries
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.etcd import Etcd
from tests.testbed.processes import free_port, wait_until

ADDRESS = "10.1.2.3"  # every check asks loopback, as checks do
TELL_AT_ONCE = {"check_update_interval": "0s"}  # what a check prints, else stored with a flip or after five minutes
QUICK = {"Interval": "100ms", "Timeout": "1s"}


def register(consul: Consul, service: str, port: int, *checks: Mapping[str, object]) -> None:
    made = [{"CheckID": f"{service}-{number}", **QUICK, **check} for number, check in enumerate(checks)]
    body = {"Name": service, "Address": ADDRESS, "Port": port, "Checks": made}
    consul.request("PUT", "/v1/agent/service/register", body)


def checks_of(consul: Consul, service: str) -> list[dict[str, Any]]:
    """Return the checks of a service's only instance, without its node's."""
    (entry,) = consul.request("GET", f"/v1/health/service/{service}")
    return [check for check in entry["Checks"] if check["ServiceID"]]


def have_told(consul: Consul, *services: str) -> bool:
    return all(check["Output"] for service in services for check in checks_of(consul, service))


@contextmanager
def reading(consul: Consul) -> Iterator[ConsulClient]:
    with closing(ConsulClient(ConsulSettings(name="consul-dc1", url=consul.url), Limits())) as client:
        yield client


def proven(client: ConsulClient, service: str) -> str:
    (instance,) = client.service(service).instances
    return instance.proven


@pytest.fixture
def grpc_port(testbed: Binaries, tmp_path: Path) -> Iterator[int]:
    """The port of an etcd, which speaks gRPC with its health service and HTTP on the same."""
    etcd = Etcd(testbed.etcd, tmp_path / "etcd")
    etcd.start()
    yield int(urlsplit(etcd.url).port or 0)
    etcd.close()


class Site:
    """A web server that answers as told, and can go away and come back on its port."""

    def __init__(self) -> None:
        self.status = 200
        self.port = free_port()
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        site = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(site.status)
                self.end_headers()

            do_HEAD = do_GET  # noqa: N815 (http.server's name)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Answer)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@pytest.fixture
def site() -> Iterator[Site]:
    one = Site()
    one.start()
    yield one
    one.stop()


def test_what_checks_of_a_real_consul_prove(make_consul: MakeConsul, grpc_port: int, site: Site) -> None:
    consul = make_consul(config=TELL_AT_ONCE)
    secure = make_consul(datacenter="dc2", tls=True).port  # asks every caller for a certificate
    closed = free_port()
    web, etcd = f"http://127.0.0.1:{site.port}", f"127.0.0.1:{grpc_port}"
    https = {"HTTP": f"https://127.0.0.1:{secure}/", "TLSSkipVerify": True}
    wanted: dict[str, tuple[str, int, Mapping[str, object]]] = {
        "web": ("HTTP", site.port, {"HTTP": f"{web}/health"}),
        "head": ("HTTP", site.port, {"HTTP": web, "Method": "HEAD"}),
        "rpc": ("GRPC", grpc_port, {"GRPC": etcd}),
        "secure": ("HTTPS", secure, https),
        "down": ("HTTP", closed, {"HTTP": f"http://127.0.0.1:{closed}/"}),
        "down-rpc": ("GRPC", closed, {"GRPC": f"127.0.0.1:{closed}"}),
        "admin": ("", 8080, {"HTTP": f"{web}/health"}),
        "down-admin": ("", 8080, {"HTTP": f"http://127.0.0.1:{closed}/"}),
        "other-rpc": ("", 8080, {"GRPC": etcd}),
        "tcp": ("", site.port, {"TCP": f"127.0.0.1:{site.port}"}),
    }
    for service, (_, port, check) in wanted.items():
        register(consul, service, port, check)
    register(consul, "both", grpc_port, {"GRPC": etcd}, {"HTTP": f"http://{etcd}/health"})
    register(consul, "spring", site.port, {"HTTP": f"{web}/health"}, {"GRPC": etcd})
    consul.register("ttl", "ttl", address=ADDRESS, port=site.port)
    told = partial(have_told, consul, *wanted, "both", "spring")
    wait_until(told, "every check has run and its output is stored")
    with reading(consul) as client:
        found = {service: proven(client, service) for service in (*wanted, "both", "spring", "ttl")}
    expected = {service: word for service, (word, _, _) in wanted.items()}
    assert found == {**expected, "both": "", "spring": "HTTP", "ttl": ""}
    failing = [service for service in wanted if checks_of(consul, service)[0]["Status"] == "critical"]
    assert failing == ["secure", "down", "down-rpc", "down-admin"], "what fails names its kind as well"


def test_flapping_health_and_restarts_change_nothing_that_is_proven(make_consul: MakeConsul, site: Site) -> None:
    consul = make_consul(dev=False, config=TELL_AT_ONCE)
    health = {"HTTP": f"http://127.0.0.1:{site.port}/health"}
    register(consul, "web", site.port, health)
    register(consul, "admin", 8080, health)

    def has(status: str) -> bool:
        return all(check["Status"] == status for service in ("web", "admin") for check in checks_of(consul, service))

    with reading(consul) as client:
        assert proven(client, "web") == "HTTP", "before its check has run"

        def holds() -> bool:
            return (proven(client, "web"), proven(client, "admin")) == ("HTTP", "")

        wait_until(partial(has, "passing"), "the site is healthy")
        assert holds()
        site.status = 500
        wait_until(partial(has, "critical"), "the site answers 500")
        assert holds()
        site.status = 200
        wait_until(partial(has, "passing"), "the site is healthy again")
        site.stop()
        wait_until(partial(has, "critical"), "the site is gone")
        assert holds()
        consul.restart()
        assert holds(), "while its agent starts"
        wait_until(partial(has, "critical"), "the checks have run again")
        silence(consul, "web", "admin")
        assert not have_told(consul, "web", "admin"), "checks are mute"
        assert holds()


def silence(consul: Consul, *services: str) -> None:
    """Take from the catalogue what checks have printed, as before their first run; the agent sees it a minute later."""
    for service in services:
        (check,) = checks_of(consul, service)
        mute = {key: check[key] for key in ("Node", "CheckID", "Name", "Status", "ServiceID", "Type")}
        body = {"Node": consul.node, "SkipNodeUpdate": True, "Check": mute}
        consul.request("PUT", "/v1/catalog/register", body)


def written(server: ApiServer, namespace: str, resources: list[Resource]) -> dict[ResourceKey, dict[str, Any]]:
    """Write objects as a lane does, and return what is there."""
    settings = KubernetesSettings(
        name="east", namespace=namespace, server=server.url, ca_file=server.ca_file, token_file=server.token_file
    )
    cluster = KubernetesCluster(settings, Limits(write_timeout=10.0))
    try:
        outcomes = cluster.write(plan(resources, (), "dc1"))
        assert {key for one in outcomes if isinstance(key := getattr(one, "key", None), ResourceKey)} == {
            resource.key for resource in resources
        }
    finally:
        cluster.close()
    found = {}
    for kind in ("ServiceEntry", "WorkloadEntry"):
        for one in server.objects(kind, namespace):
            found[ResourceKey(kind, namespace, one["metadata"]["name"])] = one
    return found


@pytest.mark.parametrize("export_to", [None, (".",), ("*",), ("shop", "bank"), ("*", "shop")])
def test_an_api_server_takes_all_that_rules_can_ask_for(
    api_server: ApiServer, namespace: str, export_to: tuple[str, ...] | None
) -> None:
    given = host(
        endpoint("10.0.0.1", identity=Identity("orders", "istio")),
        endpoint("10.0.0.2", identity=Identity("orders.v1", "disabled")),
        endpoint("2001:db8::1"),
        port=Choice(8080, "rules[0].port"),
        protocol=Choice("HTTPS", "port of orders-1"),
        aliases=("orders.service.consul", "orders"),
        export_to=export_to,
    )
    translation = translate(given, owner="dc1", cluster="east", namespace=namespace)
    assert translation.rejected == ()
    found = written(api_server, namespace, list(translation.resources))
    assert {key: one["spec"] for key, one in found.items()} == {one.key: one.spec for one in translation.resources}
    assert {key.name for key in found if key.kind == "ServiceEntry"} == {HOST, "orders.service.consul", "orders"}


def test_the_configurations_rules_end_in_objects_that_an_api_server_takes(
    api_server: ApiServer, namespace: str, make_consul: MakeConsul, site: Site, tmp_path: Path
) -> None:
    consul = make_consul(config=TELL_AT_ONCE)
    register(consul, "orders", site.port, {"HTTP": f"http://127.0.0.1:{site.port}/health"})
    wait_until(lambda: all(c["Status"] == "passing" for c in checks_of(consul, "orders")), "orders is healthy")
    rule = {
        "match": {"service": "orders"},
        "host": "{service}.shop.internal",
        "aliases": ["{service}.service.consul", "{service}.shop.internal"],
        "port": "instance",
        "export_to": [".", "shop"],
        "identity": {"service_account": "orders", "tls": "istio"},
    }
    cluster = {"directory": "unused", "namespace": namespace}
    (tmp_path / "isthmus.yaml").write_text(yaml.safe_dump(configuration(consul, {"east": cluster}, rules=[rule])))
    command = (COMMAND, "export", "--config", "isthmus.yaml")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "alias 'orders.shop.internal': it is the host itself" in done.stderr
    workload, service, alias = yaml.safe_load_all(done.stdout)
    for item in (workload, service, alias):
        assert api_server.create(item)["spec"] == item["spec"], json.dumps(item)
    assert (workload["spec"]["address"], workload["spec"]["serviceAccount"]) == (ADDRESS, "orders")
    assert workload["metadata"]["labels"]["security.istio.io/tlsMode"] == "istio"
    assert service["spec"]["hosts"] == ["orders.shop.internal"]
    assert service["spec"]["ports"] == [{"name": "main", "number": site.port, "protocol": "HTTP"}]
    assert service["spec"]["exportTo"] == [".", "shop"]
    assert alias["spec"] == {**service["spec"], "hosts": ["orders.service.consul"]}
