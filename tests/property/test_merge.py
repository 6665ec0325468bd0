from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.merge import Host, Registration, merge
from agent.rules import carries, port_of
from state.model import Absence, Reason
from tests.core import KEY
from tests.property.core import ORDER, registrations

SETTLED = (None, None, Reason.LOOK, Reason.HOLD, Reason.PANIC)


def merged(some: list[Registration]) -> Host:
    return merge(KEY, some, ORDER)


@given(registrations(), st.data())
def test_the_order_of_registrations_makes_no_difference(some: list[Registration], data: st.DataObject) -> None:
    assert merged(data.draw(st.permutations(some))) == merged(some)


@given(registrations())
def test_to_be_told_twice_makes_no_difference(some: list[Registration]) -> None:
    assert merged([*some, *some]) == merged(some)


@given(registrations())
def test_skipped_registrations_make_no_difference(some: list[Registration]) -> None:
    assert merged([one for one in some if one.ruling.skip is None]) == merged(some)


def place(one: Registration) -> tuple[str, int]:
    return one.instance.address, port_of(one.instance, one.ruling)


def word_of_registry(of_one: list[Registration]) -> Registration:
    """Return whose word counts, by knocking out one candidate after another."""
    left = list(of_one)
    for better in (
        lambda a, b: a.waits is None and b.waits is not None,
        lambda a, b: a.instance.registered > b.instance.registered,
        lambda a, b: a.instance.key > b.instance.key,
    ):
        left = [b for b in left if not any(better(a, b) for a in left)]
    (one,) = left
    return one


def expected(some: list[Registration]) -> dict[tuple[str, int], bool]:
    """Return (address, port) -> kept, as plainly as it can be said."""
    endpoints: dict[tuple[str, int], bool] = {}
    for address, port in {place(one) for one in some if one.instance.address}:
        here = [one for one in some if place(one) == (address, port)]
        if any(one.instance.absent_because is not Absence.NODE_CRITICAL for one in here):
            here = [one for one in here if one.instance.absent_because is not Absence.NODE_CRITICAL]
        words = [
            word_of_registry([one for one in here if one.registry == registry])
            for registry in {one.registry for one in here}
        ]
        if all(carries(one.instance, one.ruling) for one in words):
            endpoints[address, port] = not any(one.waits is None for one in words)
    return endpoints


@given(registrations())
def test_endpoints_are_what_the_most_pessimistic_registry_leaves(some: list[Registration]) -> None:
    listed = [one for one in some if one.ruling.skip is None]
    lasting = [one for one in listed if one.waits is not Reason.GRACE]
    counting = lasting if expected(lasting) else listed
    host = merged(some)
    assert {(one.address, one.port): one.kept for one in host.endpoints} == expected(counting)
    assert [(one.address, one.port) for one in host.endpoints] == sorted(expected(counting))
    ended = {(one.registry, one.instance.key) for one in listed if one not in counting}
    assert set(host.ended) == ended
    for endpoint in host.endpoints:
        assert endpoint.sources == tuple(
            sorted(
                (one.registry, *one.instance.key) for one in counting if place(one) == (endpoint.address, endpoint.port)
            )
        )


@given(registrations())
def test_the_fields_come_from_the_first_registry_that_says_something(some: list[Registration]) -> None:
    by_source = {(one.registry, *one.instance.key): one for one in some}
    for endpoint in merged(some).endpoints:
        here = [by_source[source] for source in endpoint.sources]
        speaking = [one for one in here if one.instance.absent_because is not Absence.NODE_CRITICAL]
        first = min({one.registry for one in speaking}, key=ORDER.index)
        one = word_of_registry([one for one in speaking if one.registry == first])
        assert endpoint.weight == one.instance.weight
        assert endpoint.locality == one.instance.locality
        assert endpoint.version == one.instance.version
        assert endpoint.service == one.instance.key.service
        assert (endpoint.labels, endpoint.clusters) == (one.ruling.labels, one.ruling.clusters)
        assert endpoint.identity == one.ruling.identity


@given(registrations())
def test_a_word_against_an_endpoint_never_adds_one(some: list[Registration]) -> None:
    before = {(one.address, one.port) for one in merged(some).endpoints}
    for number, one in enumerate(some):
        if one.waits is None:
            worse = replace(one, instance=replace(one.instance, absent_because=Absence.CRITICAL))
            host = merged([*some[:number], worse, *some[number + 1 :]])
            # Grace may bring back what has nothing else; nothing else may.
            assert {(e.address, e.port) for e in host.endpoints if not e.kept} <= before


@given(registrations(SETTLED), st.data())
def test_health_moves_neither_port_nor_protocol_nor_clusters(some: list[Registration], data: st.DataObject) -> None:
    flipped = [
        replace(
            one,
            instance=replace(
                one.instance,
                absent_because=data.draw(st.sampled_from(Absence)),
                warning=data.draw(st.booleans()),
                weight=data.draw(st.sampled_from([0, 1])),
            ),
            waits=data.draw(st.sampled_from(SETTLED)),
        )
        for one in some
    ]
    one, other = merged(some), merged(flipped)
    assert (one.port, one.protocol, one.clusters) == (other.port, other.protocol, other.clusters)
    assert (one.aliases, one.export_to) == (other.aliases, other.export_to)
    assert one.disagreements == other.disagreements


@given(registrations(SETTLED))
def test_the_port_is_what_most_want(some: list[Registration]) -> None:
    votes: Counter[int] = Counter()
    for one in some:
        if one.ruling.skip is None:
            ruled = one.ruling.port.value if one.ruling.port else one.instance.service_port or 80
            number = place(one)[1] if ruled == "instance" else int(ruled)
            votes.update([number] if 1 <= number <= 65535 else [])
    most = max(votes.values(), default=0)
    assert merged(some).port.value == min((port for port in votes if votes[port] == most), default=80)
    assert any("the port" in sentence for sentence in merged(some).disagreements) is (len(votes) > 1)


@given(registrations(SETTLED))
def test_a_protocol_is_what_most_say_or_else_what_all_prove(some: list[Registration]) -> None:
    listed = [one for one in some if one.ruling.skip is None]
    proofs = {
        id(one): one.instance.proven_secure if one.ruling.secure and one.instance.secure_port else one.instance.proven
        for one in listed
    }
    said = {id(one): str(one.ruling.protocol.value) if one.ruling.protocol else one.instance.protocol for one in listed}
    protocol = merged(some).protocol
    if any(said.values()):
        votes = Counter(said[id(one)] for one in listed if said[id(one)] or not proofs[id(one)])
        wanted = min(votes, key=lambda word: (-votes[word], word))
    else:
        # Only what has an address can be asked for a proof.
        proven = {proofs[id(one)] for one in listed if one.instance.address}
        wanted = proven.pop() if len(proven) == 1 else ""
    assert (protocol.value if protocol else "") == wanted


@given(registrations(SETTLED))
def test_aliases_and_namespaces_are_what_rules_say_of_the_listed(some: list[Registration]) -> None:
    host = merged(some)
    listed = [one for one in some if one.ruling.skip is None]
    assert host.aliases == tuple(sorted({alias for one in listed for alias in one.ruling.aliases}))
    saying = [one for one in listed if one.ruling.export_to is not None]
    if saying:
        first = min(saying, key=lambda one: (ORDER.index(one.registry), one.instance.key))
        assert host.export_to == tuple(sorted(first.ruling.export_to or ()))
    else:
        assert host.export_to is None
    differ = len({tuple(sorted(one.ruling.export_to or ())) for one in saying}) > 1
    assert any("the namespaces" in sentence for sentence in host.disagreements) is differ


@given(registrations())
def test_a_host_is_needed_while_anything_is_listed(some: list[Registration]) -> None:
    host = merged(some)
    ended = set(host.ended)
    needed = [one.ruling.clusters for one in some if one.ruling.skip is None]
    if not needed:
        assert host.clusters == ()
    elif not ended:
        everywhere = None in needed
        assert host.clusters == (None if everywhere else tuple(sorted({c for some in needed for c in some or ()})))
    else:
        assert host.endpoints
