"""Whatever a server's caches answer, in whatever order: the view ends in the truth, and nothing known is undone."""

from collections import Counter
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.eureka.overlay import Gone, Overlay, effective
from hooks.eureka.parse import Applications, Lease
from hooks.eureka.view import FRESH, DeltaView
from state.model import Instance, InstanceKey
from tests.property.eureka_server import STALEST, Key, Server

APPS = ("A", "B")
LONGEST_GAP = 120.0  # seconds since everything or a delta was read, after which everything is

keys = st.sampled_from([("A", "1"), ("A", "1"), ("A", "2"), ("B", "1")])
statuses = st.sampled_from(["UP", "DOWN"])
staleness = st.sampled_from([0.0, 0.0, STALEST, STALEST]) | st.floats(0, STALEST)
waits = st.sampled_from([0.002, 1.0, 1.0, 5.0, 5.0, 20.0, 29.0, 31.0, 61.0, 130.0, 200.0]) | st.floats(0.002, 70)

_changes = [
    st.tuples(st.just("register"), keys, statuses),
    st.tuples(st.just("status"), keys, statuses),
    st.tuples(st.just("cancel"), keys),
    st.tuples(st.just("cancel"), keys),
]
_reads = [
    st.tuples(st.just("delta"), staleness),
    st.tuples(st.just("delta"), staleness),
    st.tuples(st.just("pass"), staleness, staleness),
    st.tuples(st.just("pass"), staleness, staleness),
    st.tuples(st.just("confirm"), keys),
    st.tuples(st.just("confirm"), keys),
]
_waits = st.tuples(st.just("wait"), waits)
histories = st.lists(st.one_of(*_changes, *_reads, _waits, _waits), min_size=12, max_size=40)
# Several changes in one millisecond, a clock that is set, statuses that no time and no delta shows.
unruly = st.lists(
    st.one_of(
        *_changes,
        *_reads,
        st.tuples(st.just("wait"), st.just(0.0) | waits),
        st.tuples(st.just("clock"), st.integers(-7_200_000, 7_200_000) | st.integers(-3, 3)),
        st.tuples(st.just("renew"), keys, statuses),
    ),
    min_size=12,
    max_size=40,
)


class Reader:
    """Reads a server as the loop does, but when the history says so; ``deltas`` tells whether the server gives any."""

    def __init__(self, server: Server, *, deltas: bool = True) -> None:
        self.server = server
        self.deltas = deltas
        self.view = DeltaView()
        self.overlay = Overlay()
        self.last = 0.0  # when a delta or everything was read
        self.read_all(0.0, 0.0)

    def delta(self, old: float) -> None:
        if not self.deltas or self.server.now - self.last > LONGEST_GAP:
            self.read_all(old, old)
        else:
            self.take_delta(old)

    def read_all(self, old: float, old_delta: float) -> None:
        self.view.take_full(self.server.full(old), self.server.now)
        self.take_delta(old_delta)

    def take_delta(self, old: float) -> None:
        if self.deltas:
            self.view.take_delta(self.server.delta(old), self.server.now)
        self.overlay.settle(self.view, self.server.now)
        self.last = self.server.now

    def confirm(self, key: Key) -> None:
        found = self.server.uncached(key)
        known = self.view.word(*key)
        self.overlay.teach(found or Gone(*key, known.updated if known else 0), self.server.now)

    def poll(self, old: float) -> None:
        """Read a delta, and everything when the hashes differ."""
        self.delta(old)
        if self.view.hashcode != self.server.delta(old).hashcode:
            self.read_all(old, old)

    def effective(self) -> dict[str, tuple[Instance, ...]]:
        return {app: effective(self.view, self.overlay, app) for app in APPS}

    def do(self, step: tuple[object, ...]) -> None:
        match step:
            case ("register", tuple() as key, str() as status):
                self.server.register(key, status)
            case ("status", tuple() as key, str() as status):
                self.server.set_status(key, status)
            case ("renew", tuple() as key, str() as status):
                self.server.renew(key, status)
            case ("cancel", tuple() as key):
                self.server.cancel(key)
            case ("clock", int() as ahead):
                self.server.ahead = ahead
            case ("wait", float() as seconds):
                self.server.pass_time(seconds)
            case ("delta", float() as old):
                self.delta(old)
            case ("pass", float() as old, float() as old_delta):
                self.read_all(old, old_delta)
            case ("confirm", tuple() as key):
                self.confirm(key)
            case _:
                raise AssertionError(step)


def truth(server: Server) -> dict[str, tuple[Instance, ...]]:
    return {app: server.instances(app) for app in APPS}


@given(histories, staleness, st.booleans())
def test_when_the_caches_have_caught_up_one_full_read_and_one_delta_show_the_truth(
    history: list[tuple[object, ...]], old: float, deltas: bool
) -> None:
    reader = Reader(Server(), deltas=deltas)
    for step in history:
        reader.server.pass_time(0.002)
        reader.do(step)
    # Without deltas nothing but its age speaks against an uncached word that full reads do not know.
    reader.server.pass_time((STALEST if deltas else FRESH) + 1)
    reader.read_all(old, old)
    assert reader.effective() == truth(reader.server)
    assert {app: set(reader.view.leases(app)) for app in reader.view.applications()} == {
        app: {one.key.id for one in instances} for app, instances in truth(reader.server).items() if instances
    }
    assert reader.view.hashcode == reader.server.full(0.0).hashcode


@given(histories)
def test_deltas_alone_show_the_truth_when_none_is_missed(history: list[tuple[object, ...]]) -> None:
    reader = Reader(Server())
    for step in history:
        if step[0] == "pass":
            continue
        reader.server.pass_time(0.002)
        reader.do(step)
        reader.poll(0.0)
    reader.poll(0.0)
    assert reader.effective() == truth(reader.server)


@given(unruly, staleness)
def test_polling_ends_in_the_truth_whatever_the_clocks_and_heartbeats_did(
    history: list[tuple[object, ...]], old: float
) -> None:
    reader = Reader(Server())
    for step in history:
        reader.do(step)
    for _ in range(20):
        reader.server.pass_time(5.0)
        reader.poll(old)
    reader.read_all(old, old)
    assert reader.view.hashcode == reader.server.full(0.0).hashcode
    assert reader.effective() == truth(reader.server)


@settings(max_examples=1000)
@given(histories, st.booleans())
def test_nothing_comes_back_unless_registered_again_and_nothing_goes_that_was_never_gone(
    history: list[tuple[object, ...]], deltas: bool
) -> None:
    reader = Reader(Server(), deltas=deltas)
    newest: Counter[Key] = Counter()  # the rank of the newest state that was ever shown
    over: Counter[Key] = Counter()  # the newest rank that was shown to be over
    for step in history:
        reader.server.pass_time(0.002)
        reader.do(step)
        shown = {(i.key.service, i.key.id): i.registered for found in reader.effective().values() for i in found}
        for key in reader.server.ranks:
            rank = shown.get(key)
            if rank is None:
                assert newest[key] == over[key] or reader.server.ends.get(key, 0) > newest[key], "removed wrongly"
                over[key] = newest[key]
            else:
                assert rank >= newest[key], "undone"
                assert rank > over[key], "resurrected"
                newest[key] = rank


# Lists in which anything may stand in any order, as no single server would write them.

leases = st.builds(
    lambda id, status, action, updated: Lease(
        app="A",
        id=id,
        status=status,
        action=action,
        updated=updated,
        instance=Instance(key=InstanceKey("A", "", id), address="10.0.0.1", port=80, registered=updated),
    ),
    st.sampled_from("12"),
    st.just("UP"),
    st.sampled_from(["ADDED", "MODIFIED", "DELETED"]),
    st.integers(1, 6),
)


def one_each(given: Iterable[Lease]) -> list[Lease]:
    """Return leases of which no two have the same instance and time: what one server may have said."""
    return list({(one.id, one.updated): one for one in given}.values())


def taken(deltas: Iterable[list[Lease]]) -> DeltaView:
    view = DeltaView()
    for delta in deltas:
        view.take_delta(Applications(1, "", tuple(delta)), 1000.0)
    return view


@given(st.lists(leases, max_size=8).map(one_each), st.data())
def test_the_order_and_the_repetition_of_deltas_change_nothing(told: list[Lease], data: st.DataObject) -> None:
    view = taken([told])
    shuffled = data.draw(st.permutations(told))
    cut = data.draw(st.integers(0, len(told)))
    other = taken([shuffled[:cut], shuffled[cut:], data.draw(st.permutations(told)), shuffled[:cut]])
    assert view.leases("A") == other.leases("A")
    assert view.hashcode == other.hashcode


@given(st.lists(st.lists(leases, max_size=6), max_size=6), st.booleans())
def test_a_change_is_told_exactly_when_there_is_one_and_the_hash_is_of_what_is_there(
    reads: list[list[Lease]], full: bool
) -> None:
    view, now = DeltaView(), 1000.0
    for number, read in enumerate(reads):
        before = dict(view.leases("A"))
        take = view.take_full if full and number % 2 else view.take_delta
        changed = take(Applications(1, "", tuple(read)), now)
        after = view.leases("A")
        same = {id: one.instance for id, one in before.items()} == {id: one.instance for id, one in after.items()}
        assert changed == (set() if same else {"A"})
        assert view.applications() == ({"A"} if after else set())
        assert view.hashcode == Applications(1, "", tuple(after.values())).computed
        now += 25
