"""What is told at the same time: how writes end, what a look found after one that failed, what a watch shows."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clusters import Outcome
from agent.hosts import Place
from agent.inbox import Inbox
from agent.plan import Action, Change
from agent.serving import Heard
from agent.writes import IN_FLIGHT, Writes
from state.errors import ClusterError, Fault
from state.model import WORKLOAD_ENTRY, ResourceKey
from tests.testbed.processes import wait_until
from tests.unit.world import MemoryCluster, World, orders

PLACE = Place("legacy", "orders")
HEARD = Heard(0.0, "dc1")


class Turnstile(MemoryCluster):
    """Lets one write through at a time, in order, and answers nothing or an error."""

    def __init__(self, *outcomes: Outcome) -> None:
        super().__init__()
        self.let = threading.Semaphore(0)
        self.tried: list[str] = []
        self._outcomes = list(outcomes)

    def write(self, changes: Sequence[Change]) -> list[Outcome]:
        assert self.let.acquire(timeout=30)
        self.tried += [change.key.name for change in changes]
        return [self._outcomes.pop(0) for _ in changes]

    def writers(self, key: ResourceKey) -> tuple[str, ...]:
        raise TypeError(f"managedFields of {key} are a number")


def change(action: Action, name: str) -> Change:
    return Change(action, ResourceKey(WORKLOAD_ENTRY, "legacy", name), None, None, "")


@pytest.mark.parametrize("fault", [Fault.CLUSTER, Fault.OBJECT])
def test_a_write_that_fails_while_another_is_noted_stops_what_follows(fault: Fault) -> None:
    inbox, cluster = Inbox(), Turnstile(None, ClusterError(fault, "down"))
    writes = Writes(cluster, inbox)
    writes.begin(PLACE, HEARD, [change(Action.CREATE, "a"), change(Action.CREATE, "b"), change(Action.DELETE, "old")])
    job = writes.jobs[PLACE]
    cluster.let.release()
    wait_until(lambda: job.left == 1, "the first write has ended")
    inbox.take_news()
    cluster.let.release(2)
    wait_until(lambda: job.left == 0, "the second write has ended")
    with inbox.wake:
        assert not writes.advance(job, go_on=True)
    assert writes.jobs == {PLACE: job}
    (done,) = inbox.take_news().done
    job.failed = done.error is not None
    with inbox.wake:
        assert writes.advance(job, go_on=True), "to be planned again"
    writes.stop()
    assert sorted(cluster.tried) == ["a", "b"]


def test_questions_that_fail_take_no_writing_thread_along() -> None:
    inbox, cluster = Inbox(), Turnstile(None)
    writes = Writes(cluster, inbox)
    for _ in range(2 * IN_FLIGHT):
        writes.ask_writers(ResourceKey(WORKLOAD_ENTRY, "legacy", "a"), lambda *_: None)
    writes.begin(PLACE, HEARD, [change(Action.CREATE, "a")])
    cluster.let.release()
    wait_until(inbox.has_news, "the write has ended")
    writes.stop()


def test_what_a_watch_told_before_does_not_replace_what_a_look_found(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.run():
        world.hear(*orders(1))
        proposer = world.lane.proposer
        known = next(held for held in proposer.mirror.objects.values() if held.key.kind == WORKLOAD_ENTRY)
        told, found = (replace(known, resource_version=version, generation=int(version)) for version in ("99", "100"))
        assert proposer.deliver(known.key, found)
        assert not proposer.deliver(known.key, told)
        assert proposer.mirror.objects[known.key].resource_version == "100"
