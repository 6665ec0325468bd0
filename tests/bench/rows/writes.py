"""What a change costs in writes, as the API server counts them, and what quiet costs."""

import time
from collections.abc import Callable

from tests.bench.estate import PORT, Instance
from tests.bench.ours import NAMESPACE
from tests.bench.result import Line, at_most
from tests.bench.rows import Bench, Found
from tests.bench.rows.changes import FLIP, GONE, NEW
from tests.bench.site import Site

LATE = 3.0  # seconds in which a write that should not be would come
MOVED = PORT + 1


def writes(site: Site, bench: Bench) -> Found:
    """Count the writes of every kind of change, then those of a quiet time."""
    agent = site.agent()
    estate, number = site.estate, bench.effort.writes
    fresh = [estate.fresh(name) for name in (estate.services * number)[:number]]

    def each(change: Callable[[Instance], None], event: str) -> int:
        before = site.server.writes()
        for one in fresh:
            mark = site.witness.mark()
            change(one)
            site.witness.wait_for(event, NAMESPACE, estate.address(one), mark)
        agent.wait_until_settled()
        time.sleep(LATE)
        return site.server.writes() - before

    def line(what: str, found: int, changes: int, allowed: int) -> Line:
        return at_most(f"writes per {what}", found / changes, "", allowed, str(allowed), samples=changes)

    lines = [line(NEW, each(estate.register, "ADDED"), number, 1)]
    flips = each(lambda one: estate.set_status(one, "critical"), "DELETED")
    flips += each(lambda one: estate.set_status(one, "passing"), "ADDED")
    lines.append(line(FLIP, flips, 2 * number, 1))
    lines.append(line("move to another port", each(lambda one: estate.register(one, MOVED), "DELETED"), number, 2))
    lines.append(line(GONE, each(estate.deregister, "DELETED"), number, 1))
    before = site.server.writes()
    time.sleep(bench.effort.quiet)
    what = f"writes in {bench.effort.quiet:g} s of quiet"
    lines.append(at_most(what, site.server.writes() - before, "", 0, "0"))
    return Found(lines)
