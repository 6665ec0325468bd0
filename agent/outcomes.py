"""What follows from how each write ended: what is remembered, told, counted and tried again."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable

from agent.explaining.gone import why_gone
from agent.gate import Sayings
from agent.jobs import Done
from agent.ledger import Ledger
from agent.naming import host_label
from agent.plan import Action
from agent.proposal import Proposer
from agent.retry import Retries
from agent.serving import Wrote
from state.checkpoint import Applied, Event
from state.errors import ClusterError, Fault
from state.model import SERVICE_ENTRY, ResourceKey

logger = logging.getLogger(__name__)


class Outcomes:
    """Takes how the writes of one cluster ended; used by its lane's own thread."""

    def __init__(
        self,
        cluster: str,
        proposer: Proposer,
        retries: Retries,
        ledger: Ledger,
        tell: Callable[[Wrote], None],
        sayings: Sayings,
    ) -> None:
        """``tell`` is told once how each write ended; ``sayings`` are what history names as the cause of a deletion."""
        self.error = ""  # of the last write
        self.taken: Counter[Action] = Counter()
        self.failed: Counter[Fault] = Counter()
        self._cluster = cluster
        self._proposer = proposer
        self._retries = retries
        self._ledger = ledger
        self._tell = tell
        self._sayings = sayings

    def take(self, done: Iterable[Done]) -> None:
        """Note what the cluster acknowledged, and what it did not take."""
        applied: list[Applied] = []
        gone: list[ResourceKey] = []
        events: list[Event] = []
        for one in done:
            if not one.tried:
                one.job.failed = True
                continue
            lag = one.at - one.job.heard.at
            fault = one.error.fault if one.error else None
            self._tell(Wrote(self._cluster, one.job.heard.registry, one.change.action, one.change.key, lag, fault))
            if one.error is not None:
                self._fail(one, one.error)
                continue
            row = self._acknowledge(one)
            applied.extend([row] if row else ())
            gone.extend(() if row else [one.change.key])
            events.append(self._event(one, lag))
        self._ledger.note(applied, gone, events)

    def _acknowledge(self, one: Done) -> Applied | None:
        self.taken[one.change.action] += 1
        self._retries.succeeded(one.change.key)
        self.note("")
        return self._proposer.acknowledge(one.change, one.held, one.at)

    def _event(self, one: Done, lag: float) -> Event:
        action, key, why = one.change.action, one.change.key, one.change.why
        if action is Action.DELETE and one.change.held and (cause := why_gone(one.change.held, self._sayings)):
            why = f"{why}: {cause}"
        logger.info("cluster %s: %s %s (%s), %.1f ms", self._cluster, action, key, why, 1000 * lag)
        host = host_label(key.name) if key.kind == SERVICE_ENTRY else one.job.place.label
        return Event(time.time(), self._cluster, str(action), key, why, lag, host, one.job.heard.registry)

    def _fail(self, one: Done, error: ClusterError) -> None:
        key, fault = one.change.key, error.fault
        one.job.failed = True
        self.failed[fault] += 1
        if fault in (Fault.CONFLICT, Fault.EXISTS):
            if one.held is not None and not self._proposer.applied.is_of_isthmus(one.held):
                self._retries.park(one.change, one.job, f"{key} is there and not isthmus': left alone", one.at)
                return
            self._proposer.deliver(key, one.held)
        elif fault is Fault.MISSING:
            self._proposer.deliver(key, None)
        self.note(str(error))
        self._retries.failed(one.change, one.job, error, one.at)

    def note(self, error: str) -> None:
        """Note what the last write failed of, "" when it did not."""
        self.error = tell_error(self._cluster, self.error, error)


def tell_error(cluster: str, before: str, error: str) -> str:
    """Log an error that is another one than before, or that there is none any more; return it."""
    if error and error != before:
        logger.warning("cluster %s: %s", cluster, error)
    elif before and not error:
        logger.info("cluster %s: works again", cluster)
    return error
