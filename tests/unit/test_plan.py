from dataclasses import replace
from typing import Any

from agent.merge import Endpoint
from agent.plan import Action, Change, plan
from agent.translate import translate
from state.model import AUTHOR, OWNER_LABEL, Resource
from tests.core import endpoint, held, host

OWNER = "dc1"


def resources(*endpoints: Endpoint, owner: str = OWNER, **fields: Any) -> tuple[Resource, ...]:
    return translate(host(*endpoints, **fields), owner=owner, cluster="east", namespace="legacy").resources


def words(changes: tuple[Change, ...]) -> list[str]:
    return [f"{change.action} {change.key.kind}" for change in changes]


def test_a_new_host_gets_its_workload_entries_first() -> None:
    changes = plan(reversed(resources(endpoint("10.0.0.2"), endpoint("10.0.0.1"))), [], OWNER)
    assert words(changes) == ["+ WorkloadEntry", "+ WorkloadEntry", "+ ServiceEntry"]
    assert [change.why for change in changes] == ["new endpoint", "new endpoint", "new host"]
    assert [change.key for change in changes[:2]] == sorted(change.key for change in changes[:2])
    assert all(change.resource and change.held is None for change in changes)


def test_what_is_as_desired_needs_nothing() -> None:
    desired = resources(endpoint())
    assert plan(desired, map(held, desired), OWNER) == ()


def test_what_is_no_longer_desired_goes_after_what_replaces_it() -> None:
    old, service = resources(endpoint("10.0.0.9"))
    new = resources(endpoint("10.0.0.1"))
    changes = plan(new, [held(old), held(service)], OWNER)
    assert words(changes) == ["+ WorkloadEntry", "- WorkloadEntry"]
    assert changes[1] == Change(Action.DELETE, old.key, None, held(old), "no longer desired")
    assert words(plan([], [held(service), held(old)], OWNER)) == ["- WorkloadEntry", "- ServiceEntry"]


def test_a_changed_spec_is_an_update_that_says_so() -> None:
    before, after = resources(endpoint()), resources(endpoint(weight=10))
    (change,) = plan(after, map(held, before), OWNER)
    assert (change.action, change.why) == (Action.UPDATE, "spec differs")
    assert change.resource == after[0]
    assert change.held == held(before[0])


def test_a_spec_that_is_not_known_is_written_again() -> None:
    desired = resources(endpoint())
    (change,) = plan(desired, [held(desired[0], spec_digest=""), held(desired[1])], OWNER)
    assert change.why == "spec unknown"


def test_labels_and_annotations_that_differ_are_named() -> None:
    before = resources(endpoint(labels=(("team", "a"), ("tier", "gold"))))
    after = resources(endpoint(labels=(("team", "b"),), sources=(("dc1", "orders", "node-1", "other"),)))
    (change,) = plan(after, map(held, before), OWNER)
    assert change.why == "label team: a -> b, label tier no longer desired, annotation isthmus.mesh/source differs"


def test_a_digest_that_somebody_changed_is_mended() -> None:
    desired = resources(endpoint())
    annotations = {**desired[0].annotations, "isthmus.mesh/digest": "0"}
    (change,) = plan(desired, [held(desired[0], annotations=annotations), held(desired[1])], OWNER)
    assert change.why == "annotation isthmus.mesh/digest differs"


def test_labels_and_annotations_of_others_are_left_alone() -> None:
    desired = resources(endpoint())
    decorated = [
        held(one, labels={**one.labels, "foreign": "x"}, annotations={**one.annotations, "foreign": "y"})
        for one in desired
    ]
    assert plan(desired, decorated, OWNER) == ()


def test_objects_of_another_owner_are_agreement() -> None:
    theirs = resources(endpoint(weight=5), owner="dc2", port=host().port._replace(value=8080))
    assert plan(resources(endpoint()), map(held, theirs), OWNER) == ()
    assert plan([], map(held, theirs), OWNER) == ()


def test_objects_that_nobody_claims_are_left_alone() -> None:
    desired = resources(endpoint())
    workload, service = map(held, desired)
    unclaimed = [
        replace(workload, labels={key: value for key, value in workload.labels.items() if key != OWNER_LABEL}),
        replace(service, annotations={key: value for key, value in service.annotations.items() if key != AUTHOR}),
    ]
    assert plan(desired, unclaimed, OWNER) == ()
    assert plan([], unclaimed, OWNER) == ()


def test_what_is_kept_is_neither_created_nor_changed_nor_deleted() -> None:
    kept = resources(endpoint(kept=True, weight=9))
    was = resources(endpoint())
    assert words(plan(kept, [], OWNER)) == ["+ ServiceEntry"]
    assert plan(kept, map(held, was), OWNER) == ()


def test_several_hosts_are_planned_in_one_order() -> None:
    first = resources(endpoint())
    second = resources(endpoint("10.0.0.7"), key=host().key._replace(host="billing.mesh.internal"))
    changes = plan((*first, *second), [], OWNER)
    assert words(changes) == ["+ WorkloadEntry", "+ WorkloadEntry", "+ ServiceEntry", "+ ServiceEntry"]
    assert changes[0].key.name.startswith("billing-")
    assert changes[2].key.name == "billing.mesh.internal"


def test_a_label_of_ours_that_is_gone_already_needs_nothing() -> None:
    desired = resources(endpoint())
    known = [held(one, own_labels=(*sorted(one.labels), "team")) for one in desired]
    assert plan(desired, known, OWNER) == ()


def test_an_object_that_two_hosts_want_is_planned_once_and_live() -> None:
    kept, live = resources(endpoint(kept=True, weight=5)), resources(endpoint())
    for desired in ((*kept, *live), (*live, *kept)):
        changes = plan(desired, [], OWNER)
        assert words(changes) == ["+ WorkloadEntry", "+ ServiceEntry"]
        assert changes[0].resource == live[0]
