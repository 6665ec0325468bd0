import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from agent.clusters.settings import DirectorySettings, KubernetesSettings
from agent.config import Config, digest, load, schema
from agent.config.fields import PROTOCOLS
from agent.config.source import LARGEST
from agent.rules import Identity, Match, Rule
from agent.validity import PROTOCOLS as ISTIO_PROTOCOLS
from hooks.consul.settings import ConsulSettings
from hooks.eureka.settings import EurekaSettings
from hooks.settings import ReceiverSettings
from state.errors import ConfigurationError
from state.limits import Limits

SMALLEST = """\
owner: dc1
registries:
  consul: {type: consul, url: "http://127.0.0.1:8500"}
clusters:
  east: {directory: east, namespace: legacy}
"""
REGISTRY, CLUSTER, NEXT = 3, 5, 6  # lines
WHOLE = """\
owner: dc1
state: state.db
domain: mesh.example
registries:
  consul-dc1: {type: consul, url: "http://127.0.0.1:8500/", datacenter: dc1, token_file: /etc/isthmus/token,
    services: ["*"], probe: consul, address: wan, region: eu-west, metadata_prefix: "mesh-", parked: 7}
  consul-dc2: {type: consul, url: "https://[fd00::1]:8501", ca_file: ca.pem, cert_file: crt.pem, key_file: key.pem,
    tls_server_name: server.dc2.consul, services: ["team-a*", ready], probe: ready}
  eureka-dc1: {type: eureka, urls: ["https://eureka-1:8761/eureka/", "http://[fd00::1]:8762"], poll: 2s,
    username: isthmus, password_file: eureka.password, ca_file: ca.pem, cert_file: crt.pem, key_file: key.pem,
    tls_server_name: eureka, services: ["ORDERS*"], address: hostname, region: eu-west, metadata_prefix: "mesh-"}
clusters:
  east: {kubeconfig: east.kubeconfig, context: admin@east, namespace: legacy}
  west: {server: "https://west:6443/", ca_file: west.pem, token_file: west.token, namespace: old, policy: upsert-only}
  review: {directory: review, namespace: legacy, policy: paused}
rules:
  - match: {registry: "consul-*", service: "orders*", tag: public, metadata: {tier: gold, area: ""}}
    host: "{service}.shop.internal"
    namespace: shop
    labels: {team: orders, example.org/tier: gold}
    port: 8080
    protocol: grpc-web
    clusters: [east, review]
    aliases: ["{service}.service.consul"]
    secure: yes
    export_to: [shop, "."]
    identity: {service_account: orders}
    warning: exclude
  - {match: {service: "batch-*"}, skip: true}
  - {port: instance, skip: no, warning: include}
control: control.sock
receiver: {socket: hook.sock, http: "127.0.0.1:9411", token_file: hook.token}
status: "[::1]:9412"
limits: {empty_grace: 90, sweep: 5m, watch: 1h, connect_timeout: 250ms, read_timeout: 1.5, retry: [100ms, 2s, 0.5]}
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "isthmus.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def problems(written: Callable[[str | bytes], Path]) -> Callable[[str | bytes], list[str]]:
    """Load a text that is wrong and return its problems, without the file's name."""

    def find(content: str | bytes) -> list[str]:
        path = written(content)
        with pytest.raises(ConfigurationError) as caught:
            load(path)
        assert str(caught.value) == "\n".join(caught.value.problems)
        assert all(problem.startswith(f"{path}:") for problem in caught.value.problems)
        return [problem.removeprefix(f"{path}:").strip() for problem in caught.value.problems]

    return find


def edited(line: int, text: str) -> str:
    """Return the smallest configuration with one line replaced, or with lines after its last."""
    lines = SMALLEST.splitlines()
    lines[line - 1 : line] = text.splitlines()
    return "\n".join(lines) + "\n"


def consul(rest: str) -> str:
    return edited(REGISTRY, f"  consul: {{type: consul, {rest}}}")


def eureka(rest: str) -> str:
    return edited(REGISTRY, f"  e: {{type: eureka, {rest}}}")


def rule(text: str) -> str:
    return edited(NEXT, f"rules:\n  - {text}")


def test_the_smallest_configuration_has_defaults(written: Callable[[str], Path], tmp_path: Path) -> None:
    assert load(written(SMALLEST)) == Config(
        owner="dc1",
        state=Path("/var/lib/isthmus/state.db"),
        domain="mesh.internal",
        registries={"consul": ConsulSettings(name="consul", url="http://127.0.0.1:8500", parked=150)},
        clusters={"east": DirectorySettings(name="east", namespace="legacy", directory=tmp_path / "east")},
        rules=(),
        control=Path("/run/isthmus/control.sock"),
        limits=Limits(),
    )


def test_every_key_reaches_its_setting(written: Callable[[str], Path], tmp_path: Path) -> None:
    config = load(written(WHOLE))
    assert config == Config(
        owner="dc1",
        state=tmp_path / "state.db",
        domain="mesh.example",
        registries={
            "consul-dc1": ConsulSettings(
                name="consul-dc1",
                url="http://127.0.0.1:8500",
                datacenter="dc1",
                token_file=Path("/etc/isthmus/token"),
                address="wan",
                region="eu-west",
                metadata_prefix="mesh-",
                parked=7,
            ),
            "consul-dc2": ConsulSettings(
                name="consul-dc2",
                url="https://[fd00::1]:8501",
                ca_file=tmp_path / "ca.pem",
                cert_file=tmp_path / "crt.pem",
                key_file=tmp_path / "key.pem",
                tls_server_name="server.dc2.consul",
                services=("team-a*", "ready"),
                probe="ready",
            ),
            "eureka-dc1": EurekaSettings(
                name="eureka-dc1",
                urls=("https://eureka-1:8761/eureka", "http://[fd00::1]:8762"),
                poll=2.0,
                username="isthmus",
                password_file=tmp_path / "eureka.password",
                ca_file=tmp_path / "ca.pem",
                cert_file=tmp_path / "crt.pem",
                key_file=tmp_path / "key.pem",
                tls_server_name="eureka",
                services=("ORDERS*",),
                address="hostname",
                region="eu-west",
                metadata_prefix="mesh-",
            ),
        },
        clusters={
            "east": KubernetesSettings(
                name="east", namespace="legacy", kubeconfig=tmp_path / "east.kubeconfig", context="admin@east"
            ),
            "west": KubernetesSettings(
                name="west",
                namespace="old",
                policy="upsert-only",
                server="https://west:6443",
                ca_file=tmp_path / "west.pem",
                token_file=tmp_path / "west.token",
            ),
            "review": DirectorySettings(
                name="review", namespace="legacy", policy="paused", directory=tmp_path / "review"
            ),
        },
        rules=(
            Rule(
                number=0,
                match=Match(
                    registry="consul-*", service="orders*", tag="public", metadata=(("area", ""), ("tier", "gold"))
                ),
                host="{service}.shop.internal",
                namespace="shop",
                labels=(("example.org/tier", "gold"), ("team", "orders")),
                port=8080,
                protocol="GRPC-WEB",
                clusters=("east", "review"),
                aliases=("{service}.service.consul",),
                secure=True,
                export_to=("shop", "."),
                identity=Identity("orders", "istio"),
                warning="exclude",
            ),
            Rule(number=1, match=Match(service="batch-*"), skip=True),
            Rule(number=2, port="instance", skip=False, warning="include"),
        ),
        control=tmp_path / "control.sock",
        receiver=ReceiverSettings(
            socket=tmp_path / "hook.sock", http=("127.0.0.1", 9411), token_file=tmp_path / "hook.token"
        ),
        status=("::1", 9412),
        limits=Limits(
            empty_grace=90,
            sweep=300,
            watch=3600,
            connect_timeout=0.25,
            read_timeout=1.5,
            retry=(0.1, 2.0, 0.5),
        ),
    )
    assert list(config.registries) == ["consul-dc1", "consul-dc2", "eureka-dc1"]
    assert isinstance(config.limits.empty_grace, float)


LONG = "a" * 64
URL = 'url: "http://127.0.0.1:8500"'
MISTAKES = {
    # A single mistake, and all that is said about it.
    "no owner": (edited(1, ""), "1: owner: is required: two agents under one name would delete each other's objects"),
    "upper-case owner": (edited(1, "owner: DC1"), "1: owner: must be 1 to 63 lower-case letters"),
    "long owner": (edited(1, f"owner: {LONG}"), "1: owner: must be 1 to 63"),
    "owner of a sign": (edited(1, "owner: dc_1"), "1: owner: must be 1 to 63"),
    "owner no": (edited(1, "owner: no"), "1: owner: must be text, not no, which YAML reads as false: put it in quotes"),
    "owner On": (edited(1, "owner: On"), "1: owner: must be text, not On, which YAML reads as true: put it in quotes"),
    "owner 7": (edited(1, "owner: 7"), "1: owner: must be text, not the number 7: put it in quotes"),
    "owner 012": (
        edited(1, "owner: 012"),
        "1: owner: '012' is no plain decimal number: put it in quotes if it is text",
    ),
    "owner 1:30": (edited(1, "owner: 1:30"), "1: owner: '1:30' is no plain decimal number: put it in quotes"),
    "owner .inf": (edited(1, "owner: .inf"), "1: owner: '.inf' is no plain decimal number"),
    "owner date": (edited(1, "owner: 2024-01-01"), "1: owner: YAML reads '2024-01-01' as a date: put it in quotes"),
    "owner =": (edited(1, "owner: ="), "1: owner: '=' means something to YAML: put it in quotes"),
    "owner tag": (edited(1, "owner: !vault dc1"), "1: owner: has a YAML tag, and tags have no meaning here"),
    "tagged registries": (
        "owner: a\nregistries: !!set {b}\nclusters:\n  c: {directory: d, namespace: e}\n",
        "2: registries: has a YAML tag, and tags have no meaning here",
    ),
    "owner null": (edited(1, "owner:"), "1: owner: has no value: give it one or leave the key out"),
    "owner list": (edited(1, "owner: [dc1]"), "1: owner: must be text, not a list"),
    "owner mapping": (edited(1, "owner: {a: b}"), "1: owner: must be text, not a mapping"),
    "control characters": (edited(1, 'owner: "a\\x1b"'), "1: owner: must be 1 to 63 lower-case letters"),
    "empty state": (edited(NEXT, 'state: ""'), "6: state: must be the path of a file"),
    "home state": (edited(NEXT, "state: ~/a.db"), "6: state: must be a path that is written out: ~ has no meaning"),
    "home control": (edited(NEXT, "control: ~/a"), "6: control: must be a path that is written out"),
    "domain": (
        edited(NEXT, "domain: Mesh"),
        "6: domain: must be a domain for hosts ('Mesh' is no lower-case DNS label",
    ),
    "domain dot": (edited(NEXT, "domain: mesh."), "6: domain: must be a domain for hosts ('' is no lower-case DNS"),
    "domain of Kubernetes": (
        edited(NEXT, "domain: svc.cluster.local"),
        "6: domain: must be a domain for hosts (names of this form belong to Kubernetes Services), not 'svc.cluster",
    ),
    "unknown key": (edited(NEXT, "replica: true"), "6: replica: is no known key; there are owner, state, domain, reg"),
    "very long key": (edited(NEXT, f"{LONG * 2}: a"), f"6: {LONG * 2}: is no known key; there are owner, state"),
    "misspelt key": (edited(1, "ownr: dc1"), "1: ownr: is no known key; did you mean owner?"),
    "upper-case key": (edited(NEXT, "Domain: a.b"), "6: Domain: is no known key; did you mean domain?"),
    "duplicate key": (edited(NEXT, "owner: dc2"), "6: owner: is given twice, first in line 1"),
    "deep duplicate": (
        edited(NEXT, "rules:\n  - port: 1\n    skip: true\n    port: 2"),
        "9: rules[0].port: is given twice, first in line 7",
    ),
    "number as key": (
        edited(CLUSTER, "  1: {directory: a, namespace: b}"),
        "5: clusters.1: is a key that YAML does not read as text: put it in quotes",
    ),
    "list as key": (edited(NEXT, "? [a]\n: b"), "6: has a key that is no text"),
    "merged text": (
        edited(CLUSTER, "  east: {<<: dc1, directory: a, namespace: b}"),
        '5: clusters.east."<<": must be a mapping, or a list of mappings, to merge'.replace('"', "'"),
    ),
    "no registries": ("owner: a\nclusters:\n  b: {directory: c, namespace: d}\n", "1: registries: is required"),
    "empty registries": (
        "owner: a\nregistries: {}\nclusters:\n  b: {directory: c, namespace: d}\n",
        "2: registries: must name at least one",
    ),
    "registries as a list": (
        "owner: a\nregistries: []\nclusters:\n  b: {directory: c, namespace: d}\n",
        "2: registries: must be a mapping, not a list",
    ),
    "no clusters": ("\n".join(SMALLEST.splitlines()[:3]), "1: clusters: is required"),
    "registry is no mapping": (edited(REGISTRY, "  consul: x"), "3: registries.consul: must be a mapping, not text"),
    "registry name": (
        edited(REGISTRY, f"  Consul_1: {{type: consul, {URL}}}"),
        "3: registries.Consul_1: is no valid name: names are 1 to 63 lower-case letters",
    ),
    "dotted registry name": (
        edited(REGISTRY, f"  consul.: {{type: consul, {URL}}}"),
        "3: registries.'consul.': is no valid name",
    ),
    "no type": (edited(REGISTRY, f"  consul: {{{URL}}}"), "3: registries.consul.type: is required"),
    "unknown type": (
        edited(REGISTRY, "  e:\n    type: etcd\n    urls: [a]\n    poll: 5s"),
        "4: registries.e.type: must be 'consul' or 'eureka', not 'etcd'",
    ),
    "no type, of Eureka": (edited(REGISTRY, "  e: {urls: [http://a]}"), "3: registries.e.type: is required"),
    "no urls": (eureka("poll: 5s"), "3: registries.e.urls: is required"),
    "empty urls": (eureka("urls: []"), "3: registries.e.urls: must name at least one"),
    "url as text": (eureka('urls: "http://a"'), "3: registries.e.urls: must be a list, not 'http://a'"),
    "url of Eureka with a password": (
        eureka('urls: ["http://isthmus:geheim@a/eureka"]'),
        "3: registries.e.urls[0]: must have no user or password: a secret belongs into a file that password_file names",
    ),
    "url of Eureka twice": (
        eureka('urls: ["http://a/eureka", "http://b/eureka", "http://a/eureka"]'),
        "3: registries.e.urls[2]: is there twice: 'http://a/eureka'",
    ),
    "Eureka's user without a password": (
        eureka("urls: [http://a], username: isthmus"),
        "3: registries.e.username: needs password_file beside it",
    ),
    "Eureka's certificate without a key": (
        eureka("urls: [http://a], cert_file: a.pem"),
        "3: registries.e.cert_file: needs key_file beside it",
    ),
    "Eureka's password in the file": (
        eureka("urls: [http://a], password: geheim"),
        "3: registries.e.password: is refused: a secret does not belong into the configuration; put it into a file, "
        "and name that in password_file",
    ),
    "Consul's key at Eureka": (
        eureka("urls: [http://a], probe: consul"),
        "3: registries.e.probe: belongs to a registry of type consul, not to one of type eureka",
    ),
    "Eureka's key at Consul": (
        consul(f"{URL}, poll: 5s"),
        "3: registries.consul.poll: belongs to a registry of type eureka, not to one of type consul",
    ),
    "Eureka's address": (
        eureka("urls: [http://a], address: wan"),
        "3: registries.e.address: must be 'ip' or 'hostname', not 'wan'",
    ),
    "alias of no host": (
        rule('{aliases: ["*.{domain}"]}'),
        "7: rules[0].aliases[0]: makes no valid host: '*.mesh.internal'",
    ),
    "export_to of no namespace": (
        rule("{export_to: [Shop]}"),
        '7: rules[0].export_to[0]: must be a namespace, "." (the object\'s own) or "*" (every one), not \'Shop\'',
    ),
    "export_to of nobody": (rule("{export_to: []}"), "7: rules[0].export_to: must name at least one"),
    "identity without an account": (
        rule("{match: {service: a}, identity: {tls: istio}}"),
        "7: rules[0].identity.service_account: is required",
    ),
    "identity of every service": (
        rule("{match: {tag: gold}, identity: {service_account: orders}}"),
        "7: rules[0].identity: needs match.service beside it: who may register anything could claim the identity else",
    ),
    "identity of any service": (
        rule('{match: {service: "*"}, identity: {service_account: orders}}'),
        "7: rules[0].identity: needs match.service beside it",
    ),
    "identity of no account": (
        rule("{match: {service: a}, identity: {service_account: Orders}}"),
        "7: rules[0].identity.service_account: must be the name of a Kubernetes service account",
    ),
    "identity with another mode": (
        rule("{match: {service: a}, identity: {service_account: orders, tls: mutual}}"),
        "7: rules[0].identity.tls: must be 'istio' or 'disabled', not 'mutual'",
    ),
    "type null": (edited(REGISTRY, f"  c: {{type: , {URL}}}"), "3: registries.c.type: has no value"),
    "no url": (edited(REGISTRY, "  c: {type: consul}"), "3: registries.c.url: is required"),
    "url of ftp": (consul('url: "ftp://a"'), "3: registries.consul.url: must be http://HOST[:PORT] or https://HOST[:P"),
    "url without scheme": (consul('url: "a:8500"'), "3: registries.consul.url: must be http://HOST[:PORT] or https"),
    "url without host": (consul('url: "http://:80"'), "3: registries.consul.url: must be http://HOST[:PORT] or"),
    "url with port 0": (consul('url: "http://a:0"'), "3: registries.consul.url: must be http://HOST[:PORT] or"),
    "url with bad port": (consul('url: "http://a:99999"'), "3: registries.consul.url: must be http://HOST[:PORT] or"),
    "url with no port": (consul('url: "http://a:"'), "3: registries.consul.url: must be http://HOST[:PORT] or"),
    "url with a space": (consul('url: "http://a b"'), "3: registries.consul.url: must be http://HOST[:PORT] or"),
    "url with bad IPv6": (consul('url: "http://[::g]"'), "3: registries.consul.url: must be http://HOST[:PORT] or"),
    "url with odd host": (consul('url: "http://a,b"'), "3: registries.consul.url: must be http://HOST[:PORT] or"),
    "url with a path": (
        consul('url: "http://a/v1"'),
        "3: registries.consul.url: must have no path: Consul's API is at the root of its server, not 'http://a/v1'",
    ),
    "url with a user": (
        consul('url: "http://u@a"'),
        "3: registries.consul.url: must have no user or password: a secret belongs into a file that token_file names",
    ),
    "url with a query": (consul('url: "http://a?b"'), "3: registries.consul.url: must have no query"),
    "url with a fragment": (consul('url: "http://a#b"'), "3: registries.consul.url: must have no fragment"),
    "namespace": (
        consul(f"{URL}, namespace: a"),
        "3: registries.consul.namespace: is refused: Consul Enterprise namespaces and partitions are not supported",
    ),
    "partition": (
        consul(f"{URL}, partition: a"),
        "3: registries.consul.partition: is refused: Consul Enterprise namespaces and partitions are not supported",
    ),
    "token": (
        consul(f"{URL}, token: a"),
        "3: registries.consul.token: is refused: a secret does not belong into the configuration; put it into a file, "
        "and name that in token_file",
    ),
    "password": (
        consul(f"{URL}, password: a"),
        "3: registries.consul.password: is refused: a secret does not belong into the configuration; put it into a f",
    ),
    "token as a number": (consul(f"{URL}, token: 012"), "3: registries.consul.token: is refused: a secret"),
    "token of a cluster": (
        edited(CLUSTER, '  east: {server: "https://a", ca_file: b, token: c, namespace: d}'),
        "5: clusters.east.token: is refused: a secret does not belong into the configuration; put it into a file, and",
    ),
    "later key": (
        consul(f"{URL}, replica: true"),
        "3: registries.consul.replica: is no known key; there are type, url, ",
    ),
    "parked of no number": (consul(f"{URL}, parked: many"), "3: registries.consul.parked: must be a number from 0 to"),
    "parked below zero": (consul(f"{URL}, parked: -1"), "3: registries.consul.parked: must be a number from 0 to"),
    "short key": (consul(f"{URL}, ca: a"), "3: registries.consul.ca: is no known key; did you mean ca_file?"),
    "datacenter": (consul(f'{URL}, datacenter: "a b"'), "3: registries.consul.datacenter: must be one word"),
    "empty datacenter": (consul(f'{URL}, datacenter: ""'), "3: registries.consul.datacenter: must be one word"),
    "address": (consul(f"{URL}, address: [wan]"), "3: registries.consul.address: must be text, not a list"),
    "region": (consul(f"{URL}, region: a/b/c/d"), "3: registries.consul.region: must be REGION, REGION/ZONE or"),
    "metadata prefix": (consul(f'{URL}, metadata_prefix: "a."'), "3: registries.consul.metadata_prefix: must be the b"),
    "token file": (consul(f"{URL}, token_file: [a]"), "3: registries.consul.token_file: must be text, not a list"),
    "token file as a number": (consul(f"{URL}, token_file: 7"), "3: registries.consul.token_file: must be text: put"),
    "certificate only": (consul(f"{URL}, cert_file: a"), "3: registries.consul.cert_file: needs key_file beside it"),
    "key only": (consul(f"{URL}, key_file: a"), "3: registries.consul.key_file: needs cert_file beside it"),
    "misspelt key file": (
        consul(f"{URL}, cert_file: a, key_fil: b"),
        "3: registries.consul.key_fil: is no known key; did you mean key_file?",
    ),
    "no services": (consul(f"{URL}, services: []"), "3: registries.consul.services: must name at least one"),
    "services as text": (consul(f'{URL}, services: "*"'), "3: registries.consul.services: must be a list, not '*'"),
    "empty service": (
        edited(REGISTRY, f'  c:\n    type: consul\n    {URL}\n    services:\n      - "*"\n      - ""'),
        "8: registries.c.services[1]: must be a glob",
    ),
    "service 7": (consul(f"{URL}, probe: a, services: [7]"), "3: registries.consul.services[0]: must be text, not the"),
    "no probe": (
        edited(REGISTRY, f"  c:\n    type: consul\n    {URL}\n    services: [a*, b]"),
        "3: registries.c.probe: is required where services is not everything",
    ),
    "misspelt probe": (
        consul(f"{URL}, services: [a], prob: a"),
        "3: registries.consul.prob: is no known key; did you mean probe?",
    ),
    "misspelt services": (
        consul(f"{URL}, sevices: [a], probe: a"),
        "3: registries.consul.sevices: is no known key; did you mean services?",
    ),
    "probe out of scope": (
        consul(f'{URL}, services: ["a*", b], probe: consul'),
        "3: registries.consul.probe: 'consul' is not in scope: services are 'a*', 'b'",
    ),
    "cluster is no mapping": (edited(CLUSTER, "  east: 7"), "5: clusters.east: must be a mapping, not a number"),
    "cluster name": (
        edited(CLUSTER, "  East: {directory: a, namespace: b}"),
        "5: clusters.East: is no valid name: names are 1 to 63 lower-case letters",
    ),
    "name twice": (
        edited(CLUSTER, "  consul: {directory: a, namespace: b}"),
        "5: clusters.consul: is also the name of a registry in line 3: names are unique over both",
    ),
    "no kind": (
        edited(CLUSTER, "  east: {namespace: a}"),
        "5: clusters.east: must have exactly one of kubeconfig, server and directory: it has none",
    ),
    "two kinds": (
        edited(CLUSTER, '  east: {directory: a, server: "https://a", namespace: b}'),
        "5: clusters.east: must have exactly one of kubeconfig, server and directory: it has server and directory",
    ),
    "misspelt kind": (
        edited(CLUSTER, "  east: {kube_config: a, context: c, namespace: b}"),
        "5: clusters.east.kube_config: is no known key; did you mean kubeconfig?",
    ),
    "key of another kind": (
        edited(CLUSTER, "  east: {directory: a, context: c, namespace: b}"),
        "5: clusters.east.context: belongs to a cluster with kubeconfig, not to one with directory",
    ),
    "unknown key of a cluster": (
        edited(CLUSTER, "  east: {directory: a, namespace: b, zone: c}"),
        "5: clusters.east.zone: is no known key; there are namespace, policy, directory",
    ),
    "no CA": (
        edited(CLUSTER, '  east: {server: "https://a", token_file: b, namespace: c}'),
        "5: clusters.east.ca_file: is required",
    ),
    "no token": (
        edited(CLUSTER, '  east: {server: "https://a", ca_file: b, namespace: c}'),
        "5: clusters.east.token_file: is required",
    ),
    "plain http": (
        edited(CLUSTER, '  east: {server: "http://a", ca_file: b, token_file: c, namespace: d}'),
        "5: clusters.east.server: must be https://HOST[:PORT], not 'http://a'",
    ),
    "no namespace": (edited(CLUSTER, "  east: {directory: a}"), "5: clusters.east.namespace: is required"),
    "bad namespace": (
        edited(CLUSTER, "  east: {directory: a, namespace: a.b}"),
        "5: clusters.east.namespace: must be a namespace: 1 to 63 lower-case letters, digits and inner hyphens, not",
    ),
    "policy": (
        edited(CLUSTER, "  east: {directory: a, namespace: b, policy: delete}"),
        "5: clusters.east.policy: must be 'sync', 'upsert-only' or 'paused', not 'delete'",
    ),
    "policy off": (
        edited(CLUSTER, "  east: {directory: a, namespace: b, policy: off}"),
        "5: clusters.east.policy: must be 'sync', 'upsert-only' or 'paused', not off, which YAML reads as false: put",
    ),
    "context": (
        edited(CLUSTER, '  east: {kubeconfig: a, namespace: b, context: ""}'),
        "5: clusters.east.context: must be text, not empty",
    ),
    "one place twice": (
        edited(NEXT, "  west: {directory: east, namespace: legacy}"),
        "6: clusters.west: is the same place as 'east' in line 5: each would delete the other's objects",
    ),
    "receiver of nothing": (edited(NEXT, "receiver: {}"), "6: receiver: needs socket, http, or both"),
    "receiver without tokens": (
        edited(NEXT, 'receiver: {http: "127.0.0.1:9411"}'),
        "6: receiver.http: needs token_file beside it: whoever can connect could call",
    ),
    "token for a socket": (
        edited(NEXT, "receiver: {socket: a, token_file: b}"),
        "6: receiver.token_file: is for http, which is not given",
    ),
    "receiver for the world": (
        edited(NEXT, 'receiver: {http: "0.0.0.0:9411", token_file: a}'),
        "6: receiver.http: must be a loopback address and a port, such as \"127.0.0.1:9411\", not '0.0.0.0:9411'",
    ),
    "receiver's token itself": (
        edited(NEXT, 'receiver: {http: "127.0.0.1:9411", token: b}'),
        "6: receiver.token: is refused: a secret does not belong into the configuration; put it into a file, and",
    ),
    "misspelt receiver": (edited(NEXT, "receiver: {sockt: a}"), "6: receiver.sockt: is no known key; did you mean so"),
    "status without a port": (edited(NEXT, 'status: "127.0.0.1"'), "6: status: must be a loopback address and a port"),
    "status of port 0": (edited(NEXT, 'status: "127.0.0.1:0"'), "6: status: must be a loopback address and a port"),
    "status of a name": (edited(NEXT, 'status: "localhost:9412"'), "6: status: must be a loopback address and a port"),
    "rules as a mapping": (edited(NEXT, "rules: {skip: true}"), "6: rules: must be a list, not a mapping"),
    "rule is no mapping": (rule("skip"), "7: rules[0]: must be a mapping, not text"),
    "empty rule": (rule("{}"), "7: rules[0]: does nothing: it has none of host, namespace, labels, aliases, port"),
    "rule that does nothing": (rule("match: {service: a}"), "7: rules[0]: does nothing: it has none of host"),
    "rule without labels": (rule("labels: {}"), "7: rules[0]: does nothing"),
    "misspelt action": (rule("labls: {a: b}"), "7: rules[0].labls: is no known key; did you mean labels?"),
    "later key of a rule": (rule("{skip: true, until: 2027}"), "7: rules[0].until: is no known key; there are match"),
    "empty glob": (
        rule('match: {service: ""}\n    skip: true'),
        '7: rules[0].match.service: must be a glob such as "orders*", not empty and without control characters, not',
    ),
    "unknown match": (rule("match: {host: a}\n    skip: true"), "7: rules[0].match.host: is no known key; there are r"),
    "match as text": (rule("match: a\n    skip: true"), "7: rules[0].match: must be a mapping, not text"),
    "metadata as a number": (
        rule("match:\n      metadata:\n        tier: 1\n    skip: true"),
        "9: rules[0].match.metadata.tier: must be text, not the number 1: put it in quotes",
    ),
    "placeholder": (
        rule('host: "{name}.a"'),
        "7: rules[0].host: can hold the placeholders {service} and {domain} only, not '{name}.a'",
    ),
    "brace": (rule('host: "{{service}}.a"'), "7: rules[0].host: can hold the placeholders {service} and {domain} onl"),
    "host": (
        rule('host: "my_{service}.{domain}"'),
        "7: rules[0].host: makes no valid host: 'my_orders.mesh.internal' for the service orders in mesh.internal (",
    ),
    "wildcard host": (rule('host: "*.{domain}"'), "7: rules[0].host: makes no valid host: '*.mesh.internal' for the"),
    "rule's namespace": (rule("namespace: A"), "7: rules[0].namespace: must be a namespace"),
    "label of isthmus": (
        rule("labels: {isthmus.mesh/a: b}"),
        "7: rules[0].labels.'isthmus.mesh/a': is reserved: no rule may set a label of isthmus.mesh",
    ),
    "label of Istio": (
        rule("labels: {istio.io/a: b}"),
        "7: rules[0].labels.'istio.io/a': is reserved: no rule may set a label of istio.io",
    ),
    "label of Istio's security": (
        rule("labels: {security.istio.io/tlsMode: istio}"),
        "7: rules[0].labels.'security.istio.io/tlsMode': is reserved: no rule may set a label of security.istio.io",
    ),
    "label managed-by": (
        rule("labels: {app.kubernetes.io/managed-by: me}"),
        "7: rules[0].labels.'app.kubernetes.io/managed-by': is reserved: no rule may set a label of "
        "app.kubernetes.io/managed-by",
    ),
    "label key": (rule('labels: {"a b": c}'), "7: rules[0].labels.'a b': is no valid key of a Kubernetes label"),
    "label value": (rule('labels: {a: "b c"}'), "7: rules[0].labels.a: must be a label's value: at most 63 letters"),
    "label true": (rule("labels: {a: yes}"), "7: rules[0].labels.a: must be text, not yes, which YAML reads as true"),
    "port 0": (rule("port: 0"), "7: rules[0].port: must be a number from 1 to 65535, without quotes, or the word inst"),
    "port 65536": (rule("port: 65536"), "7: rules[0].port: must be a number from 1 to 65535"),
    "port in quotes": (rule('port: "80"'), "7: rules[0].port: must be a number from 1 to 65535, without quotes"),
    "port yes": (rule("port: yes"), "7: rules[0].port: must be a number from 1 to 65535, without quotes, or the word"),
    "port 1.5": (rule("port: 1.5"), "7: rules[0].port: must be a number from 1 to 65535"),
    "port list": (rule("port: [80]"), "7: rules[0].port: must be a number from 1 to 65535, without quotes, or the wo"),
    "port 0x50": (rule("port: 0x50"), "7: rules[0].port: '0x50' is no plain decimal number"),
    "port of 40 digits": (rule(f"port: {'9' * 40}"), f"7: rules[0].port: '{'9' * 40}' is no plain decimal number"),
    "protocol": (rule("protocol: udp"), "7: rules[0].protocol: must be one of HTTP, HTTP2, GRPC, GRPC-Web, HTTPS, TLS"),
    "unknown cluster": (
        rule("clusters:\n      - east\n      - esat"),
        "9: rules[0].clusters[1]: no cluster is named 'esat'; there are east",
    ),
    "no cluster": (rule("clusters: []"), "7: rules[0].clusters: must name at least one"),
    "clusters as text": (rule("clusters: east"), "7: rules[0].clusters: must be a list, not 'east'"),
    "warning": (rule("warning: ignore"), "7: rules[0].warning: must be 'include' or 'exclude', not 'ignore'"),
    "skip": (rule('skip: "true"'), "7: rules[0].skip: must be true or false, not 'true'"),
    "unknown limit": (edited(NEXT, "limits: {sweeep: 5m}"), "6: limits.sweeep: is no known key; did you mean sweep?"),
    "limit 0": (edited(NEXT, "limits: {sweep: 0}"), "6: limits.sweep: must be a duration such as 250ms, 5s, 2m or 1h"),
    "negative limit": (edited(NEXT, "limits: {sweep: -5}"), "6: limits.sweep: must be a duration such as 250ms"),
    "limit of days": (edited(NEXT, "limits: {sweep: 5d}"), "6: limits.sweep: must be a duration such as 250ms"),
    "endless limit": (edited(NEXT, "limits: {sweep: 721h}"), "6: limits.sweep: must be a duration such as 250ms"),
    "limit yes": (edited(NEXT, "limits: {sweep: yes}"), "6: limits.sweep: must be a duration such as 250ms, 5s, 2m or"),
    "limit 1:30": (edited(NEXT, "limits: {sweep: 1:30}"), "6: limits.sweep: '1:30' is no plain decimal number"),
    "one for many": (edited(NEXT, "limits: {retry: 5s}"), "6: limits.retry: must be a list, not '5s'"),
    "no retry": (edited(NEXT, "limits: {retry: []}"), "6: limits.retry: must name at least one"),
    "many for one": (edited(NEXT, "limits: {sweep: [5s]}"), "6: limits.sweep: must be a duration such as 250ms"),
    "one of many": (
        edited(NEXT, "limits:\n  retry:\n    - 1s\n    - 2x"),
        "9: limits.retry[1]: must be a duration suc",
    ),
}


@pytest.mark.parametrize(("text", "problem"), MISTAKES.values(), ids=MISTAKES.keys())
def test_one_mistake_is_one_problem_at_its_line(text: str, problem: str, problems: Callable[[str], list[str]]) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert found[0].startswith(problem)


UNCONFIGURED = "nothing is configured yet: owner, registries and clusters are missing"
WHOLE_FILE = {
    "empty": (b"", UNCONFIGURED),
    "comments only": (b"# owner: dc1\n---\n", UNCONFIGURED),
    "only what has a default": (b"status: 127.0.0.1:9412\n", UNCONFIGURED),
    "a list": (b"# isthmus\n- owner\n", "2: must be a mapping of keys to values, not a list"),
    "a word": (b"secret\n", "1: must be a mapping of keys to values, not a single value"),
    "no YAML": (
        b"owner: dc1\nregistries: [\n",
        "3: is not YAML: while parsing a flow node, did not find expected node",
    ),
    "tab": (b"owner: dc1\nregistries:\n\tconsul: 1\n", "3: is not YAML: while scanning for the next token, found char"),
    "control character": ("owner: dcé\nstate: \x07\n".encode(), "2: is not YAML: control characters are not allowed"),
    "undefined alias": (b"owner: dc1\nstate: *secret\n", "2: is not YAML: found undefined alias"),
    "two documents": (b"owner: dc1\n---\nowner: dc2\n", "2: is not YAML: expected a single document in the stream"),
    "Latin-1": ("owner: dc1\n# für\n".encode("latin-1"), "2: is not UTF-8: byte 0xfc, invalid start byte"),
    "UTF-16": ("owner: dc1\n".encode("utf-16"), "1: is not UTF-8: byte 0x"),
    "too large": (b"#" * (LARGEST + 1), f"is larger than {LARGEST} bytes"),
    "50 MB": (b"#" * 50_000_000, f"is larger than {LARGEST} bytes"),
    "deep": (b"owner: " + b"[" * 500 + b"]" * 500, "1: is nested more than 32 levels deep"),
    "deeper": (b"owner: " + b"[" * 100_000, "1: is not YAML: while increasing flow level, exceeded maximum nesting d"),
    "deep by aliases": (
        b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 100)),
        "30: is nested more than 32 levels deep",
    ),
    "inside of itself": (b"owner: dc1\nrules: &rules\n  - *rules\n", "2: has an alias inside of what it names"),
    "bomb": (
        b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 30)),
        "1: holds more than 50000 values, its aliases written out",
    ),
    "merged bomb": (
        b"a0: &a0 {x: y}\n"
        + b"".join(b"a%d: &a%d {<<: [%b]}\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)),
        "6: holds more than 50000 values, its aliases written out",
    ),
}


@pytest.mark.parametrize(("content", "problem"), WHOLE_FILE.values(), ids=WHOLE_FILE.keys())
def test_a_file_that_cannot_be_read_is_one_problem(
    content: bytes, problem: str, problems: Callable[[bytes], list[str]]
) -> None:
    found = problems(content)
    assert len(found) == 1, found
    assert found[0].startswith(problem)


def test_a_file_that_is_not_there_is_one_problem(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigurationError) as caught:
            load(path)
        assert caught.value.problems == [f"{path}: cannot be read: {reason}"]


def test_ten_mistakes_are_ten_problems_in_the_order_of_their_lines(problems: Callable[[str], list[str]]) -> None:
    text = """\
owner: no
domain: Mesh
registries:
  consul: {url: "ftp://a", cert_file: b}
  other: {type: consul, url: "http://a", services: ["a*"]}
clusters:
  other: {directory: a, namespace: b}
  east: {namespce: a, kubeconfig: b}
rules:
  - clusters: [north]
  - match: {service: a}
owner: dc1
"""
    assert [" ".join(problem.split()[:2]) for problem in problems(text)] == [
        "2: domain:",
        "4: registries.consul.cert_file:",
        "4: registries.consul.type:",
        "4: registries.consul.url:",
        "5: registries.other.probe:",
        "7: clusters.other:",
        "8: clusters.east.namespce:",
        "10: rules[0].clusters[0]:",
        "11: rules[1]:",
        "12: owner:",
    ]


def test_what_aliases_repeat_is_told_once(problems: Callable[[str], list[str]]) -> None:
    clusters = """\
  east: &east {namespace: A, policy: 012, token: abc, kubeconfig: a}
  west: {<<: *east, kubeconfig: b}
  north: {<<: [*east], kubeconfig: c}
rules:
  - &rule {port: 0}
  - *rule
"""
    assert [" ".join(problem.split()[:2]) for problem in problems(edited(CLUSTER, clusters))] == [
        "5: clusters.east.namespace:",
        "5: clusters.east.policy:",
        "5: clusters.east.token:",
        "9: rules[0].port:",
    ]


def test_anchors_and_merge_keys_work(written: Callable[[str], Path], tmp_path: Path) -> None:
    text = """\
  east: &east {directory: east, namespace: legacy, policy: paused}
  west: &west {<<: *east, directory: west}
  north: {directory: north, <<: [{policy: upsert-only}, *west]}
"""
    assert load(written(edited(CLUSTER, text))).clusters == {
        "east": DirectorySettings(name="east", namespace="legacy", policy="paused", directory=tmp_path / "east"),
        "west": DirectorySettings(name="west", namespace="legacy", policy="paused", directory=tmp_path / "west"),
        "north": DirectorySettings(
            name="north", namespace="legacy", policy="upsert-only", directory=tmp_path / "north"
        ),
    }


def test_a_byte_order_mark_is_no_mistake(written: Callable[[str], Path]) -> None:
    assert load(written("\ufeff" + SMALLEST)).owner == "dc1"


def test_relative_paths_of_credentials_are_looked_up_in_the_credentials_directory_first(
    written: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name in ("ca.pem", "east.kubeconfig", "state.db", "review", "control.sock"):
        (credentials / name).touch()
    path = written(WHOLE.replace("west.token", "x" * 300))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    config = load(path)
    first, second = config.registries["consul-dc1"], config.registries["consul-dc2"]
    assert isinstance(first, ConsulSettings)
    assert second.ca_file == credentials / "ca.pem"
    assert second.key_file == tmp_path / "key.pem"
    assert first.token_file == Path("/etc/isthmus/token")
    east, west, review = config.clusters.values()
    assert isinstance(east, KubernetesSettings)
    assert isinstance(west, KubernetesSettings)
    assert isinstance(review, DirectorySettings)
    assert east.kubeconfig == credentials / "east.kubeconfig"
    assert west.token_file == tmp_path / ("x" * 300)
    assert (config.state, config.control) == (tmp_path / "state.db", tmp_path / "control.sock")
    assert review.directory == tmp_path / "review"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert load(path).registries["consul-dc2"].ca_file == tmp_path / "ca.pem"
    # Whoever asks about the service's own configuration, and is not the service.
    monkeypatch.setattr("agent.config.convert.SERVICE_CONFIGURATION", tmp_path)
    monkeypatch.setattr("agent.config.convert.SERVICE_CREDENTIALS", credentials)
    assert load(path) == config


def test_paths_are_absolute_even_if_the_configuration_s_is_not(
    written: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(SMALLEST)
    monkeypatch.chdir(tmp_path.parent)
    config = load(path.relative_to(tmp_path.parent))
    assert config == load(path)


@pytest.mark.parametrize(
    "text",
    [
        consul("url: 'http://s3cret:s3cret@a'"),
        consul("url: 's3cret:s3cret@a'"),
        consul("url: 'http://a?token=s3cret'"),
        consul(f"{URL}, token: s3cret"),
        consul(f"{URL}, Acl-Token: s3cret"),
        consul(f"{URL}, pasword: s3cret"),
        consul(f"{URL}, password: [s3cret]"),
        consul(f"{URL}, token_file: 's3cret\\n'").replace("'s3cret\\n'", '"s3cret\\n"'),
        consul(f"{URL}, token_file: [s3cret]"),
        consul(f"{URL}, token_file: {{a: s3cret}}"),
        edited(REGISTRY, "  consul:\n  token: s3cret"),
        edited(CLUSTER, "  east: {namespace: a, token: !s3cret s3cret}"),
        edited(CLUSTER, "  east: {namespace: a, password: s3cret}"),
        edited(CLUSTER, "  token: s3cret"),
        edited(CLUSTER, "  tokn: s3cret"),
        edited(CLUSTER, "  tokn: [s3cret]"),
        edited(NEXT, "limits: s3cret"),
        edited(NEXT, "token: s3cret\npassword: &s3cret s3cret"),
        edited(NEXT, "token: *s3cret"),
        "s3cret",
        "- s3cret",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(text: str, problems: Callable[[str], list[str]]) -> None:
    assert "s3cret" not in "\n".join(problems(text))


def test_an_odd_number_as_a_secret_is_not_repeated(problems: Callable[[str], list[str]]) -> None:
    found = problems(edited(CLUSTER, "  token: 0123456\n  east: {password: 1:30}\n  west: {password: 7123456}"))
    assert not any(secret in problem for problem in found for secret in ("123456", "1:30"))


def test_what_secret_files_hold_is_not_in_the_repr(written: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("ca.pem", "crt.pem", "key.pem", "west.token", "east.kubeconfig"):
        (tmp_path / name).write_text("s3cret")
    config = load(written(WHOLE))
    assert "s3cret" not in repr(config)
    assert "s3cret" not in str(config)


def test_the_digest_follows_what_a_cluster_should_hold(written: Callable[[str], Path]) -> None:
    config = load(written(WHOLE))
    base = digest(config, "east")
    registry, eureka = config.registries["consul-dc1"], config.registries["eureka-dc1"]
    assert isinstance(registry, ConsulSettings)
    assert isinstance(eureka, EurekaSettings)
    changed = [
        replace(config, owner="dc2"),
        replace(config, domain="other.internal"),
        replace(config, rules=config.rules[:1]),
        replace(config, rules=config.rules[::-1]),
        replace(config, registries=dict(reversed(list(config.registries.items())))),
        replace(config, registries={**config.registries, "consul-dc1": replace(registry, services=("a*",))}),
        replace(config, registries={**config.registries, "consul-dc1": replace(registry, url="http://a")}),
        replace(config, registries={**config.registries, "eureka-dc1": replace(eureka, urls=("http://a",))}),
        replace(config, registries={**config.registries, "eureka-dc1": replace(eureka, address="ip")}),
        replace(config, rules=(replace(config.rules[0], identity=None), *config.rules[1:])),
        replace(config, clusters={**config.clusters, "east": replace(config.clusters["east"], namespace="new")}),
        replace(config, clusters={**config.clusters, "east": replace(config.clusters["east"], policy="paused")}),
    ]
    assert len({base, *(digest(other, "east") for other in changed)}) == len(changed) + 1


def test_the_digest_does_not_follow_the_rest(written: Callable[[str], Path]) -> None:
    config = load(written(WHOLE))
    registry, eureka = config.registries["consul-dc1"], config.registries["eureka-dc1"]
    assert isinstance(registry, ConsulSettings)
    assert isinstance(eureka, EurekaSettings)
    east = config.clusters["east"]
    assert isinstance(east, KubernetesSettings)
    same = [
        replace(config, limits=Limits(sweep=1)),
        replace(config, state=Path("/a"), control=Path("/b")),
        replace(config, clusters={"east": east}),
        replace(config, registries={**config.registries, "consul-dc1": replace(registry, token_file=Path("/a"))}),
        replace(config, registries={**config.registries, "eureka-dc1": replace(eureka, poll=60.0)}),
        # The same file, as systemd hands it to the service.
        replace(config, clusters={"east": replace(east, kubeconfig=Path("/run/credentials/x/east.kubeconfig"))}),
    ]
    assert {digest(other, "east") for other in same} == {digest(config, "east")}
    assert len({digest(config, name) for name in config.clusters}) == len(config.clusters)
    with pytest.raises(KeyError):
        digest(config, "none")


def test_istio_knows_every_protocol() -> None:
    assert {protocol.upper() for protocol in PROTOCOLS} <= ISTIO_PROTOCOLS


def test_the_schema_names_every_key() -> None:
    found = schema()
    assert list(found["properties"]) == [field.name for field in fields(Config)]
    assert found["required"] == ["owner", "registries", "clusters"]
    parts = found["$defs"]
    assert set(parts["ConsulPart"]["properties"]) == {field.name for field in fields(ConsulSettings)} - {"name"} | {
        "type"
    }
    assert set(parts["LimitsPart"]["properties"]) == {field.name for field in fields(Limits)}
    assert set(parts["RulePart"]["properties"]) == {field.name for field in fields(Rule)} - {"number"}
    assert set(parts["MatchPart"]["properties"]) == {field.name for field in fields(Match)}
    (kinds,) = found["properties"]["clusters"]["patternProperties"].values()
    assert [kind["$ref"].rpartition("/")[2] for kind in kinds["oneOf"]] == [
        "KubeconfigPart",
        "ServerPart",
        "DirectoryPart",
    ]
    assert all(part["additionalProperties"] is False for part in (found, *parts.values()))
    assert "null" not in json.dumps(found)
