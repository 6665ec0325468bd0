"""Who may write a ServiceEntry that several owners share, what the heir keeps, and whose an alias is."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agent.aliases import uncontested
from agent.authorship import Stated, judge, selector_of, stated
from agent.hosts import Place
from agent.lingering import Abandonment, Counts, SeenTime
from agent.merge import Host, HostKey
from agent.plan import Action, plan
from agent.rules import Choice
from agent.translate import translate
from state.checkpoint import Forsaken
from state.model import AUTHOR, INHERITED, MANAGED_BY, PRODUCT, Held, Resource, ResourceKey
from tests.core import HOST, endpoint, held, host

RULED = Choice(7000, "rules[0].port")
INFERRED = Choice(9443, "metadata port of orders-1")


def entry(owner: str = "dc2", **fields: Any) -> Resource:
    return translate(host(**fields), owner=owner, cluster="east", namespace="legacy").resources[-1]


def theirs(**fields: Any) -> Held:
    return held(entry("dc1", **fields), uid="u1", resource_version="7")


def rules(**fields: Any) -> Stated:
    return stated(host(**fields))


# The author and the adopters


def test_whoever_finds_none_creates_it_and_writes_its_own_as_it_wants_it() -> None:
    mine = entry(port=INFERRED)
    assert judge(mine, None, "dc2", rules(), forsaken=False, some=False).resource == mine
    assert judge(mine, held(entry()), "dc2", rules(), forsaken=False, some=False).resource == mine


def test_what_another_has_written_is_adopted_without_a_word() -> None:
    verdict = judge(entry(port=INFERRED), theirs(), "dc2", rules(port=INFERRED), forsaken=False, some=True)
    assert (verdict.resource, verdict.differs, verdict.unseen) == (None, (), False)


def test_only_what_a_rule_states_otherwise_is_reported() -> None:
    fields: dict[str, Any] = {"port": RULED, "protocol": Choice("GRPC", "metadata protocol of orders-1")}
    verdict = judge(entry(**fields), theirs(), "dc2", rules(**fields), forsaken=False, some=True)
    assert verdict.differs == (f"{HOST}: the ServiceEntry is dc1's: its number is 80, not 7000 (rules[0].port)",)
    assert verdict.resource is None


def test_namespaces_that_a_rule_exports_to_are_reported_too() -> None:
    fields: dict[str, Any] = {"export_to": ("shop",)}
    (told,) = judge(entry(**fields), theirs(), "dc2", rules(**fields), forsaken=False, some=True).differs
    assert told == f"{HOST}: the ServiceEntry is dc1's: its exportTo is none, not shop (a rule's export_to)"


def test_what_is_not_seen_is_asked_for_only_where_it_matters() -> None:
    unseen = replace(theirs(), spec="", spec_digest="")
    assert not judge(entry(), unseen, "dc2", rules(), forsaken=False, some=True).unseen
    assert judge(entry(port=RULED), unseen, "dc2", rules(port=RULED), forsaken=False, some=True).unseen
    verdict = judge(entry(), unseen, "dc2", rules(), forsaken=True, some=True)
    assert (verdict.unseen, verdict.taken) == (True, "")


@pytest.mark.parametrize(("forsaken", "some", "kept"), [(False, True, False), (True, False, False), (True, True, True)])
def test_a_host_stays_with_its_author_unless_that_has_left_and_the_heir_is_there(
    forsaken: bool, some: bool, kept: bool
) -> None:
    mine = replace(entry(), kept=kept)
    verdict = judge(mine, theirs(), "dc2", rules(), forsaken=forsaken, some=some)
    assert (verdict.resource, verdict.taken) == (None, "")


# The heir


def taken(before: Held, **fields: Any) -> Resource:
    verdict = judge(entry(**fields), before, "dc2", rules(**fields), forsaken=True, some=True)
    assert verdict.taken == "author dc1 -> dc2: the one before has no WorkloadEntry here any more"
    assert verdict.resource
    return verdict.resource


def port_of(resource: Resource) -> dict[str, object]:
    ports = resource.spec["ports"]
    assert isinstance(ports, list)
    (port,) = ports
    return dict(port)


def test_an_heir_keeps_what_no_rule_of_its_own_states() -> None:
    before = theirs(protocol=Choice("HTTP", "default"), export_to=("shop",))
    heir = taken(before, port=INFERRED, protocol=Choice("GRPC", "metadata protocol of orders-1"))
    assert heir.spec == json.loads(before.spec)
    assert heir.annotations[AUTHOR] == "dc2"


def test_an_heir_changes_what_its_rules_state() -> None:
    before = theirs(protocol=Choice("HTTP", "default"))
    assert port_of(taken(before, port=RULED)) == {"name": "main", "number": 7000, "protocol": "HTTP"}
    assert taken(before, export_to=("shop",)).spec["exportTo"] == ["shop"]


def test_an_heir_goes_on_so_and_has_nothing_left_to_do() -> None:
    first = taken(theirs(), port=INFERRED, protocol=Choice("GRPC", "metadata protocol of orders-1"))
    after = held(first)
    again = judge(entry(port=INFERRED), after, "dc2", rules(), forsaken=False, some=True).resource
    assert again == first
    assert plan([again], [after], "dc2") == ()
    ruled = judge(entry(port=RULED), after, "dc2", rules(port=RULED), forsaken=False, some=True).resource
    assert ruled
    assert port_of(ruled)["number"] == 7000


@pytest.mark.parametrize(
    "note", ["nonsense", "[1]", '{"number": 99999}', '{"number": true}', '{"protocol": "nonsense"}']
)
def test_an_illegible_note_of_what_was_inherited_means_nothing(note: str) -> None:
    mine = entry(port=INFERRED)
    noted = held(mine, annotations={**mine.annotations, INHERITED: note})
    assert judge(mine, noted, "dc2", rules(), forsaken=False, some=True).resource == mine


def test_a_spec_of_another_form_leaves_nothing_but_its_name() -> None:
    spec = json.dumps({"hosts": [HOST], "ports": [{"name": "a", "number": 1}, {"name": "b", "number": 2}]})
    heir = taken(replace(theirs(), spec=spec), port=INFERRED)
    assert (port_of(heir)["number"], "exportTo" in heir.spec) == (9443, False)


def test_a_takeover_is_one_update_of_the_version_that_was_seen() -> None:
    before = theirs()
    (change,) = plan([entry()], [before], "dc2", {before.key: "because"})
    assert (change.action, change.held, change.why) == (Action.UPDATE, before, "because")
    assert plan([entry()], [before], "dc2") == ()


def test_what_a_service_entry_selects_is_known_by_its_spec() -> None:
    assert selector_of(theirs()) == HOST
    assert selector_of(replace(theirs(), spec="")) is None
    assert selector_of(replace(theirs(), spec='{"hosts": ["x"]}')) == ""


# The time


def test_time_in_which_the_cluster_is_not_seen_does_not_count() -> None:
    seen = SeenTime(0.0)
    counts = Counts(10.0, seen)
    key = theirs().key
    seen.show()
    seen.regain(5.0)
    counts.begin(key, 5.0)
    assert not counts.over(key, 14.0)
    assert counts.over(key, 15.0)
    seen.lose(8.0)
    assert not counts.over(key, 3600.0)
    seen.regain(3600.0)  # with a picture from before
    assert not counts.over(key, 7200.0)
    seen.show()
    seen.regain(7200.0)
    assert not counts.over(key, 7206.0)
    assert counts.over(key, 7207.0)


def test_what_is_due_by_the_wall_but_not_by_what_was_seen_is_due_again_later() -> None:
    seen = SeenTime(0.0)
    seen.show()
    seen.regain(0.0)
    counts = Counts(10.0, seen)
    key = theirs().key
    counts.begin(key, 0.0)
    seen.lose(4.0)
    assert counts.due(11.0) == []
    seen.show()
    seen.regain(11.0)
    assert counts.due(18.0) == [key]


def test_what_has_elapsed_goes_on_after_a_restart_for_the_same_author_of_the_same_object() -> None:
    one = theirs()
    for other in (one, replace(one, uid="u2"), replace(one, annotations={AUTHOR: "dc3"})):
        seen = SeenTime(0.0)
        seen.show()
        seen.regain(0.0)
        counts = Abandonment(900.0, [Forsaken(one.key, "u1", "dc1", 800.0)], seen, 0.0)
        counts.left(other, 0.0)
        assert counts.over(one.key, 100.0) == (other == one)
        assert counts.has_ended() == (other != one)
        assert [row.author for row in counts.rows(100.0)] == [other.owner]


def test_an_author_that_is_back_is_told_once_if_anything_is_remembered_of_it() -> None:
    counts = Abandonment(900.0, [], SeenTime(0.0), 0.0)
    counts.left(theirs(), 0.0)
    counts.stays(theirs().key)
    assert not counts.has_ended()
    counts.left(theirs(), 0.0)
    assert len(counts.rows(0.0)) == 1
    counts.stays(theirs().key)
    assert (counts.has_ended(), counts.has_ended()) == (True, False)


# Aliases


class Names:
    """Hosts as a view knows them."""

    def __init__(self, *hosts: Host) -> None:
        self._hosts = hosts

    def host(self, place: Place, namespace: str) -> Host | None:
        assert namespace == "legacy"
        return next((one for one in self._hosts if one.key.host == place.label), None)

    def claimants(self, alias: str, namespace: str, own: str) -> Iterator[Host]:
        assert (namespace, own) == ("legacy", "legacy")
        yield from sorted((one for one in self._hosts if alias in one.aliases), key=lambda one: one.key.host)


def called(name: str, *aliases: str, **fields: Any) -> Host:
    return host(endpoint(), key=HostKey("", name), aliases=aliases, **fields)


def entries(one: Host, *others: Host) -> tuple[list[str], tuple[str, ...]]:
    resources = translate(one, owner="dc2", cluster="east", namespace="legacy").resources
    left, told = uncontested(one, resources, Names(one, *others), cluster="east", own="legacy")
    return [resource.key.name for resource in left if resource.key.kind == "ServiceEntry"], told


def test_an_alias_that_nobody_else_has_is_the_hosts() -> None:
    assert entries(called("b.internal", "x.example")) == (["b.internal", "x.example"], ())


def test_a_host_of_its_own_comes_before_an_alias() -> None:
    left, told = entries(called("b.internal", "x.example"), called("x.example"))
    assert left == ["b.internal"]
    assert told == ("host b.internal: alias 'x.example' is a host of its own: it is left to that",)
    assert entries(called("x.example"), called("b.internal", "x.example")) == (["x.example"], ())


def test_the_first_host_by_name_has_an_alias_that_two_claim() -> None:
    a, b = called("a.internal", "x.example"), called("b.internal", "x.example")
    assert entries(a, b) == (["a.internal", "x.example"], ())
    left, told = entries(b, a)
    assert left == ["b.internal"]
    assert told == (
        "host b.internal: alias 'x.example' is one of a.internal too, which has it, being the first by name",
    )


def test_a_host_that_is_not_in_this_cluster_takes_no_name_there() -> None:
    away = called("a.internal", "x.example", clusters=("west",)), called("x.example", clusters=())
    assert entries(called("b.internal", "x.example"), *away) == (["b.internal", "x.example"], ())


def test_one_that_names_no_author_is_left_alone_until_its_time_is_over() -> None:
    key = ResourceKey("ServiceEntry", "legacy", HOST)
    nobodys = Held(key=key, labels={MANAGED_BY: PRODUCT}, annotations={}, uid="u1", spec=theirs().spec)
    assert judge(entry(), nobodys, "dc2", rules(), forsaken=False, some=True).resource is None
    verdict = judge(entry(), nobodys, "dc2", rules(), forsaken=True, some=True)
    assert verdict.taken == "author unknown -> dc2: the one before has no WorkloadEntry here any more"
