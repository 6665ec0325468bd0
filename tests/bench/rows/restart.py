"""A restart with nothing changed: what it writes, and how soon it is ready."""

from tests.bench.child import Child
from tests.bench.result import at_most
from tests.bench.rows import Bench, Found
from tests.bench.site import Site

READY = 3.0  # seconds allowed


def restart(site: Site, bench: Bench) -> Found:  # noqa: ARG001 - as every row
    """Restart isthmus behind a relay, which knows when the registry answered first."""
    with Child("proxy") as proxy:
        url = f"http://127.0.0.1:{proxy.ask(port=site.consul.port)['port']}"
        site.agent(url)
        site.stop()
        before = site.server.writes()
        proxy.ask(reset=True)
        agent = site.start(url)
        settled = agent.wait_until_settled()
        answered = proxy.ask()["first"]
        said = agent.ready_at()
        ready = max(settled, said or 0.0)
        written = site.server.writes() - before
        site.stop()
    told = "until its status was ok" if said is None else f"READY=1 after {said - answered:.2f} s"
    instances = site.size.instances
    return Found(
        [
            at_most(f"writes of a restart with {instances:,} instances unchanged", written, "", 0, "0"),
            at_most(
                "ready after the registry's first answer",
                ready - answered,
                "s",
                READY,
                f"<= {READY:g} s",
                note=f"{told}; {ready - agent.started:.1f} s after the start",
            ),
        ]
    )
