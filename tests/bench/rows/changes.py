"""How late a single change is: a health flip, a new instance, a deregistration, each beside the floor.

Floor and isthmus take turns. The change that one of them hears comes halfway between two of the other's, so that
whatever disturbs the machine disturbs both; while the floor is measured isthmus stands still, so that it does not.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import cycle

from tests.bench.child import Child
from tests.bench.estate import FLOOR, Estate, Instance
from tests.bench.measure import noise, percentile
from tests.bench.ours import NAMESPACE, REGISTRY, Ours
from tests.bench.result import Line, Series, within
from tests.bench.rows import Bench, Found
from tests.bench.site import KIND, Site
from tests.bench.wire import Wire, pack
from tests.testbed.apiserver import path

FLIP, NEW, GONE = "health flip", "new instance", "deregistration"
KINDS = (FLIP, NEW, GONE)
HIGH = 99
WATCHED = "svc-009*"
CALM = 3.0  # seconds, after every watch has called for the first time
Lags = dict[str, list[float]]  # milliseconds, by kind


@dataclass(frozen=True, slots=True)
class Step:
    """One change of an instance, and what must follow from it."""

    kind: str
    event: str
    make: Callable[[Instance], None]


def turn(estate: Estate) -> tuple[Step, ...]:
    """Return the life of an instance: it comes, fails, recovers and goes. Nothing is left of it."""
    return (
        Step(NEW, "ADDED", estate.register),
        Step(FLIP, "DELETED", lambda one: estate.set_status(one, "critical")),
        Step(FLIP, "ADDED", lambda one: estate.set_status(one, "passing")),
        Step(GONE, "DELETED", estate.deregister),
    )


@dataclass(slots=True)
class Race:
    """Floor and isthmus by turns on one site."""

    site: Site
    agent: Ours
    floor: Child
    spacing: float
    hint: bool = False
    kinds: Sequence[str] = KINDS
    ours: Lags = field(default_factory=lambda: defaultdict(list))
    floors: Lags = field(default_factory=lambda: defaultdict(list))
    found: Counter[str] = field(default_factory=Counter)  # changes, by how isthmus found them
    replies: list[float] = field(default_factory=list)
    _hook: Wire | None = None

    def run(self, services: Iterator[str], turns: int) -> None:
        """Make so many turns; the changes of each are in one of the services."""
        if self.hint:
            self._hook = Wire(self.agent.hook)
            self._tell(next(services))
        before = self.agent.found()
        for _ in range(turns):
            self._turn(next(services))
        self.found = self.agent.found() - before

    def _turn(self, service: str) -> None:
        estate = self.site.estate
        self._play(turn(estate), estate.fresh(FLOOR), estate.fresh(service))

    def _play(self, steps: Sequence[Step], floors: Instance, mine: Instance) -> None:
        for step in steps:
            began = time.monotonic()
            self._floor(step, floors)
            self.site.rest(self.spacing / 2, began)
            self._ours(step, mine)
            self.site.rest(self.spacing, began)

    def _ours(self, step: Step, one: Instance) -> None:
        witness, address = self.site.witness, self.site.estate.address(one)
        mark = witness.mark()
        step.make(one)
        made = time.monotonic()
        if self._hook:
            self._tell(one.service)
        seen = witness.wait_for(step.event, NAMESPACE, address, mark)
        if step.kind in self.kinds:
            self.ours[step.kind].append(1000 * (seen - made))

    def _tell(self, service: str) -> None:
        assert self._hook
        self._hook.ask("POST", f"/v1/consul/{REGISTRY}/service/{service}", b"[]")

    def _floor(self, step: Step, one: Instance) -> None:
        witness, address = self.site.witness, self.site.estate.address(one)
        where, body = self.site.entry(one)
        write = {"method": "DELETE", "path": where, "body": None}
        if step.event == "ADDED":
            write = {"method": "POST", "path": path(KIND, FLOOR), "body": pack(body).decode()}
        self.agent.process.pause()
        try:
            self.floor.ask(service=FLOOR, **write)
            time.sleep(0.1)  # until the query has surely arrived
            mark = witness.mark()
            step.make(one)
            made = time.monotonic()
            acknowledged = self.floor.hear()["acknowledged"]
            seen = witness.wait_for(step.event, FLOOR, address, mark)
        finally:
            self.agent.process.resume()
        if step.kind in self.kinds:
            self.floors[step.kind].append(1000 * (seen - made))
            self.replies.append(1000 * (acknowledged - made))

    def series(self, where: str) -> tuple[Series, ...]:
        """Return all samples."""
        return tuple(
            Series(f"{kind}, {where}", who, "ms", tuple(lags[kind]))
            for kind in self.kinds
            for who, lags in (("floor", self.floors), ("isthmus", self.ours))
        )


def small(site: Site, bench: Bench) -> Found:
    """Measure single changes at the small estate against the floor."""
    agent = site.agent()
    with site.floor() as floor:
        race = Race(site, agent, floor, bench.effort.spacing)
        race.run(cycle(site.estate.services), bench.effort.turns)
    lines = [line for kind in KINDS for line in _against_floor(race, kind)]
    for kind in KINDS:
        bench.figures[kind] = percentile(race.ours[kind], 50)
    witness = (
        f"the floor's own replies had p50 {percentile(race.replies, 50):.2f} ms: the witness adds the same to both"
    )
    lines[0] = replace(lines[0], note=witness)
    return Found(lines, race.series(f"{site.size.instances:,} instances"))


def _against_floor(race: Race, kind: str) -> Iterator[Line]:
    ours, floor = race.ours[kind], race.floors[kind]
    for share, times in ((50, 1.5), (HIGH, 3)):
        yield within(
            f"{kind}, p{share}",
            percentile(ours, share),
            percentile(floor, share),
            "ms",
            times,
            samples=len(ours),
            noise=noise(floor),
        )


# The large estate: against the figures of the small one.


def parked(site: Site, bench: Bench) -> Found:
    """Measure changes in services that are parked because they changed before."""
    agent = site.agent()
    services = site.estate.services[:4]
    for name in services:  # what has changed last is what is parked
        _warm(site, name)
    agent.wait_until_settled()
    with site.floor() as floor:
        race = Race(site, agent, floor, bench.effort.spacing)
        race.run(cycle(services), bench.effort.large_turns)
    return _against_small(site, bench, race, "parked", KINDS, 1.2)


def hinted(site: Site, bench: Bench) -> Found:
    """Measure changes in services that are not parked, and of which a watch call tells."""
    agent = site.agent(parked=0)
    with site.floor() as floor:
        race = Race(site, agent, floor, bench.effort.spacing, hint=True)
        race.run(_others(site), bench.effort.large_turns)
    return _against_small(site, bench, race, "hinted", KINDS, 2)


def watched(site: Site, bench: Bench) -> Found:
    """Measure changes in services that are not parked, and that Consul itself watches as `watch-config` says."""
    agent = site.agent(parked=0)
    services = [name for name in site.estate.services if fnmatchcase(name, WATCHED)]
    site.consul.reload(agent.watches(WATCHED))
    time.sleep(CALM)
    agent.wait_until_settled()
    with site.floor() as floor:
        race = Race(site, agent, floor, bench.effort.spacing)
        race.run(cycle(services), bench.effort.large_turns)
    site.consul.reload({})
    return _against_small(site, bench, race, "watched by Consul", KINDS, 2)


def flip_anywhere(site: Site, bench: Bench) -> Found:
    """Measure health flips in services that are neither parked nor hinted."""
    agent = site.agent(parked=0)
    with site.floor() as floor:
        site.write_bare(Instance(FLOOR, 0))
        race = Flips(site, agent, floor, bench.effort.spacing, kinds=(FLIP,))
        race.run(_others(site), bench.effort.large_turns)
    return _against_small(site, bench, race, "anywhere", (FLIP,), 1.2)


class Flips(Race):
    """Only the two flips of each turn, of instances that stay."""

    def _turn(self, service: str) -> None:
        self._play(turn(self.site.estate)[1:3], Instance(FLOOR, 0), Instance(service, 0))


def _others(site: Site) -> Iterator[str]:
    """Yield services, from the last on: not those that other rows change."""
    return cycle(reversed(site.estate.services[len(site.estate.services) // 2 :]))


def _warm(site: Site, name: str) -> None:
    one = site.estate.fresh(name)
    for step in turn(site.estate):
        mark = site.witness.mark()
        step.make(one)
        site.witness.wait_for(step.event, NAMESPACE, site.estate.address(one), mark)


def _against_small(site: Site, bench: Bench, race: Race, how: str, kinds: Sequence[str], times: float) -> Found:
    lines = []
    for kind in kinds:
        ours, floor = race.ours[kind], race.floors[kind]
        for share in (50, HIGH):
            what = f"{kind}, {how}, p{share}"
            figures = percentile(ours, share), "ms", percentile(floor, share)
            lines.append(Line(what, *figures, samples=len(ours), noise=noise(floor)))
        lines[-2] = _compared(lines[-2], bench.figures.get(kind), times)
    found = ", ".join(f"{source} {changes}" for source, changes in race.found.most_common())
    lines[0] = replace(lines[0], note="; ".join(filter(None, (lines[0].note, found and f"changes found by {found}"))))
    return Found(lines, race.series(f"{site.size.instances:,} instances, {how}"))


def _compared(line: Line, before: float | None, times: float) -> Line:
    """Judge a line against the figure at the small estate; the floor stands beside it."""
    if before is None:
        return replace(line, note="not compared: row changes was not run")
    judged = within(line.what, line.figure, before, line.unit, times, than="at 100")
    return replace(line, ratio=judged.ratio, must=judged.must, reached=judged.reached, share=judged.share)
