"""How much memory isthmus keeps."""

import time

from tests.bench.measure import memory
from tests.bench.ours import Ours
from tests.bench.result import at_most
from tests.bench.rows import Bench, Found
from tests.bench.site import Site

REST = 5.0  # seconds after all work, before it is measured
ALLOWED = {100: 80.0, 10_000: 110.0}  # MB, by instances


def resident(site: Site, bench: Bench) -> Found:  # noqa: ARG001 - as every row
    """Measure resident memory after the first sync and after a restart."""
    first = _memory(site.agent())
    again = site.start()
    again.wait_until_settled()
    after = _memory(again)
    allowed = ALLOWED.get(site.size.instances, ALLOWED[10_000])
    return Found(
        [
            at_most(
                f"resident at {site.size.instances:,} instances, {when}",
                found["now"],
                "MB",
                allowed,
                f"<= {allowed:g} MB",
                note=f"peak {found['peak']:.0f} MB",
            )
            for when, found in (("after the first sync", first), ("after a restart", after))
        ]
    )


def _memory(agent: Ours) -> dict[str, float]:
    time.sleep(REST)
    return memory(agent.process.pid)
