from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from agent.merge import HostKey, Registration, merge
from agent.plan import Action, Change, plan
from agent.translate import translate
from state.model import (
    AUTHOR,
    OWNER_LABEL,
    SERVICE_ENTRY,
    WORKLOAD_ENTRY,
    Held,
    Resource,
    ResourceKey,
    digest_of,
)
from tests.core import HOST
from tests.property.core import ORDER, registrations

OWNER = "dc1"
Cluster = dict[ResourceKey, Held]

keys = st.builds(ResourceKey, st.sampled_from([SERVICE_ENTRY, WORKLOAD_ENTRY]), st.just("ns"), st.sampled_from("abcd"))
small = st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["0", "1"]), max_size=2)


@st.composite
def resources(draw: st.DrawFn) -> Resource:
    key = draw(keys)
    ours = {OWNER_LABEL: OWNER} if key.kind == WORKLOAD_ENTRY else {}
    author = {AUTHOR: OWNER} if key.kind == SERVICE_ENTRY else {}
    return Resource(
        key=key,
        labels={**draw(small), **ours},
        annotations={**draw(small), **author},
        spec=draw(small),
        kept=key.kind == WORKLOAD_ENTRY and draw(st.booleans()),
    )


@st.composite
def held_objects(draw: st.DrawFn) -> Held:
    key = draw(keys)
    owner = draw(st.sampled_from([OWNER, OWNER, "dc2", ""]))
    labels = draw(small)
    annotations = draw(small)
    if owner:
        if key.kind == WORKLOAD_ENTRY:
            labels = {**labels, OWNER_LABEL: owner}
        else:
            annotations = {**annotations, AUTHOR: owner}
    return Held(
        key=key,
        labels=labels,
        annotations=annotations,
        spec_digest=draw(st.just("") | small.map(digest_of)),
        own_labels=tuple(draw(st.lists(st.sampled_from(["k", "l", "gone"]), unique=True))),
    )


desires = st.lists(resources(), max_size=8, unique_by=lambda one: one.key)
clusters = st.lists(held_objects(), max_size=8, unique_by=lambda one: one.key)


def carried_out(cluster: Cluster, changes: Sequence[Change]) -> Cluster:
    """Return what a cluster holds after some changes; an update keeps what is not ours."""
    after = dict(cluster)
    for change in changes:
        if change.action is Action.DELETE:
            assert after.pop(change.key) == change.held
            continue
        resource = change.resource
        assert resource is not None
        assert change.held == after.get(change.key)
        before = after.get(change.key)
        ours = before.own_labels if before else ()
        labels = {key: value for key, value in (before.labels if before else {}).items() if key not in ours}
        after[change.key] = Held(
            key=change.key,
            labels={**labels, **resource.labels},
            annotations={**(before.annotations if before else {}), **resource.annotations},
            spec_digest=digest_of(resource.spec),
            own_labels=tuple(sorted(resource.labels)),
        )
    return after


def at_the_end(cluster: Cluster, desired: Iterable[Resource]) -> Cluster:
    return carried_out(cluster, plan(desired, cluster.values(), OWNER))


def held_by_key(objects: Iterable[Held]) -> Cluster:
    return {one.key: one for one in objects}


@given(desires, clusters)
def test_a_plan_carried_out_leaves_nothing_to_do(desired: list[Resource], objects: list[Held]) -> None:
    assert plan(desired, at_the_end(held_by_key(objects), desired).values(), OWNER) == ()


@given(desires, clusters, st.integers(0, 16), st.integers(0, 16))
def test_a_plan_interrupted_anywhere_and_made_again_leads_to_the_same_end(
    desired: list[Resource], objects: list[Held], first: int, second: int
) -> None:
    cluster = held_by_key(objects)
    interrupted = cluster
    for steps in (first, second):
        interrupted = carried_out(interrupted, plan(desired, interrupted.values(), OWNER)[:steps])
    assert at_the_end(interrupted, desired) == at_the_end(cluster, desired)


@given(desires, desires, clusters, st.integers(0, 16))
def test_a_desire_that_changes_on_the_way_leads_to_the_new_end(
    old: list[Resource], new: list[Resource], objects: list[Held], steps: int
) -> None:
    cluster = held_by_key(objects)
    on_the_way = carried_out(cluster, plan(old, cluster.values(), OWNER)[:steps])
    there = at_the_end(on_the_way, new)
    assert plan(new, there.values(), OWNER) == ()
    for resource in new:
        if not resource.kept:
            one = there[resource.key]
            assert one.owner != OWNER or one.spec_digest == digest_of(resource.spec)


@given(desires, clusters)
def test_objects_of_others_are_never_touched(desired: list[Resource], objects: list[Held]) -> None:
    others = {one.key for one in objects if one.owner != OWNER}
    assert not others & {change.key for change in plan(desired, objects, OWNER)}


@given(desires, clusters)
def test_what_is_kept_is_never_touched(desired: list[Resource], objects: list[Held]) -> None:
    kept = {resource.key for resource in desired if resource.kept}
    assert not kept & {change.key for change in plan(desired, objects, OWNER)}


@given(desires, clusters)
def test_at_the_end_ours_is_exactly_what_is_desired(desired: list[Resource], objects: list[Held]) -> None:
    there = at_the_end(held_by_key(objects), desired)
    wanted = {resource.key: resource for resource in desired}
    for key, one in there.items():
        if one.owner == OWNER:
            assert key in wanted
            if not wanted[key].kept:
                assert wanted[key].labels.items() <= one.labels.items()
                assert wanted[key].annotations.items() <= one.annotations.items()
                assert one.spec_digest == digest_of(wanted[key].spec)
    assert {key for key, resource in wanted.items() if not resource.kept} <= set(there)


@given(desires, clusters)
def test_each_object_is_changed_once_in_the_order_of_make_before_break(
    desired: list[Resource], objects: list[Held]
) -> None:
    changes = plan(desired, objects, OWNER)
    turns = [(change.action is Action.DELETE, change.key.kind == SERVICE_ENTRY, change.key) for change in changes]
    assert turns == sorted(set(turns))
    assert all(change.why for change in changes)


@given(desires, clusters, st.data())
def test_the_order_of_what_is_given_makes_no_difference(
    desired: list[Resource], objects: list[Held], data: st.DataObject
) -> None:
    shuffled = plan(data.draw(st.permutations(desired)), data.draw(st.permutations(objects)), OWNER)
    assert shuffled == plan(desired, objects, OWNER)


@given(registrations(), registrations())
def test_from_registrations_to_a_cluster_and_back_to_rest(old: list[Registration], new: list[Registration]) -> None:
    cluster: Cluster = {}
    for some in (old, new, new):
        host = merge(HostKey("", HOST), some, ORDER)
        desired = translate(host, owner=OWNER, cluster="east", namespace="legacy").resources
        cluster = at_the_end(cluster, desired)
        assert plan(desired, cluster.values(), OWNER) == ()
