import re
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from agent.naming import fill, host_label, host_problem, service_label, workload_entry_name

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
LABEL_VALUE = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")

look_alikes = st.text(alphabet="aAkK1-_. \N{KELVIN SIGN}а\N{ROCKET}", max_size=6)  # noqa: RUF001
lengthy = st.builds(lambda length, end: "a" * length + end, st.integers(50, 70), look_alikes)
services = st.text() | st.text(st.characters(codec=None)) | look_alikes | lengthy
dns_labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
hosts = (
    st.lists(dns_labels, min_size=1, max_size=8)
    .map(".".join)
    .filter(lambda host: len(host) <= 253 and host_problem(host) == "")
)
addresses = st.ip_addresses().map(str) | st.sampled_from(["10.0.0.1", "10.0.0.11", "::1", "1::", "1::1"])
ports = st.integers(1, 65535) | st.sampled_from([1, 11])


@given(services)
def test_every_service_has_a_valid_label(service: str) -> None:
    label = service_label(service)
    assert LABEL.match(label)
    assert len(label) <= 63


@given(st.lists(services, max_size=30))
def test_services_share_a_label_only_if_they_differ_in_case_alone(names: list[str]) -> None:
    owners: dict[str, str] = {}
    for name in names:
        lower = owners.setdefault(service_label(name), name.lower())
        assert lower == name.lower()


@given(services.filter(str.isascii))
def test_case_makes_no_difference(service: str) -> None:
    assert service_label(service) == service_label(service.upper()) == service_label(service.lower())


@given(dns_labels)
def test_a_name_that_is_a_label_stays(service: str) -> None:
    assert service_label(service) == service


@given(services)
def test_every_service_gives_a_host(service: str) -> None:
    assert host_problem(fill("{service}.{domain}", service, "mesh.internal")) == ""


@given(hosts, addresses, ports)
def test_every_endpoint_has_a_valid_name(host: str, address: str, port: int) -> None:
    name = workload_entry_name(host, address, port)
    assert SUBDOMAIN.match(name)
    assert len(name) <= 253


@given(st.lists(st.tuples(st.sampled_from(["a.b", "a.c", "a-1"]) | hosts, addresses, ports), max_size=30))
def test_no_two_endpoints_share_a_name(endpoints: list[tuple[str, str, int]]) -> None:
    assert len({workload_entry_name(*endpoint) for endpoint in endpoints}) == len(set(endpoints))


@given(st.lists(hosts, max_size=10))
def test_hosts_have_labels_of_their_own(some: list[str]) -> None:
    labels = {host_label(host) for host in some}
    assert len(labels) == len(set(some))
    assert all(LABEL_VALUE.match(label) and len(label) <= 63 for label in labels)


@given(services | hosts | st.lists(look_alikes, max_size=5).map(".".join))
def test_what_passes_as_a_host_is_a_dns_name(host: str) -> None:
    if host_problem(host) == "":
        assert SUBDOMAIN.match(host)
        assert len(host) <= 253
        assert all(len(label) <= 63 for label in host.split("."))
        assert not host.rpartition(".")[2].isdecimal()
        assert ".svc." not in host.partition(".")[2]
    else:
        assert host_problem(host)


def test_the_longest_name_fits() -> None:
    address = str(IPv6Address(2**128 - 1))
    assert len(workload_entry_name("x" * 63, address, 65535)) < 253
    assert workload_entry_name("a", str(IPv4Address(0)), 1) != workload_entry_name("a", str(IPv4Address(1)), 1)
