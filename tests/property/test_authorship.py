"""Owners that come and go, hear late, write late, restart and have clocks of their own: nobody fights over a host."""

import json
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.plan import Action
from agent.rules import Choice
from state.model import WORKLOAD_ENTRY
from tests.property.owners import ENTRY, GRACE, Owner, Server, Write

Step = tuple[str, int, float]

INFERRED = [Choice(number, "metadata port of orders-1") for number in (80, 90, 100)]
RULED = [Choice(number, f"rules[{number}].port") for number in (80, 90, 100)]
CHANGES = ["need", "leave", "up", "down", "blind", "restart", "store"]
ACTS = ["hear", "read", "plan", "write", "plan+write", "settle", "settle", "settle"]


def steps(longest: float) -> st.SearchStrategy[list[Step]]:
    """Return what happens to which owner: each step is a word and a number that the word makes use of."""
    waits = st.tuples(st.sampled_from(["wait", "wait+settle"]), st.integers(0, 2), st.floats(longest / 8, longest))
    numbers = st.sampled_from([0.0, 1.0, 2.0, 3.0])
    some = (st.tuples(st.sampled_from(words), st.integers(0, 2), numbers) for words in (CHANGES, ACTS))
    return st.lists(st.one_of(*some, waits), min_size=15, max_size=50)


def owners(ports: Sequence[Choice]) -> Server:
    server = Server()
    for name, port in zip("abc", ports, strict=False):
        Owner(name, server, port)
    return server


def play(server: Server, story: Sequence[Step]) -> None:
    for word, who, number in story:
        owner = server.owners[who % len(server.owners)]
        if word in ("need", "leave"):
            owner.needs = word == "need"
        elif word in ("up", "down"):  # number 0 is an endpoint that all of them may have
            several = {1: {0}, 2: {0, who + 1}}.get(int(number), {who + 1})
            owner.needs, owner.numbers = True, frozenset(several if word == "up" else ())
        elif word == "hear":
            owner.hear(int(number))
        elif "wait" in word:
            owner.clock += number
        elif word == "blind":
            owner.proposer.authors.seen.lose(owner.clock)
        elif word in ("read", "restart", "store"):
            getattr(owner, word)()
        if "settle" in word:
            owner.calm_down()
        if "plan" in word:
            owner.plan()
        if "write" in word:
            owner.write(int(number) or 99)


def calm_down(server: Server, rounds: int = 8) -> None:
    """Let everybody see everything, and the time of every count pass, until nothing is left to do; then it stays so."""
    for left in reversed(range(rounds)):
        writes = len(server.writes)
        for owner in server.owners:
            owner.calm_down()
            owner.clock += GRACE + 1
            owner.calm_down()
        assert left or len(server.writes) == writes, "there is no end to it"


def author_of(write: Write) -> tuple[str, str]:
    return (write.before.owner if write.before else ""), (write.after.owner if write.after else "")


def takeovers(server: Server) -> list[Write]:
    return [one for one in server.entry_writes() if one.action is Action.UPDATE and len(set(author_of(one))) == 2]


settings_of_all = settings(max_examples=80, deadline=None)


@settings_of_all
@given(steps(2 * GRACE), st.sampled_from([INFERRED, RULED, INFERRED[:2], RULED[:2], [RULED[0], INFERRED[1]]]))
def test_it_ends_and_then_nobody_writes(story: list[Step], ports: list[Choice]) -> None:
    server = owners(ports)
    play(server, story)
    calm_down(server)
    assert (ENTRY in server.objects) == any(owner.needs for owner in server.owners)
    wanted = {f"10.0.0.{number}" for owner in server.owners if owner.needs for number in owner.numbers}
    held = [key for key in server.objects if key.kind == WORKLOAD_ENTRY]
    assert {key.name.split("-")[1] for key in held} == wanted
    whoever_has_some = {server.objects[key].owner for key in held}
    assert not held or server.objects[ENTRY].owner in whoever_has_some, "whoever has left the host is not its author"


@settings_of_all
@given(steps(2 * GRACE))
def test_what_no_rule_states_is_never_rewritten_whoever_comes_and_goes(story: list[Step]) -> None:
    server = owners(INFERRED)
    play(server, story)
    calm_down(server)
    for write in server.entry_writes():
        if write.before and write.after:
            assert write.before.spec == write.after.spec


@settings_of_all
@given(steps(2 * GRACE), st.sampled_from([INFERRED, RULED, [RULED[0], INFERRED[1], RULED[2]]]))
def test_only_authors_write_and_nobody_becomes_one_twice_within_the_time(
    story: list[Step], ports: list[Choice]
) -> None:
    server = owners(ports)
    play(server, story)
    calm_down(server)
    last: dict[str, float] = {}
    for write in server.entry_writes():
        before, after = author_of(write)
        if before not in ("", write.by):
            assert after == write.by
            assert write.at - last.get(write.by, 0.0) >= GRACE, "it has not waited"
            last[write.by] = write.at
        spec = json.loads(write.after.spec) if write.after else {"ports": []}
        if write.action is Action.UPDATE and before == write.by:
            assert write.before
            assert spec != json.loads(write.before.spec), "an author that changes nothing writes nothing"


@settings_of_all
@given(steps(GRACE / 100), st.sampled_from([INFERRED, RULED]))
def test_flaps_shorter_than_the_time_move_no_author(story: list[Step], ports: list[Choice]) -> None:
    server = owners(ports)
    play(server, story)
    assert takeovers(server) == []
    assert all(write.action is Action.CREATE for write in server.entry_writes())
