"""What is known of objects when a watch and our own writes speak in another order than things happened."""

from queue import SimpleQueue

from agent.clusters.known import Known, Overdue, Record, Sighting
from agent.clusters.watch import record_of
from state.model import WORKLOAD_ENTRY
from tests.unit.scene import KEY, SPEC, shown


def record(version: int, *, whole: bool = False) -> Record:
    return record_of(WORKLOAD_ENTRY, shown(version, spec=SPEC) if whole else shown(version))


def test_events_that_come_while_an_object_is_deleted_bring_nothing_back() -> None:
    known, inbox = Known(), SimpleQueue[object]()
    known.tell(inbox)
    known.wrote(record(11, whole=True))
    with known.writing(KEY):
        assert not known.saw(Sighting(record(11), deleted=False))  # of the write before this one
        known.deleted(record(11, whole=True).held)
    assert not known.saw(Sighting(record(12), deleted=True))
    assert known.get(KEY) is None
    assert inbox.empty()


def test_what_others_did_while_an_object_was_written_is_told_once_that_has_ended() -> None:
    known, inbox = Known(), SimpleQueue[object]()
    known.tell(inbox)
    with known.writing(KEY):
        assert not known.saw(Sighting(record(11), deleted=False))
        assert not known.saw(Sighting(record(12), deleted=False))
        known.wrote(record(11, whole=True))
        assert inbox.empty()
    assert inbox.get_nowait() == Overdue(KEY)
    found = known.get(KEY)
    assert found is not None
    assert found.held.resource_version == "12"
    assert found.held.spec_digest == record(11, whole=True).held.spec_digest
