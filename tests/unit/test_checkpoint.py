"""What is remembered in a state file, and what becomes of one that cannot be used."""

import sqlite3
import time
from pathlib import Path

import pytest

from state.checkpoint import Applied, Carried, Checkpoint, Event
from state.errors import StateError
from state.model import (
    WORKLOAD_ENTRY,
    Absence,
    Count,
    InstanceKey,
    Observed,
    Reason,
    ResourceKey,
    Standing,
    Waiting,
)
from state.schema import HISTORY, VERSION
from tests.core import instance

KEY = ResourceKey(WORKLOAD_ENTRY, "legacy", "orders-1")
APPLIED = Applied(key=KEY, digest="d1", uid="u1", generation=3, resource_version="41", labels=("a", "b"), unneeded=12.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def test_what_was_observed_comes_back_as_it_was(path: Path) -> None:
    full = instance(
        "orders-1",
        absent_because=Absence.MAINTENANCE,
        warning=True,
        tags=("public", "\ud800"),
        metadata=(("version", "v1"),),
        locality="eu/eu-1",
        weight=7,
        version="v1",
        registered=2**63,
        dropped=("weight 'x'",),
    )
    services = (Observed("orders", (full, instance("orders-2")), 2, 2**64 - 1),)
    row = Waiting(
        key=full.key, reason=Reason.HOLD, word=instance("orders-1"), since=90.0, proofs=2, proved=95.0, pass_begun=9
    )
    standing = Standing(minutes=(Count(2, 1),) * 10, epoch=2, epoch_began=40.0, counted=99.0)
    checkpoint = Checkpoint.open(path)
    checkpoint.observe("dc1", services=services, waits=[row], standing=standing, configuration="c", now=100.0)
    checkpoint.close()
    checkpoint = Checkpoint.open(path)
    back = checkpoint.registry("dc1", 1000.0)
    assert back.services == services
    assert back.services[0].index == 2**64 - 1
    assert back.configuration == "c"
    assert back.standing == Standing(minutes=(Count(2, 1),) * 10, epoch=2, epoch_began=940.0, counted=999.0)
    waiting = back.waiting[0]  # what has elapsed goes on; passes are counted anew
    assert (waiting.since, waiting.proofs, waiting.proved, waiting.pass_begun) == (990.0, 2, 995.0, 0)
    assert (waiting.key, waiting.word, waiting.reason) == (row.key, row.word, row.reason)
    checkpoint.observe(
        "dc1", services=[Observed("orders", (), 2)], ended=[row.key], standing=standing, configuration="c", now=100.0
    )
    assert checkpoint.registry("dc1", 0.0)[:2] == ((), ())
    assert checkpoint.registries() == ("dc1",)
    checkpoint.close()


def test_an_unknown_registry_is_not_remembered(path: Path) -> None:
    checkpoint = Checkpoint.open(path)
    assert checkpoint.new
    assert checkpoint.registry("dc1", 0.0).standing is None
    assert checkpoint.carried("east") is None
    checkpoint.close()


def test_what_a_cluster_took_comes_back_as_it_was(path: Path) -> None:
    checkpoint = Checkpoint.open(path)
    checkpoint.set_owner("dc1")
    checkpoint.apply("east", [APPLIED], events=[Event(time.time(), "east", "+", KEY, "new endpoint", 0.01)])
    checkpoint.set_carried("east", Carried("c", "1", "a"))
    checkpoint.close()
    checkpoint = Checkpoint.open(path)
    assert (checkpoint.new, checkpoint.owner) == (False, "dc1")
    assert checkpoint.applied("east") == {KEY: APPLIED}
    assert checkpoint.applied("west") == {}
    assert checkpoint.carried("east") == Carried("c", "1", "a")
    checkpoint.apply("east", [], [KEY])
    assert checkpoint.applied("east") == {}
    checkpoint.close()


def test_a_step_is_remembered_whole_or_not_at_all(path: Path) -> None:
    checkpoint = Checkpoint.open(path)
    broken = Event(time.time(), "east", "+", KEY, "new endpoint", 0.01)._replace(why=object())  # type: ignore[arg-type]
    with pytest.raises(StateError, match=r"state\.db"):
        checkpoint.apply("east", [APPLIED], events=[broken])
    assert checkpoint.applied("east") == {}
    checkpoint.close()


def test_history_is_bounded(path: Path) -> None:
    checkpoint = Checkpoint.open(path)
    checkpoint.apply("east", [], events=[Event(0.0, "east", "+", KEY, str(n), None) for n in range(HISTORY + 5)])
    checkpoint.trim()
    assert checkpoint._read("SELECT COUNT(*), MAX(why + 0) FROM history") == [(HISTORY, HISTORY + 4)]
    checkpoint.close()


def test_two_cannot_use_one_file(path: Path) -> None:
    checkpoint = Checkpoint.open(path)
    with pytest.raises(StateError, match="another isthmus is using it"):
        Checkpoint.open(path)
    checkpoint.close()
    Checkpoint.open(path).close()


def test_a_damaged_file_is_moved_aside(path: Path) -> None:
    path.write_bytes(b"no database at all " * 500)
    checkpoint = Checkpoint.open(path)
    assert checkpoint.new
    checkpoint.close()
    assert len(list(path.parent.glob("state.db.aside-*"))) == 1


def test_a_file_of_a_newer_schema_is_moved_aside_and_not_copied(path: Path) -> None:
    Checkpoint.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(StateError, match=f"schema {VERSION + 1}"):
        Checkpoint.copy(path)
    checkpoint = Checkpoint.open(path)
    assert checkpoint.new
    checkpoint.close()
    assert list(path.parent.glob("state.db.aside-*"))


def test_a_copy_of_nothing_creates_nothing(path: Path) -> None:
    checkpoint = Checkpoint.copy(path)
    checkpoint.set_owner("dc1")
    checkpoint.close()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("in_use", [False, True])
def test_a_copy_writes_nothing(path: Path, in_use: bool) -> None:
    original = Checkpoint.open(path)
    original.apply("east", [APPLIED])
    if not in_use:
        original.close()
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}
    copy = Checkpoint.copy(path)
    assert copy.applied("east") == {KEY: APPLIED}
    copy.apply("east", [], [KEY])
    copy.close()
    after = {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}
    assert after == before
    if in_use:
        assert original.applied("east") == {KEY: APPLIED}
        original.close()


def test_a_closed_file_fails_by_name(path: Path) -> None:
    checkpoint = Checkpoint.open(path)
    checkpoint.close()
    with pytest.raises(StateError, match=r"state\.db"):
        checkpoint.apply("east", [APPLIED])
    with pytest.raises(StateError, match=r"state\.db"):
        checkpoint.registry("dc1", 0.0)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be locked"):
        Checkpoint.open(tmp_path / "file" / "state.db")


def test_waiting_rows_name_their_registration(path: Path) -> None:
    checkpoint = Checkpoint.open(path)
    key = InstanceKey("orders", "node-1", "gone")
    row = Waiting(key=key, reason=Reason.GRACE, word=None, since=0.0)
    checkpoint.observe("dc1", waits=[row], standing=Standing(), configuration="", now=5.0)
    assert [(one.key, one.word) for one in checkpoint.registry("dc1", 5.0).waiting] == [(key, None)]
    assert checkpoint.registry("dc2", 5.0).waiting == ()
    checkpoint.close()
