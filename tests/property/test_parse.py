from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hooks.consul import parse
from hooks.consul.settings import ConsulSettings
from hooks.fields import LARGEST_WEIGHT, PROTOCOLS, shown
from state.errors import RegistryError
from state.model import Absence, Instance

SETTINGS = ConsulSettings(name="c", url="http://127.0.0.1:8500")

words = st.text(alphabet=st.characters(exclude_categories=()), max_size=6)  # with lone surrogates
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


def mostly(likely: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(likely, likely, likely, junk)


addresses = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(["", "127.0.0.1", "::1", "0.0.0.0", "fe80::1%eth0", "::ffff:10.0.0.1", "a.b", "10.0.0.256"]),
)
ports = st.integers(-1, 65536)
tags = st.lists(words | st.sampled_from(["port=80", "port=x", "port=", "public"]), max_size=3)
meta = st.dictionaries(
    st.sampled_from(["port", "protocol", "version", "zone", "x"]) | words,
    st.sampled_from(["80", "0", "http", "v1", "a/b", "a/b/c", "a b", ""]) | words,
    max_size=4,
)
tagged = st.dictionaries(
    st.sampled_from(["wan", "wan_ipv4", "lan"]), mostly(st.fixed_dictionaries({"Address": addresses, "Port": ports}))
)
checks = st.lists(
    st.fixed_dictionaries(
        {
            "CheckID": st.sampled_from(["serfHealth", "_node_maintenance", "_service_maintenance:a", "c"]),
            "Status": mostly(st.sampled_from(["passing", "warning", "critical"])),
            "ServiceID": st.sampled_from(["", "a"]),
        }
    ),
    max_size=3,
)
nodes = st.fixed_dictionaries(
    {"Node": st.sampled_from(["n1", "n2"]), "Address": mostly(addresses), "Datacenter": mostly(st.just("dc1"))},
    optional={"TaggedAddresses": mostly(st.dictionaries(st.sampled_from(["wan", "lan"]), addresses))},
)
services = st.fixed_dictionaries(
    {
        "ID": st.sampled_from(["a", "b"]),
        "Service": st.sampled_from(["web", "web", "WEB"]),
        "Port": mostly(ports),
        "Address": mostly(addresses),
    },
    optional={
        "Tags": mostly(tags),
        "Meta": mostly(meta),
        "TaggedAddresses": mostly(tagged),
        "Weights": mostly(st.fixed_dictionaries({"Passing": mostly(st.integers(-1, 2**33)), "Warning": st.just(1)})),
        "CreateIndex": mostly(st.integers(0)),
        "Kind": mostly(st.sampled_from(["", "connect-proxy"])),
    },
)
entries: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"Node": nodes, "Service": services, "Checks": checks | st.none()}
)
settings = st.builds(
    ConsulSettings,
    name=st.just("c"),
    url=st.just("http://127.0.0.1:8500"),
    address=st.sampled_from(["lan", "wan"]),
    region=st.sampled_from(["", "eu", "eu/west"]),
    metadata_prefix=st.sampled_from(["", "x"]),
)


@given(junk | st.lists(junk) | st.lists(mostly(entries), max_size=3))
def test_whatever_comes_is_parsed_or_a_registry_error(body: object) -> None:
    with suppress(RegistryError):
        parse.snapshot(SETTINGS, "web", body)
    with suppress(RegistryError):
        parse.services(SETTINGS, body)
    with suppress(RegistryError):
        parse.nodes(body)
    with suppress(RegistryError):
        parse.checks(body)


@given(settings, st.lists(entries, max_size=4))
def test_no_field_of_an_instance_makes_the_whole_an_error(settings: ConsulSettings, body: list[Any]) -> None:
    instances = parse.snapshot(settings, "web", body).instances
    listed = {
        (entry["Node"]["Node"], entry["Service"]["ID"])
        for entry in body
        if entry["Service"]["Service"] == "web" and entry["Service"].get("Kind") != "connect-proxy"
    }
    assert {instance.key[1:] for instance in instances} == listed
    for instance in instances:
        assert_valid(instance)


def assert_valid(instance: Instance) -> None:
    if instance.rejected:
        assert instance.address == ""
        assert instance.absent_because is not Absence.NONE
    else:
        ip = ip_address(instance.address)
        assert str(ip) == instance.address
        assert True not in (ip.is_loopback, ip.is_unspecified, ip.is_link_local, ip.is_multicast)
        assert getattr(ip, "scope_id", None) is None
        assert getattr(ip, "ipv4_mapped", None) is None
        assert 1 <= instance.port <= 65535
        assert instance.absent_because is not Absence.REJECTED
    assert not (instance.warning and instance.absent_because not in (Absence.NONE, Absence.REJECTED))
    assert 0 <= instance.weight <= LARGEST_WEIGHT
    assert 0 <= instance.service_port <= 65535
    assert bool(instance.service_port) == bool(instance.service_port_from)
    assert instance.protocol in {"", *PROTOCOLS}
    assert instance.locality.count("/") < 3
    assert list(instance.tags) == sorted(set(instance.tags))
    assert list(instance.metadata) == sorted(set(instance.metadata))
    repr(instance).encode()
    "".join((*instance.tags, *map("".join, instance.metadata), instance.rejected, *instance.dropped)).encode()


@given(settings, entries.filter(lambda entry: entry["Service"]["Service"] == "web"))
def test_a_rejection_names_the_value(settings: ConsulSettings, entry: dict[str, Any]) -> None:
    for instance in parse.snapshot(settings, "web", [entry]).instances:
        if instance.rejected:
            service, node = entry["Service"], entry["Node"]
            candidates = [service["Port"], service["Address"], node["Address"]]
            for registered in (service.get("TaggedAddresses"), node.get("TaggedAddresses")):
                candidates.append(registered)
                places = registered.values() if isinstance(registered, dict) else ()
                for place in places:
                    candidates += (
                        [place, *(place.get(key) for key in ("Address", "Port"))]
                        if isinstance(place, dict)
                        else [place]
                    )
            assert any(shown(value) in instance.rejected for value in candidates)


@given(st.lists(entries, max_size=4, unique_by=lambda entry: (entry["Node"]["Node"], entry["Service"]["ID"])))
def test_the_order_of_an_answer_means_nothing(body: list[Any]) -> None:
    assert parse.snapshot(SETTINGS, "web", body) == parse.snapshot(SETTINGS, "web", body[::-1])
