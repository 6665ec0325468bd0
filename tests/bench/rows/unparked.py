"""How late a registration is of which nothing tells but that the catalogue has moved."""

import time
from collections.abc import Iterator
from statistics import median

from tests.bench.ours import NAMESPACE, REGISTRY
from tests.bench.result import Line, Series, at_most
from tests.bench.rows import Bench, Found
from tests.bench.site import Site

WORST = 8.0  # seconds allowed
EVERY = 1.0  # seconds between two registrations


def unparked(site: Site, bench: Bench) -> Found:
    """Register one instance a second, each in another service, nothing being parked and no watch calling."""
    agent = site.agent(parked=0)
    mark = site.witness.mark()
    made = []
    for name in _services(site, bench.effort.unparked):
        one = site.estate.fresh(name)
        site.estate.register(one)
        made.append((site.estate.address(one), time.monotonic()))
        site.rest(EVERY, made[-1][1])
    lags = [site.witness.wait_for("ADDED", NAMESPACE, address, mark) - at for address, at in made]
    seconds = agent.status()["registries"][REGISTRY]["pass_seconds"]
    limits = {"samples": len(lags)}
    note = f"one a second; a whole pass over {site.size.services:,} services took {seconds:.2f} s"
    return Found(
        [
            at_most(
                "registration, unparked and unhinted, worst",
                max(lags),
                "s",
                WORST,
                f"<= {WORST:g} s",
                note=note,
                **limits,
            ),
            Line("registration, unparked and unhinted, p50", median(lags), "s", samples=len(lags)),
        ],
        [Series("registration, unparked", "isthmus", "ms", tuple(1000 * lag for lag in lags))],
    )


def _services(site: Site, number: int) -> Iterator[str]:
    services = site.estate.services
    yield from (services[(7 * one + 3) % len(services)] for one in range(number))
