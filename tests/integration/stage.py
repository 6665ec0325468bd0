"""A history of a registry, its oracle, and a witness at every cluster: the stage on which an agent must keep pace."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from tests.integration.history import RULES, History, Move
from tests.integration.oracle import Oracle, Picture, difference
from tests.integration.witness import ServerWitness, Witness, settle
from tests.testbed.apiserver import ApiServer
from tests.testbed.consul import Consul

PATIENCE = 15.0  # seconds: these machines are busy; how long it takes as a rule is judged by medians


class Stage:
    """Plays a history, and waits after each move until every cluster is as the oracle says.

    Clusters whose names are in `away` are not waited for.
    """

    def __init__(self, consul: Consul, seed: int, witnesses: Sequence[Witness]) -> None:
        self.history = History(consul, seed)
        self.history.fill()
        self.witnesses = witnesses
        self.away: set[str] = set()
        self.where = f"seed {seed}, at the start"
        self.wanted = self._consult()
        self.lags: dict[bool, list[float]] = {True: [], False: []}  # seconds, of hinted moves and of others
        self._moves = self.history.play()
        self._seed = seed
        self._made = 0

    def _consult(self) -> dict[str, Picture]:
        catalog = self.history.consul.catalog()
        return {witness.name: Oracle(rules=RULES).picture(catalog, witness.name) for witness in self.witnesses}

    @property
    def here(self) -> list[Witness]:
        """The witnesses of the clusters that are there."""
        return [witness for witness in self.witnesses if witness.name not in self.away]

    def settle(self, patience: float = PATIENCE) -> None:
        """Wait until every cluster is as it must be; from then on only a move may say that something is missing."""
        settle(self.here, self.wanted, patience, self.where)
        for witness in self.here:
            witness.protected = set(self.wanted[witness.name])

    def move(self) -> Move:
        """Make the next move."""
        move = next(self._moves)
        self._made += 1
        self.where = f"seed {self._seed}, move {self._made}: {move.what}"
        self.wanted = self._consult()
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
                self.lags[move.hinted].append(witness.changed_at() - move.at)


@contextmanager
def witnesses_of(servers: Mapping[str, ApiServer], namespace: str) -> Iterator[list[ServerWitness]]:
    """Watch a namespace of some API servers."""
    with ExitStack() as stack:
        yield [ServerWitness(name, stack.enter_context(one.record(namespace))) for name, one in servers.items()]
