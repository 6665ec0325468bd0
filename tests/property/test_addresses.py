"""An address that is told at a glance is what a closer look would tell."""

from ipaddress import IPv4Address, IPv4Network, ip_address

from hypothesis import given
from hypothesis import strategies as st

from agent.validity import address_problem
from hooks.fields import canonical_ip
from state.addresses import is_plain

THIS_NETWORK = IPv4Network("0.0.0.0/8")

dotted = st.lists(
    st.sampled_from(["0", "1", "9", "10", "127", "169", "254", "224", "239", "255", "256", "01", "", "+1"])
)
texts = st.one_of(
    st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str), dotted.map(".".join), st.text(max_size=20)
)


@given(texts)
def test_a_plain_address_is_canonical_and_other_machines_can_reach_it(text: str) -> None:
    if is_plain(text):
        ip = ip_address(text)
        assert isinstance(ip, IPv4Address)
        assert str(ip) == text
        assert True not in (ip.is_loopback, ip.is_link_local, ip.is_unspecified, ip.is_multicast)
        assert canonical_ip(text) == (text, "")
        assert address_problem(text) == ""


@given(st.ip_addresses(v=4))
def test_every_address_that_is_not_plain_is_of_a_special_kind(ip: IPv4Address) -> None:
    special = ip.is_loopback or ip.is_link_local or ip.is_multicast or ip in THIS_NETWORK
    assert is_plain(str(ip)) is not special


@given(st.ip_addresses(v=4).map(str), st.sampled_from(["\n", " ", ".", "%1", "/32", "a"]))
def test_nothing_may_stand_around_it(address: str, more: str) -> None:
    assert not is_plain(f"{more}{address}")
    assert not is_plain(f"{address}{more}")
