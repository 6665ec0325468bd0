"""A history of a registry, its oracle, and a witness at every cluster: the stage on which an agent must keep pace."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Generic, Protocol, TypeVar

from tests.integration.history import RULES, History, Move
from tests.integration.oracle import Oracle, Picture, difference
from tests.integration.witness import ServerWitness, Witness, settle
from tests.testbed.apiserver import ApiServer
from tests.testbed.consul import Consul

PATIENCE = 15.0  # seconds: these machines are busy; how long it takes as a rule is judged by medians


class Made(Protocol):
    """One move of a history."""

    @property
    def what(self) -> str:
        """What was done."""

    @property
    def at(self) -> float:
        """When it was answered, in monotonic seconds."""


M = TypeVar("M", bound=Made)


class Pace(Generic[M]):
    """Plays moves, and waits after each until every cluster is as it must be.

    Clusters whose names are in `away` are not waited for.
    """

    patience = PATIENCE

    def __init__(
        self,
        moves: Iterator[M],
        consult: Callable[[str], Picture],
        witnesses: Sequence[Witness],
        seed: int,
        sort: Callable[[M], Hashable],
    ) -> None:
        """`consult` says what a cluster must hold now; `sort` of which sort a move is, whose lags are put together."""
        self.witnesses = witnesses
        self.away: set[str] = set()
        self.where = f"seed {seed}, at the start"
        self.lags: dict[Hashable, list[float]] = {}  # seconds
        self._consult = consult
        self._sort = sort
        self._moves = moves
        self._seed = seed
        self._made = 0
        self.wanted = self._pictures()

    def _pictures(self) -> dict[str, Picture]:
        return {witness.name: self._consult(witness.name) for witness in self.witnesses}

    @property
    def here(self) -> list[Witness]:
        """The witnesses of the clusters that are there."""
        return [witness for witness in self.witnesses if witness.name not in self.away]

    def settle(self, patience: float | None = None) -> None:
        """Wait until every cluster is as it must be; from then on only a move may say that something is missing."""
        settle(self.here, self.wanted, self.patience if patience is None else patience, self.where)
        for witness in self.here:
            witness.protected = set(self.wanted[witness.name])

    def move(self) -> M:
        """Make the next move."""
        move = next(self._moves)
        self._made += 1
        self.where = f"seed {self._seed}, move {self._made}: {move.what}"
        self.wanted = self._pictures()
        for witness in self.witnesses:
            witness.protected &= self.wanted[witness.name].keys()
        return move

    def move_and_settle(self) -> None:
        """Make a move and wait for what follows from it: just what it concerns is written, each object once."""
        before, events = self.wanted, {witness.name: len(witness.events) for witness in self.here}
        move = self.move()
        self.settle()
        for witness in self.here:
            concerned = difference(before[witness.name], self.wanted[witness.name])
            written = witness.events[events[witness.name] :]
            if isinstance(witness, ServerWitness):
                assert len(written) == len(concerned), (self.where, witness.name, concerned, written)
            if concerned:
                self.lags.setdefault(self._sort(move), []).append(witness.changed_at() - move.at)


class Stage(Pace[Move]):
    """Plays a history of one Consul; its lags are of hinted moves and of others."""

    def __init__(self, consul: Consul, seed: int, witnesses: Sequence[Witness]) -> None:
        self.history = History(consul, seed)
        self.history.fill()

        def consult(cluster: str) -> Picture:
            return Oracle(rules=RULES).picture(consul.catalog(), cluster)

        super().__init__(self.history.play(), consult, witnesses, seed, lambda move: move.hinted)


@contextmanager
def witnesses_of(servers: Mapping[str, ApiServer], namespace: str) -> Iterator[list[ServerWitness]]:
    """Watch a namespace of some API servers."""
    with ExitStack() as stack:
        yield [ServerWitness(name, stack.enter_context(one.record(namespace))) for name, one in servers.items()]
