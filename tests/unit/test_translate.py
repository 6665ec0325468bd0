from json import loads
from typing import Literal

import pytest

from agent.merge import Endpoint, Host, HostKey
from agent.rules import Choice, Identity
from agent.translate import Translation, translate
from state.model import Resource, digest_of
from tests.core import HOST, endpoint, host


def translated(given: Host, cluster: str = "east") -> Translation:
    return translate(given, owner="dc1", cluster=cluster, namespace="legacy")


def entry(given: Endpoint) -> Resource:
    result = translated(host(given))
    assert result.rejected == ()
    return result.resources[0]


def test_the_objects_are_those_of_the_design() -> None:
    one = endpoint(
        locality="eu-west/eu-west-1a",
        weight=10,
        version="v3",
        service="orders",
        sources=(("consul-dc1", "orders", "node-7", "orders-1"),),
    )
    result = translated(host(one, protocol=Choice("HTTP", "rules[0].protocol")))
    assert result.rejected == ()
    workload, service = (resource.manifest() for resource in result.resources)
    assert service == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {
            "name": HOST,
            "namespace": "legacy",
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
    labels = {
        "app.kubernetes.io/managed-by": "isthmus",
        "isthmus.mesh/host": HOST,
        "isthmus.mesh/owner": "dc1",
        "service.istio.io/canonical-name": "orders",
        "service.istio.io/canonical-revision": "v3",
        "security.istio.io/tlsMode": "disabled",
    }
    source = '[["consul-dc1","orders","node-7","orders-1"]]'
    spec = {"address": "10.1.2.3", "ports": {"main": 8443}, "locality": "eu-west/eu-west-1a", "weight": 10}
    assert workload == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {
            "name": "orders-10.1.2.3-8443-2567c975",
            "namespace": "legacy",
            "labels": labels,
            "annotations": {
                "isthmus.mesh/source": source,
                "isthmus.mesh/digest": digest_of({"labels": labels, "source": source, "spec": spec}),
            },
        },
        "spec": spec,
    }


def test_what_is_not_known_is_left_out() -> None:
    bare = entry(endpoint())
    assert bare.spec == {"address": "10.1.2.3", "ports": {"main": 8443}, "weight": 1}
    assert "service.istio.io/canonical-revision" not in bare.labels
    service = translated(host()).resources[-1]
    assert service.spec["ports"] == [{"name": "main", "number": 80}]


def test_the_canonical_name_is_the_label_of_the_service() -> None:
    assert entry(endpoint(service="Orders")).labels["service.istio.io/canonical-name"] == "orders"


def test_sources_are_readable_whatever_their_characters_are() -> None:
    sources = (("dc1", "\ud800\N{ROCKET}", 'no"de', "a\n"), ("dc2", "orders", "n", "b"))
    text = entry(endpoint(sources=sources)).annotations["isthmus.mesh/source"]
    assert text.isascii()
    assert loads(text) == [list(source) for source in sources]


def test_a_host_without_endpoints_is_a_service_entry() -> None:
    assert [resource.key.kind for resource in translated(host()).resources] == ["ServiceEntry"]


def test_a_namespace_of_the_host_wins_over_the_clusters() -> None:
    result = translated(host(endpoint(), key=HostKey("shop", HOST)))
    assert {resource.key.namespace for resource in result.resources} == {"shop"}


def test_a_cluster_gets_what_is_meant_for_it() -> None:
    both = host(
        endpoint("10.0.0.1", clusters=("east",)),
        endpoint("10.0.0.2", clusters=("west",)),
        clusters=("east", "west"),
    )
    for cluster, address in (("east", "10.0.0.1"), ("west", "10.0.0.2")):
        workload, service = translated(both, cluster).resources
        assert workload.spec["address"] == address
        assert service.key.kind == "ServiceEntry"
    assert translated(both, "north") == Translation()
    assert translated(host(clusters=())) == Translation()


def test_an_alias_is_one_more_service_entry_that_selects_the_same() -> None:
    given = host(
        endpoint(),
        aliases=("orders.internal", "orders.service.consul"),
        port=Choice(8080, "rules[0].port"),
        protocol=Choice("HTTP", "rules[0].protocol"),
        export_to=("shop",),
    )
    result = translated(given)
    assert result.rejected == ()
    workload, first, *aliases = result.resources
    assert workload.labels["isthmus.mesh/host"] == HOST
    assert [alias.key.name for alias in aliases] == ["orders.internal", "orders.service.consul"]
    for alias in aliases:
        assert (alias.key.kind, alias.key.namespace) == ("ServiceEntry", "legacy")
        assert alias.spec == {**first.spec, "hosts": [alias.key.name]}
        assert alias.spec["workloadSelector"] == {"labels": {"isthmus.mesh/host": HOST}}
        assert (alias.labels, alias.annotations) == (first.labels, first.annotations)


def test_an_alias_that_cannot_be_is_named_and_stops_nothing_else() -> None:
    result = translated(host(endpoint(), aliases=(HOST, "a_b.internal", "orders.internal", "x.svc.cluster.local")))
    assert [resource.key.name for resource in result.resources[1:]] == [HOST, "orders.internal"]
    same, underscore, kubernetes = result.rejected
    assert same == f"host {HOST}: alias '{HOST}': it is the host itself"
    assert underscore.startswith(f"host {HOST}: alias 'a_b.internal': 'a_b' is no lower-case DNS label")
    assert kubernetes.endswith("belong to Kubernetes Services")


@pytest.mark.parametrize(
    ("given", "written", "reason"),
    [
        (("bank", "shop"), ["bank", "shop"], ""),
        ((".",), ["."], ""),
        ((".", "legacy"), ["legacy"], ""),
        (("*", "shop"), ["*"], ""),
        (("Shop", "bank"), ["bank"], "exportTo 'Shop' is no namespace"),
        (("Shop",), ["."], "exportTo 'Shop' is no namespace"),
    ],
)
def test_the_namespaces_that_see_a_host_are_written_as_istio_takes_them(
    given: tuple[str, ...], written: list[str], reason: str
) -> None:
    result = translated(host(export_to=given))
    assert result.resources[0].spec["exportTo"] == written
    assert len(result.rejected) == bool(reason)
    assert all(reason in sentence for sentence in result.rejected)
    assert "exportTo" not in translated(host()).resources[0].spec


@pytest.mark.parametrize("tls", ["istio", "disabled"])
def test_an_identity_is_a_service_account_and_how_to_talk_to_it(tls: Literal["istio", "disabled"]) -> None:
    granted = entry(endpoint(identity=Identity("orders", tls)))
    assert granted.spec["serviceAccount"] == "orders"
    assert granted.labels["security.istio.io/tlsMode"] == tls
    bare = entry(endpoint())
    assert "serviceAccount" not in bare.spec
    assert bare.labels["security.istio.io/tlsMode"] == "disabled"
    assert granted.annotations["isthmus.mesh/digest"] != bare.annotations["isthmus.mesh/digest"]


def test_an_identity_that_cannot_be_grants_nothing() -> None:
    result = translated(host(endpoint(identity=Identity("Or ders", "istio"))))
    workload = result.resources[0]
    assert "serviceAccount" not in workload.spec
    assert workload.labels["security.istio.io/tlsMode"] == "disabled"
    (sentence,) = result.rejected
    assert sentence.endswith("service account 'Or ders' is no DNS name: it gets no identity")


def test_what_is_kept_says_so() -> None:
    workload, service = translated(host(endpoint(kept=True))).resources
    assert workload.kept
    assert not service.kept
    first, alias = translated(host(kept=True, aliases=("orders.internal",))).resources
    assert (first.kept, alias.kept) == (True, True)


def test_a_long_host_is_selected_by_its_cut_label() -> None:
    long = "a" * 60 + ".mesh.internal"
    workload, service = translated(host(endpoint(), key=HostKey("", long))).resources
    label = workload.labels["isthmus.mesh/host"]
    assert len(label) == 63
    assert service.spec["workloadSelector"] == {"labels": {"isthmus.mesh/host": label}}
    assert service.spec["hosts"] == [long]


def test_labels_of_rules_never_replace_ours_or_istios() -> None:
    labels = (("isthmus.mesh/owner", "dc9"), ("istio.io/rev", "canary"), ("team", "shop"), ("bad key", "x"))
    result = translated(host(endpoint(labels=labels), endpoint("10.0.0.2", labels=labels)))
    for workload in result.resources[:2]:
        assert workload.labels["team"] == "shop"
        assert workload.labels["isthmus.mesh/owner"] == "dc1"
        assert "istio.io/rev" not in workload.labels
    assert result.rejected == (
        f"host {HOST}: label isthmus.mesh/owner: 'dc9' is not for a rule to set",
        f"host {HOST}: label istio.io/rev: 'canary' is not for a rule to set",
        f"host {HOST}: label 'bad key' is no valid key",
    )


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (endpoint("127.0.0.1"), "address '127.0.0.1' is a loopback address"),
        (endpoint("db.internal"), "address 'db.internal' is no IP address"),
        (endpoint(port=0), "port 0 is not in 1..65535"),
        (endpoint(port=65536), "port 65536 is not in 1..65535"),
        (endpoint(sources=(("dc1", "s", "n", "x" * 300_000),)), "do not fit into an annotation"),
    ],
)
def test_an_invalid_endpoint_is_named_and_stops_nothing_else(bad: Endpoint, reason: str) -> None:
    result = translated(host(bad, endpoint("10.0.0.9")))
    assert [resource.spec.get("address") for resource in result.resources] == ["10.0.0.9", None]
    (sentence,) = result.rejected
    assert reason in sentence
    assert sentence.startswith(f"{HOST} at {bad.address}, port {bad.port} (dc1/")


@pytest.mark.parametrize(
    ("bad", "spec", "reason"),
    [
        (endpoint(locality="a/b/c/d"), {"weight": 1}, "locality 'a/b/c/d' is not 1 to 3 segments"),
        (endpoint(weight=2**32), {"weight": 1}, "weight 4294967296 is not in 1..4294967295"),
        (endpoint(version="v 3"), {"weight": 1}, "'v 3' is no valid value"),
    ],
)
def test_an_invalid_optional_value_is_dropped_and_named(bad: Endpoint, spec: dict[str, object], reason: str) -> None:
    result = translated(host(bad))
    assert result.resources[0].spec == {"address": "10.1.2.3", "ports": {"main": 8443}, **spec}
    assert "service.istio.io/canonical-revision" not in result.resources[0].labels
    (sentence,) = result.rejected
    assert reason in sentence
    assert "dc1/orders/node-1/orders-1" in sentence


def test_an_unknown_protocol_is_dropped_and_named() -> None:
    result = translated(host(protocol=Choice("SMTP", "rules[3].protocol")))
    assert result.resources[0].spec["ports"] == [{"name": "main", "number": 80}]
    assert result.rejected == (f"host {HOST}: protocol 'SMTP' is none of Istio's (rules[3].protocol)",)


def test_an_invalid_port_of_the_host_leaves_its_endpoints() -> None:
    result = translated(host(endpoint(), port=Choice(0, "rules[3].port")))
    assert [resource.key.kind for resource in result.resources] == ["WorkloadEntry"]
    assert result.rejected == (f"host {HOST}: port 0 is not in 1..65535 (rules[3].port)",)


@pytest.mark.parametrize(
    ("key", "owner", "word"),
    [
        (HostKey("", "*.mesh"), "dc1", "'*'"),
        (HostKey("Shop", HOST), "dc1", "namespace 'Shop'"),
        (HostKey("", HOST), "", "owner is empty"),
        (HostKey("", HOST), "d c", "'d c'"),
    ],
)
def test_an_invalid_host_is_rejected_whole(key: HostKey, owner: str, word: str) -> None:
    result = translate(host(endpoint(), key=key), owner=owner, cluster="east", namespace="legacy")
    assert result.resources == ()
    (sentence,) = result.rejected
    assert word in sentence
    assert key.host in sentence
