"""A Eureka server as far as a reader can tell it from a real one.

Modelled on AbstractInstanceRegistry and ResponseCacheImpl of Netflix' source: a
queue of recent changes that holds the live leases, for 180 s and a little more; in
a delta an instance once, as its last entry; full and delta answers from caches that
are up to 30 s old, each on its own, and never go back.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field

from hooks.eureka.parse import Applications, Lease, hashcode
from state.model import Instance, InstanceKey

RETENTION = 180.0
STALEST = 30.0
STEP = 10.0  # seconds between two looks at the queue

Key = tuple[str, str]


class Held:
    """A lease as the server holds and changes it; its instance's ``registered`` counts the states of that instance."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.status = self.action = ""
        self.updated = 0
        self.lease: Lease

    def write(self, rank: int) -> None:
        app, id_ = self.key
        instance = Instance(key=InstanceKey(app, "", id_), address="10.0.0.1", port=80, registered=rank)
        self.lease = Lease(
            app=app, id=id_, status=self.status, action=self.action, updated=self.updated, instance=instance
        )


@dataclass
class Server:
    """The truth, its clock (``ahead`` ms of ours) and everything that its caches can still answer."""

    now: float = 1000.0
    ahead: int = 0
    registry: dict[Key, Held] = field(default_factory=dict)
    ranks: Counter[Key] = field(default_factory=Counter)
    ends: dict[Key, int] = field(default_factory=dict)  # the rank of the last cancel
    queue: list[tuple[float, Held]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    answers: list[tuple[Applications, Applications]] = field(default_factory=list)
    read_at: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._publish()

    def register(self, key: Key, status: str) -> None:
        held = self.registry[key] = Held(key)
        held.status = status
        self._change(held, "ADDED")

    def set_status(self, key: Key, status: str) -> None:
        if held := self.registry.get(key):
            held.status = status
            self._change(held, "MODIFIED")

    def cancel(self, key: Key) -> None:
        if held := self.registry.pop(key, None):
            self._change(held, "DELETED")
            self.ends[key] = self.ranks[key]

    def renew(self, key: Key, status: str) -> None:
        """Take a status over in a heartbeat: neither the time nor the queue shows it."""
        if held := self.registry.get(key):
            held.status = status
            self._write(held)

    def pass_time(self, seconds: float) -> None:
        # In steps, since entries of the queue expire meanwhile.
        while seconds > 0:
            self.now += min(seconds, STEP)
            seconds -= STEP
            self._publish()

    def full(self, staleness: float) -> Applications:
        return self._cached(0, staleness)

    def delta(self, staleness: float) -> Applications:
        return self._cached(1, staleness)

    def uncached(self, key: Key) -> Lease | None:
        held = self.registry.get(key)
        return held.lease if held else None

    def instances(self, app: str) -> tuple[Instance, ...]:
        leases = [held.lease for key, held in sorted(self.registry.items()) if key[0] == app]
        return tuple(lease.instance for lease in leases if lease.instance)

    def _change(self, held: Held, action: str) -> None:
        held.action, held.updated = action, int(self.now * 1000) + self.ahead
        self.queue.append((self.now, held))
        self._write(held)

    def _write(self, held: Held) -> None:
        self.ranks[held.key] += 1
        held.write(self.ranks[held.key])
        self._publish()

    def _publish(self) -> None:
        self.queue = [(at, held) for at, held in self.queue if self.now - at <= RETENTION + STEP]
        hash_ = hashcode(Counter(held.status for held in self.registry.values()))
        recent: dict[Key, Held] = {}
        for _, held in self.queue:
            recent.pop(held.key, None)
            recent[held.key] = held
        version = len(self.answers) + 1
        self.times.append(self.now)
        self.answers.append(
            (
                Applications(1, hash_, tuple(held.lease for held in self.registry.values())),
                Applications(version, hash_, tuple(held.lease for held in recent.values())),
            )
        )

    def _cached(self, which: int, staleness: float) -> Applications:
        at = max(self.read_at.get(which, 0.0), self.now - min(staleness, STALEST))
        self.read_at[which] = at
        return self.answers[max(0, bisect_right(self.times, at) - 1)][which]
