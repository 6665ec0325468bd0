"""How late changes in Eureka are: without the server's read-only cache, and through it as it is by default.

Each row has a Eureka server of its own. A floor there is only where the server itself makes one wait.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from tests.bench.measure import percentile
from tests.bench.ours import EUREKA, NAMESPACE, Registry
from tests.bench.result import Line, Series, at_most
from tests.bench.rows import Bench, Found
from tests.bench.site import Site
from tests.testbed.eureka import Eureka, server_properties
from tests.testbed.eureka_api import described

CACHE = 30.0  # seconds that the server's cache may be old
SLOWEST = 1200.0  # ms, with `poll: 1s`
SMALL = 100  # instances
EACH = 10  # instances of an application
OUT_OF_PHASE = 0.618  # seconds added to each rest, so that changes come at every moment between two polls
KEPT = 10.0  # seconds that a change stays in deltas here, where it is 180 by default
NEW, STATUS, GONE = "registration", "change of status", "cancellation"
KINDS = (NEW, STATUS, GONE)
Lags = dict[str, list[float]]  # milliseconds, by kind

_numbers = count(1)


@contextmanager
def served(site: Site, instances: int, *, cache: bool = False, heap: str = "256m") -> Iterator[Eureka]:
    """Give a Eureka with so many instances, ten to an application; without a cache, changes leave its deltas early."""
    folder = site.folder / f"eureka-{next(_numbers)}"
    short = server_properties(
        {"retention_time_in_m_s_in_delta_queue": int(1000 * KEPT), "delta_retention_timer_interval_in_ms": 2000}
    )
    with Eureka(folder, cache=cache, heap=heap, more=None if cache else short) as eureka:
        eureka.register_many(
            described(
                f"APP-{number // EACH:04}",
                f"app-{number // EACH:04}-{number % EACH}",
                f"10.{64 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}",
                8080,
                metadata={"version": "v1", "zone": "a", "management.port": "8081"},
            )
            for number in range(instances)
        )
        yield eureka
        site.stop()


def registry(eureka: Eureka, url: str = "", poll: str = "1s") -> Registry:
    """Write the part of a configuration that is for the Eureka of a row."""
    return {"type": "eureka", "urls": [url or eureka.url], "poll": poll, "region": "eu"}


@dataclass(frozen=True, slots=True)
class Step:
    """One change of an instance, and what must follow from it."""

    kind: str
    event: str
    address: str
    make: Callable[[], None]


def life(eureka: Eureka, number: int) -> tuple[Step, ...]:
    """Return the life of an instance: it comes, is out of service, comes back and goes. Nothing is left of it."""
    app, id_, address = "APP-0003", f"fresh-{number}", f"100.65.{number // 250}.{number % 250 + 1}"
    return (
        Step(NEW, "ADDED", address, lambda: eureka.register(app, id_, address, 8080)),
        Step(STATUS, "DELETED", address, lambda: eureka.set_status(app, id_, "OUT_OF_SERVICE")),
        Step(STATUS, "ADDED", address, lambda: eureka.set_status(app, id_, "UP")),
        Step(GONE, "DELETED", address, lambda: eureka.cancel(app, id_)),
    )


def made(site: Site, step: Step) -> Callable[[], float]:
    """Make a change; return what waits until it is in the cluster and tells how late that was, in ms."""
    mark = site.witness.mark()
    step.make()
    at = time.monotonic()
    return lambda: 1000 * (site.witness.wait_for(step.event, NAMESPACE, step.address, mark) - at)


def changes(site: Site, bench: Bench) -> Found:
    """Measure single changes without the server's cache."""
    lags: Lags = defaultdict(list)
    with served(site, SMALL) as eureka:
        site.run({EUREKA: registry(eureka)}).wait_until_settled()
        for number in range(bench.effort.turns):
            for step in life(eureka, number):
                began = time.monotonic()
                lags[step.kind].append(made(site, step)())
                site.rest(bench.effort.spacing + OUT_OF_PHASE, began)
    lines = []
    for kind in KINDS:
        found = lags[kind]
        what, samples = f"{kind} in Eureka, no read-only cache, poll 1 s", len(found)
        lines.append(Line(f"{what}, p50", percentile(found, 50), "ms", samples=samples))
        high = percentile(found, 99)
        lines.append(at_most(f"{what}, p99", high, "ms", SLOWEST, "<= 1.2 s", samples=samples))
    return Found(lines, _series(lags, "Eureka, no cache"))


def cached(site: Site, bench: Bench) -> Found:
    """Measure changes through the server's cache of 30 s: made at every moment of its age, waited for together."""
    lags: Lags = defaultdict(list)
    number = max(4, bench.effort.turns // 2)
    with served(site, SMALL, cache=True) as eureka:
        site.run({EUREKA: registry(eureka)}).wait_until_settled()
        for steps in zip(*(life(eureka, one) for one in range(number)), strict=True):
            began, waiting = time.monotonic(), []
            for place, step in enumerate(steps):
                site.rest(place * CACHE / number, began)
                waiting.append((step.kind, made(site, step)))
            for kind, wait in waiting:
                lags[kind].append(wait())
    lines = []
    for kind in KINDS:
        found, what = lags[kind], f"{kind} in Eureka, default cache, poll 1 s"
        for name, share in (("p50", 50), ("latest", 100)):
            lag = percentile(found, share) / 1000
            lines.append(Line(f"{what}, {name}", lag, "s", CACHE, lag / CACHE, samples=len(found)))
    return Found(lines, _series(lags, "Eureka, default cache"))


def _series(lags: Lags, where: str) -> tuple[Series, ...]:
    return tuple(Series(f"{kind}, {where}", "isthmus", "ms", tuple(lags[kind])) for kind in KINDS)
