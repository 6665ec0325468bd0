from dataclasses import replace
from fnmatch import fnmatchcase
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from agent.naming import service_label
from agent.rules import Identity, Match, Rule, Rules
from state.model import Instance
from tests.core import instance
from tests.property.core import clusters

globs = st.sampled_from(["*", "a*", "a", "b", "A", "[ab]", "?"])
words = st.sampled_from(["a", "b", "ab", "A"])
matches = st.builds(
    Match,
    registry=globs,
    service=globs,
    tag=st.none() | globs,
    metadata=st.dictionaries(words, globs, max_size=2).map(lambda given: tuple(given.items())),
)
FIELDS = [
    *("host", "aliases", "namespace", "port", "protocol", "clusters"),
    *("secure", "export_to", "identity", "warning", "skip"),
]
rule_lists = st.lists(
    st.builds(
        Rule,
        number=st.just(0),
        match=matches,
        host=st.none() | st.sampled_from(["{service}.x", "{service}.{domain}", "y"]),
        aliases=st.none() | st.lists(st.sampled_from(["{service}.x", "{domain}", "z"]), max_size=2).map(tuple),
        namespace=st.none() | words,
        labels=st.dictionaries(words, words, max_size=2).map(lambda given: tuple(given.items())),
        port=st.none() | st.sampled_from([1, 2, "instance"]),
        protocol=st.none() | st.sampled_from(["HTTP", "TCP"]),
        clusters=clusters,
        secure=st.sampled_from([None, True, False]),
        export_to=st.none() | st.lists(words, min_size=1, max_size=2).map(tuple),
        identity=st.none() | st.builds(Identity, words, st.sampled_from(["istio", "disabled"])),
        warning=st.sampled_from([None, "include", "exclude"]),
        skip=st.sampled_from([None, True, False]),
    ),
    max_size=6,
).map(lambda given: tuple(replace(rule, number=number) for number, rule in enumerate(given)))
seen = st.tuples(
    words,
    st.builds(
        lambda service, tags, metadata: instance(service=service, tags=tuple(tags), metadata=tuple(metadata.items())),
        words,
        st.lists(words, max_size=2),
        st.dictionaries(words, words, max_size=2),
    ),
)


def matching(rule: Rule, registry: str, one: Instance) -> bool:
    match = rule.match
    return (
        fnmatchcase(registry, match.registry)
        and any(fnmatchcase(name, match.service) for name in (one.key.service, one.key.service.lower()))
        and (match.tag is None or any(fnmatchcase(tag, match.tag) for tag in one.tags))
        and all(any(k == key and fnmatchcase(v, glob) for k, v in one.metadata) for key, glob in match.metadata)
    )


@given(rule_lists, st.lists(seen, min_size=1, max_size=5))
def test_rulings_are_what_applying_rule_after_rule_gives(
    given_rules: tuple[Rule, ...], asked: list[tuple[str, Instance]]
) -> None:
    rules = Rules(rules=given_rules, domain="d")
    for registry, one in [*asked, *asked]:
        chosen: dict[str, tuple[object, str]] = {}
        labels: dict[str, str] = {}
        sources: dict[str, str] = {}
        for rule in given_rules:
            if matching(rule, registry, one):
                labels.update(rule.labels)
                sources.update((f"labels.{key}", f"rules[{rule.number}].labels") for key, _ in rule.labels)
                for name in FIELDS:
                    if getattr(rule, name) is not None:
                        chosen[name] = getattr(rule, name), f"rules[{rule.number}].{name}"
        ruling = rules.ruling(registry, one)
        template, source = chosen.get("host", ("{service}.{domain}", "default"))
        host = str(template).format(service=service_label(one.key.service), domain="d")
        assert tuple(ruling.host) == (host, source)
        for name in ("namespace", "port", "protocol"):
            found = getattr(ruling, name)
            assert (None if found is None else tuple(found)) == chosen.get(name)
        assert ruling.labels == tuple(sorted(labels.items()))
        assert ruling.clusters == chosen.get("clusters", (None, ""))[0]
        templates = cast(tuple[str, ...], chosen.get("aliases", ((), ""))[0])
        filled = {template.format(service=service_label(one.key.service), domain="d") for template in templates}
        assert ruling.aliases == tuple(sorted(filled))
        assert ruling.secure is chosen.get("secure", (False, ""))[0]
        assert ruling.export_to == chosen.get("export_to", (None, ""))[0]
        assert ruling.identity == chosen.get("identity", (None, ""))[0]
        assert dict(ruling.sources) == sources | {name: source for name, (_, source) in chosen.items()}
        assert ruling.warning is (chosen.get("warning", ("include", ""))[0] == "include")
        assert (ruling.skip is not None) is bool(chosen.get("skip", (False, ""))[0])


@given(rule_lists, seen)
def test_a_rule_without_a_word_changes_nothing(given_rules: tuple[Rule, ...], asked: tuple[str, Instance]) -> None:
    silent = Rule(number=len(given_rules))
    assert Rules((*given_rules, silent), "d").ruling(*asked) == Rules(given_rules, "d").ruling(*asked)
