import json
import re
from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from agent.merge import HostKey, Registration, merge
from agent.rules import Choice
from agent.translate import translate
from state.model import Resource
from tests.core import HOST, host
from tests.property.core import CLUSTERS, ORDER, registrations

DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
QUALIFIED = re.compile(rf"(({DNS_LABEL})(\.{DNS_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?\Z")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
ISTIO = {"http", "http2", "https", "grpc", "grpc-web", "http_proxy", "tcp", "tls", "udp", "mongo", "mysql", "redis"}

hosts = st.sampled_from([HOST, "a" * 60 + ".mesh.internal", "*.mesh", "a_b.mesh", "x"]) | st.text(max_size=5)
namespaces = st.sampled_from(["", "shop", "Shop", "a.b"])


def validate(resource: Resource) -> None:
    """Refuse what Istio's webhook, its CRD or the API server would refuse."""
    manifest = json.loads(json.dumps(resource.manifest()))
    metadata, spec = manifest["metadata"], manifest["spec"]
    assert manifest["apiVersion"] == "networking.istio.io/v1"
    assert len(metadata["name"]) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", metadata["name"])
    assert re.fullmatch(DNS_LABEL, metadata["namespace"])
    for key, value in metadata["labels"].items():
        assert QUALIFIED.match(key)
        assert LABEL_VALUE.match(value)
    assert all(QUALIFIED.match(key) for key in metadata["annotations"])
    assert sum(len(key) + len(value) for key, value in metadata["annotations"].items()) <= 256 * 1024
    if manifest["kind"] == "WorkloadEntry":
        validate_workload_entry(spec)
        # An identity is promised only where there is one.
        assert metadata["labels"]["security.istio.io/tlsMode"] == "disabled" or spec["serviceAccount"]
    else:
        assert manifest["kind"] == "ServiceEntry"
        validate_service_entry(metadata["name"], metadata["namespace"], spec)


def validate_workload_entry(spec: dict[str, object]) -> None:
    assert set(spec) <= {"address", "ports", "locality", "weight", "serviceAccount"}
    assert re.fullmatch(rf"{DNS_LABEL}(\.{DNS_LABEL})*", str(spec.get("serviceAccount", "none")))
    address = ip_address(str(spec["address"]))
    assert str(address) == spec["address"]
    assert not any((address.is_loopback, address.is_link_local, address.is_unspecified))
    ports = spec["ports"]
    assert isinstance(ports, dict)
    assert list(ports) == ["main"]
    assert 1 <= ports["main"] <= 65535
    weight = spec["weight"]
    assert isinstance(weight, int)
    assert 1 <= weight < 2**32
    assert "locality" not in spec or re.fullmatch(r"[^/]+(/[^/]+){0,2}", str(spec["locality"]))


def validate_service_entry(name: str, namespace: str, spec: dict[str, object]) -> None:
    assert set(spec) - {"exportTo"} == {"hosts", "location", "resolution", "ports", "workloadSelector"}
    exported = spec.get("exportTo", ["*"])
    assert isinstance(exported, list)
    assert exported
    assert "*" not in exported or len(exported) == 1
    places = [namespace if place == "." else place for place in exported]
    assert len(set(places)) == len(places)
    assert all(place == "*" or re.fullmatch(DNS_LABEL, place) for place in places)
    assert spec["hosts"] == [name]
    assert all(re.fullmatch(DNS_LABEL, label) for label in name.split("."))
    assert not name.split(".")[-1].isdecimal()
    assert (spec["location"], spec["resolution"]) == ("MESH_INTERNAL", "STATIC")
    ports = spec["ports"]
    assert isinstance(ports, list)
    (port,) = ports
    assert 1 <= port["number"] <= 65535
    assert port.get("protocol", "tcp").lower() in ISTIO
    selector = spec["workloadSelector"]
    assert isinstance(selector, dict)
    ((key, value),) = selector["labels"].items()
    assert key == "isthmus.mesh/host"
    assert value
    assert LABEL_VALUE.match(value)


@given(registrations(), hosts, namespaces, st.sampled_from(CLUSTERS))
def test_whatever_is_written_is_valid(some: list[Registration], name: str, namespace: str, cluster: str) -> None:
    merged = merge(HostKey(namespace, name), some, ORDER)
    result = translate(merged, owner="dc1", cluster=cluster, namespace="legacy")
    for resource in result.resources:
        validate(resource)
        assert resource.key.namespace == (namespace or "legacy")
    assert len({resource.key for resource in result.resources}) == len(result.resources)
    kinds = [resource.key.kind for resource in result.resources]
    assert kinds == sorted(kinds, reverse=True)
    entries = [resource for resource in result.resources if resource.key.kind == "ServiceEntry"]
    assert [entry.key.name for entry in entries][:1] in ([], [name])
    for alias in merged.aliases:
        written = [entry for entry in entries[1:] if entry.key.name == alias]
        named = [sentence for sentence in result.rejected if f"alias {alias!r}" in sentence]
        assert not entries or len(written) + len(named) == 1
        assert all(entry.spec == {**entries[0].spec, "hosts": [alias]} for entry in written)


@given(registrations(), st.sampled_from(CLUSTERS))
def test_every_endpoint_is_written_or_rejected(some: list[Registration], cluster: str) -> None:
    merged = merge(HostKey("", HOST), some, ORDER)
    result = translate(merged, owner="dc1", cluster=cluster, namespace="legacy")
    written = {
        (resource.spec["address"], resource.spec["ports"]["main"]): resource  # type: ignore[index]
        for resource in result.resources
        if resource.key.kind == "WorkloadEntry"
    }
    meant = [one for one in merged.endpoints if one.clusters is None or cluster in one.clusters]
    assert set(written) <= {(one.address, one.port) for one in meant}
    selector = next((r.spec["workloadSelector"] for r in result.resources if r.key.kind == "ServiceEntry"), None)
    for one in meant:
        resource = written.get((one.address, one.port))
        if resource is None:
            assert any(f"{HOST} at {one.address}, port {one.port} " in sentence for sentence in result.rejected)
        else:
            assert resource.kept is one.kept
            assert json.loads(resource.annotations["isthmus.mesh/source"]) == [list(s) for s in one.sources]
            assert selector == {"labels": {"isthmus.mesh/host": resource.labels["isthmus.mesh/host"]}}
            assert resource.labels["isthmus.mesh/owner"] == "dc1"


@given(registrations(), st.sampled_from(CLUSTERS))
def test_the_service_entry_depends_on_the_host_alone(some: list[Registration], cluster: str) -> None:
    merged = merge(HostKey("", HOST), some, ORDER)
    bare = replace(merged, endpoints=())
    with_endpoints, without = (
        [r for r in translate(one, owner="dc1", cluster=cluster, namespace="ns").resources if r.key.kind[0] == "S"]
        for one in (merged, bare)
    )
    assert with_endpoints == without


@given(st.integers(-1, 70000), st.text(max_size=4))
def test_any_port_and_protocol_of_a_host_are_written_or_named(number: int, protocol: str) -> None:
    given = host(port=Choice(number, "rules[0].port"), protocol=Choice(protocol, "rules[0].protocol"))
    result = translate(given, owner="dc1", cluster="east", namespace="legacy")
    for resource in result.resources:
        validate(resource)
    assert result.resources or result.rejected
