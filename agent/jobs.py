"""What is being written at one place of a cluster, and how each write of it ended."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.hosts import Place
from agent.plan import Action, Change
from agent.serving import Heard
from state.errors import ClusterError
from state.model import SERVICE_ENTRY, Held


@dataclass(slots=True)
class Job:
    """The changes of one place under way: WorkloadEntries, then their ServiceEntry, then what goes.

    ``left`` counts the writes of the phase under way that have not ended; ``failed``
    tells that one was not taken, so that nothing of a later phase is written.
    """

    place: Place
    heard: Heard
    phases: deque[list[Change]]
    left: int = 0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """How one write ended: ``held`` is what is there now, as far as it is known.

    One that was not even ``tried``, since the cluster had failed meanwhile, ended without a word.
    """

    job: Job
    change: Change
    held: Held | None = None
    error: ClusterError | None = None
    tried: bool = True
    at: float = field(default_factory=time.monotonic)


def phases_of(changes: Sequence[Change]) -> list[list[Change]]:
    """Split changes into what may be written at the same time: make before break."""
    phases: list[list[Change]] = [[], [], [], []]
    for change in changes:
        phases[2 * (change.action is Action.DELETE) + (change.key.kind == SERVICE_ENTRY)].append(change)
    return [phase for phase in phases if phase]
