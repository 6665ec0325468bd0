import pytest

from agent.rules import Choice, Identity, Match, Rule, Rules, carries, port_of, proven_of
from state.model import Absence, Instance
from tests.core import instance, ruling


def rules(*given: Rule) -> Rules:
    return Rules(rules=given, domain="mesh.internal")


def test_without_rules_the_host_is_made_of_service_and_domain() -> None:
    assert rules().ruling("dc1", instance(service="Orders")) == ruling("orders.mesh.internal")


def test_later_rules_win_field_by_field() -> None:
    both = rules(
        Rule(number=0, port=8080, protocol="HTTP", namespace="shop"),
        Rule(number=1, port=9090, host="{service}.shop.internal"),
    )
    decided = both.ruling("dc1", instance())
    assert decided.port == Choice(9090, "rules[1].port")
    assert decided.protocol == Choice("HTTP", "rules[0].protocol")
    assert decided.namespace == Choice("shop", "rules[0].namespace")
    assert decided.host == Choice("orders.shop.internal", "rules[1].host")


def test_labels_merge_and_lists_replace() -> None:
    decided = rules(
        Rule(number=0, labels=(("team", "a"), ("tier", "gold")), clusters=("east", "west")),
        Rule(number=1, labels=(("team", "b"),), clusters=("west",)),
    ).ruling("dc1", instance())
    assert decided.labels == (("team", "b"), ("tier", "gold"))
    assert decided.clusters == ("west",)


def test_aliases_are_filled_as_hosts_are_and_a_later_list_replaces() -> None:
    first = Rule(number=0, aliases=("{service}.service.consul", "{service}.{domain}", "all.{domain}"))
    decided = rules(first).ruling("dc1", instance(service="Order_s"))
    label = str(decided.host.value).partition(".")[0]
    assert decided.aliases == ("all.mesh.internal", f"{label}.mesh.internal", f"{label}.service.consul")
    assert rules(first, Rule(number=1, aliases=())).ruling("dc1", instance()).aliases == ()
    assert rules().ruling("dc1", instance()).aliases == ()


def test_namespaces_and_identity_are_those_of_the_last_rule() -> None:
    decided = rules(
        Rule(number=0, export_to=("shop", "."), identity=Identity("orders", "istio")),
        Rule(number=1, identity=Identity("shop", "disabled")),
    ).ruling("dc1", instance())
    assert decided.export_to == ("shop", ".")
    assert decided.identity == Identity("shop", "disabled")
    bare = rules().ruling("dc1", instance())
    assert (bare.export_to, bare.identity, bare.secure) == (None, None, False)


def test_every_word_of_a_rule_has_its_source() -> None:
    decided = rules(
        Rule(number=0, labels=(("team", "a"), ("tier", "b")), clusters=("east",), secure=True, warning="exclude"),
        Rule(number=1, labels=(("team", "b"),), export_to=("shop",), aliases=("x.y",), skip=False),
    ).ruling("dc1", instance())
    assert dict(decided.sources) == {
        "labels.team": "rules[1].labels",
        "labels.tier": "rules[0].labels",
        "clusters": "rules[0].clusters",
        "secure": "rules[0].secure",
        "warning": "rules[0].warning",
        "export_to": "rules[1].export_to",
        "aliases": "rules[1].aliases",
        "skip": "rules[1].skip",
    }


def test_a_rule_may_choose_the_secure_port_of_an_instance_that_has_both() -> None:
    secure = rules(Rule(number=0, secure=True)).ruling("dc1", instance())
    plain = rules(Rule(number=0, secure=True), Rule(number=1, secure=False)).ruling("dc1", instance())
    both = instance(port=8080, secure_port=8443, proven="HTTP", proven_secure="HTTPS")
    assert (port_of(both, secure), proven_of(both, secure)) == (8443, "HTTPS")
    assert (port_of(both, plain), proven_of(both, plain)) == (8080, "HTTP")
    only_one = instance(port=8443, proven="HTTPS")
    assert (port_of(only_one, secure), proven_of(only_one, secure)) == (8443, "HTTPS")


def test_a_service_is_matched_as_registered_or_in_lower_case() -> None:
    some = rules(Rule(number=0, match=Match(service="orders*"), port=1), Rule(number=1, match=Match(service="BILL*")))
    assert some.ruling("eureka-dc1", instance(service="ORDERS")).port == Choice(1, "rules[0].port")
    shouting = rules(Rule(number=0, match=Match(service="ORDERS"), port=1))
    assert shouting.ruling("eureka-dc1", instance(service="ORDERS")).port == Choice(1, "rules[0].port")
    assert shouting.ruling("consul-dc1", instance(service="orders")).port is None


def test_instances_with_metadata_of_their_own_share_what_the_rules_make_of_it() -> None:
    some = rules(Rule(number=0, match=Match(metadata=(("tier", "gold"),)), port=1))
    one, other = (instance(metadata=(("n", n), ("tier", "gold"))) for n in ("1", "2"))
    assert some.ruling("dc1", one) is some.ruling("dc1", other)


def test_a_later_rule_takes_back_a_skip() -> None:
    skipping = Rule(number=0, skip=True)
    assert rules(skipping).ruling("dc1", instance()).skip == Choice(True, "rules[0].skip")
    assert rules(skipping, Rule(number=1, skip=False)).ruling("dc1", instance()).skip is None


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        (Match(), True),
        (Match(registry="consul-*"), True),
        (Match(registry="eureka-*"), False),
        (Match(service="ord*"), True),
        (Match(service="Ord*"), False),
        (Match(service="ord"), False),
        (Match(tag="public"), True),
        (Match(tag="pub*"), True),
        (Match(tag="Public"), False),
        (Match(metadata=(("tier", "g*"),)), True),
        (Match(metadata=(("tier", "silver"),)), False),
        (Match(metadata=(("absent", "*"),)), False),
        (Match(metadata=(("tier", "gold"), ("zone", "[ab]"))), True),
        (Match(registry="consul-*", service="orders", tag="public", metadata=(("tier", "silver"),)), False),
    ],
)
def test_all_globs_must_match(match: Match, matches: bool) -> None:
    one = instance(tags=("blue", "public"), metadata=(("tier", "gold"), ("zone", "a")))
    decided = rules(Rule(number=0, match=match, port=1)).ruling("consul-dc1", one)
    assert (decided.port is not None) is matches


def test_a_tag_glob_asks_for_a_tag() -> None:
    assert rules(Rule(number=0, match=Match(tag="*"), port=1)).ruling("dc1", instance()).port is None


def test_instances_that_rules_see_differently_are_not_mistaken_for_each_other() -> None:
    some = rules(
        Rule(number=0, match=Match(tag="blue"), port=1),
        Rule(number=1, match=Match(metadata=(("a", "b"),)), port=2),
        Rule(number=2, match=Match(registry="dc2"), port=3),
    )
    assert some.ruling("dc1", instance()).port is None
    assert some.ruling("dc1", instance(tags=("blue",))).port == Choice(1, "rules[0].port")
    assert some.ruling("dc1", instance(metadata=(("a", "b"),))).port == Choice(2, "rules[1].port")
    assert some.ruling("dc2", instance()).port == Choice(3, "rules[2].port")
    assert some.ruling("dc1", instance(service="other")).host.value == "other.mesh.internal"


def test_what_was_asked_of_rules_is_no_part_of_their_value() -> None:
    one, other = rules(Rule(number=0, port=1)), rules(Rule(number=0, port=1))
    one.ruling("dc1", instance())
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == repr(other)


def test_many_rules_with_many_globs_are_all_asked() -> None:
    many = rules(*(Rule(number=n, match=Match(service=f"s{n}-*"), port=n + 1) for n in range(600)))
    for n in (0, 299, 599):
        assert many.ruling("dc1", instance(service=f"s{n}-x")).port == Choice(n + 1, f"rules[{n}].port")


@pytest.mark.parametrize(
    ("one", "carrying"),
    [
        (instance(), True),
        (instance(warning=True), True),
        (instance(weight=0), False),
        (instance(address="", absent_because=Absence.REJECTED), False),
        (instance(address=""), False),
        (instance(rejected="port 0 is not in 1..65535"), True),
        *[(instance(absent_because=absence), False) for absence in Absence if absence],
    ],
)
def test_what_carries_traffic(one: Instance, carrying: bool) -> None:
    assert carries(one, ruling()) is carrying


def test_a_rule_may_exclude_warning_instances_and_skip_any() -> None:
    excluding = rules(Rule(number=0, warning="exclude")).ruling("dc1", instance())
    assert not carries(instance(warning=True), excluding)
    assert carries(instance(), excluding)
    assert not carries(instance(), rules(Rule(number=0, skip=True)).ruling("dc1", instance()))
    including = rules(Rule(number=0, warning="exclude"), Rule(number=1, warning="include"))
    assert carries(instance(warning=True), including.ruling("dc1", instance()))
