"""What a large Eureka costs: its server for each poll, isthmus in quiet and in memory, and changes in Consul."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.bench.child import Child
from tests.bench.estate import Instance
from tests.bench.measure import memory, percentile, processor_seconds
from tests.bench.ours import EUREKA, NAMESPACE, REGISTRY, Ours, Registry, consul
from tests.bench.result import Line, Series, at_most
from tests.bench.rows import Bench, Found
from tests.bench.rows.eureka import KEPT, registry, served
from tests.bench.rows.memory import ALLOWED, REST
from tests.bench.site import Site
from tests.bench.wire import Server, Wire
from tests.testbed.eureka import Eureka

HEAP = "1g"
CALM = 5.0
FORGOTTEN = KEPT + 5.0  # seconds after which deltas need no longer tell of what was registered at first
DELTAS, FULLS = 60, 15  # reads whose cost is counted
SPACING = 0.1  # seconds between two of them, in which the server does what it does anyway
NEVER = "1h"  # a poll that does not come while something is measured
FLIPS = 0.15  # seconds between two health flips
MOST = 240.0  # seconds in which as many full reads must come as are wanted
BEFORE = 0.1  # seconds before a full answer is seen to be large in which it is already being received


class Flip(NamedTuple):
    """One health flip: when it was made and seen, in monotonic seconds."""

    made: float
    seen: float


@contextmanager
def large(site: Site, instances: int) -> Iterator[Eureka]:
    """Give a Eureka with so many instances whose deltas are short, as they are some minutes after its start."""
    with served(site, instances, heap=HEAP) as eureka:
        time.sleep(FORGOTTEN)
        flip(eureka, 1)  # a delta that was asked for is kept until something changes
        flip(eureka, 2)
        told = len(eureka.delta().instances)
        if told > 2:
            raise RuntimeError(f"deltas still tell of {told} instances")
        yield eureka


def flip(eureka: Eureka, turn: int) -> None:
    """Change the status of one instance, there and back by turns."""
    eureka.set_status("APP-0001", "app-0001-1", "OUT_OF_SERVICE" if turn % 2 else "UP")


# The server's cost


def polls(site: Site, bench: Bench) -> Found:
    """Measure what a delta costs the server beside a full read: after a change, and where nothing has changed."""
    instances = bench.effort.large.instances
    with large(site, instances) as eureka:
        wire = Wire(Server(f"http://{eureka.address}:{eureka.port}"), packed=True)
        turns = 0

        def change() -> None:
            nonlocal turns
            turns += 1
            flip(eureka, turns)

        def read(what: str) -> int:
            return len(wire.ask("GET", f"/eureka/apps/{what}")[1])

        for what in ("", "delta"):  # what the JVM does only once is done
            read(what)
        alone = _cost(eureka, DELTAS, lambda: 0, change)[0]
        lines = []
        states: tuple[tuple[str, Callable[[], None] | None], ...] = (("after a change", change), ("nothing new", None))
        for state, before in states:
            delta = _cost(eureka, DELTAS, lambda: read("delta"), before)
            full = _cost(eureka, FULLS, lambda: read(""), before)
            taken_off = alone if before else 0.0
            cpu = [max(0.0, spent - taken_off) for spent, _ in (delta, full)]
            found = (("server's CPU", "ms", cpu[0], cpu[1]), ("bytes", "B", delta[1], full[1]))
            for name, unit, mine, other in found:
                said = f"{name} of a delta beside a full read, {state}, {instances:,} instances"
                lines.append(Line(said, mine, unit, other, mine / other if other else None, samples=DELTAS))
        wire.close()
    return Found(lines)


def _cost(
    eureka: Eureka, number: int, read: Callable[[], int], before: Callable[[], None] | None
) -> tuple[float, float]:
    """Return what one read costs: the server's processor time in ms, less what it spends anyway, and bytes."""
    pid, size, inside = eureka.process.pid, 0, 0.0
    time.sleep(CALM / 2)
    begun, spent = time.monotonic(), processor_seconds(pid)
    time.sleep(CALM)
    idle = (processor_seconds(pid) - spent) / (time.monotonic() - begun)
    for _ in range(number):
        begun, spent = time.monotonic(), processor_seconds(pid)
        if before:
            before()
        size += read()
        time.sleep(SPACING)
        inside += processor_seconds(pid) - spent - idle * (time.monotonic() - begun)
    return 1000 * max(0.0, inside) / number, size / number


# What isthmus spends


def quiet(site: Site, bench: Bench) -> Found:
    """Measure what polls with nothing new cost isthmus, and that they cost the cluster nothing."""
    instances, seconds = bench.effort.large.instances, bench.effort.quiet
    with large(site, instances) as eureka, Child("proxy") as proxy:
        url = _behind(proxy, eureka)
        idle = _spent(_settled(site, {EUREKA: registry(eureka, url, NEVER)}), seconds)
        agent = _settled(site, {EUREKA: registry(eureka, url)})
        writes, before = site.server.writes(), _told(agent)
        proxy.ask(reset=True)
        spent = _spent(agent, seconds)
        answered, now = proxy.ask()["answered"], _told(agent)
        written = site.server.writes() - writes
        site.stop()  # before the relay ends
    polled = max(1, now["polls"] - before["polls"])
    same = f"{now['unchanged'] - before['unchanged']} of {polled} polls were answered by the very same bytes"
    per_poll = 1000 * max(0.0, spent - idle) / polled
    return Found(
        [
            at_most(f"writes in {seconds:g} s of quiet, Eureka polled each second", written, "", 0, "0"),
            Line("isthmus' CPU per poll with nothing new", per_poll, "ms", samples=polled, note=same),
            Line("isthmus' CPU in a second with such a poll", 1000 * spent / seconds, "ms"),
            Line("isthmus' CPU in a second without polls", 1000 * idle / seconds, "ms"),
            Line("bytes of a poll with nothing new", answered / polled, "B", samples=polled),
        ]
    )


def _behind(proxy: Child, eureka: Eureka) -> str:
    return f"http://127.0.0.1:{proxy.ask(port=eureka.port)['port']}/eureka"


def _settled(site: Site, registries: dict[str, Registry], **limits: str) -> Ours:
    agent = site.run(registries, limits)
    agent.wait_until_settled()
    time.sleep(CALM)
    return agent


def _spent(agent: Ours, seconds: float) -> float:
    """Return the seconds of processor time that isthmus spends in so many seconds."""
    before = processor_seconds(agent.process.pid)
    time.sleep(seconds)
    return processor_seconds(agent.process.pid) - before


def _told(agent: Ours) -> dict[str, int]:
    told: dict[str, int] = agent.status()["registries"][EUREKA]["eureka"]
    return told


def resident(site: Site, bench: Bench) -> Found:
    """Measure resident memory with everything in Eureka, after the first sync and after a restart."""
    instances = bench.effort.large.instances
    lines = []
    with large(site, instances) as eureka:
        for when in ("after the first sync", "after a restart"):
            agent = site.run({EUREKA: registry(eureka, poll="5s")})
            agent.wait_until_settled()
            time.sleep(REST)
            found = memory(agent.process.pid)
            what, most = f"resident at {instances:,} Eureka instances, {when}", ALLOWED[10_000]
            note = f"peak {found['peak']:.0f} MB"
            lines.append(at_most(what, found["now"], "MB", most, f"<= {most:g} MB", note=note))
    return Found(lines)


# What others have of it


def beside(site: Site, bench: Bench) -> Found:
    """Measure health flips in Consul while the same agent reads all of a large Eureka, and while it does not."""
    instances, wanted = bench.effort.large.instances, 2 * bench.effort.rounds
    with large(site, instances) as eureka, Child("proxy") as proxy:
        registries = {REGISTRY: consul(site.consul.url), EUREKA: registry(eureka, _behind(proxy, eureka))}
        _settled(site, registries)
        end = time.monotonic() + bench.effort.quiet
        calm = _flips(site, lambda: time.monotonic() < end)
        # A sweep is due all the time, and so as often as a full read may come: ten times its own duration apart.
        agent = _settled(site, registries, sweep="1s", pass_spacing="100ms")
        proxy.ask(reset=True)
        end = time.monotonic() + MOST
        flips = _flips(site, lambda: len(proxy.ask()["large"]) <= wanted and time.monotonic() < end)
        began = proxy.ask()["large"]
        took = float(agent.status()["registries"][EUREKA]["pass_seconds"])
        site.stop()  # before the relay ends
    during = [flip for flip in flips if any(flip.seen >= at - BEFORE and flip.made <= at + took for at in began)]
    if not during:
        raise RuntimeError(f"none of {len(flips)} flips came during a full read, of which there were {len(began)}")
    return Found(
        list(
            _compared(_lags(during), _lags(calm), f"{len(began)} full reads of {instances:,} instances, {took:.2f} s")
        ),
        [
            Series("health flip in Consul beside full reads of Eureka", who, "ms", tuple(_lags(found)))
            for who, found in (("floor", calm), ("isthmus", during))
        ],
    )


def _flips(site: Site, go_on: Callable[[], bool]) -> list[Flip]:
    """Flip one check there and back, as long as that is wanted."""
    one, flips = Instance(site.estate.services[1], 1), []
    address = site.estate.address(one)
    while go_on():
        for status, event in (("critical", "DELETED"), ("passing", "ADDED")):
            began, mark = time.monotonic(), site.witness.mark()
            site.estate.set_status(one, status)
            made = time.monotonic()
            flips.append(Flip(made, site.witness.wait_for(event, NAMESPACE, address, mark)))
            site.rest(FLIPS, began)
    return flips


def _lags(flips: Sequence[Flip]) -> list[float]:
    return [1000 * (flip.seen - flip.made) for flip in flips]


def _compared(during: Sequence[float], calm: Sequence[float], note: str) -> Iterator[Line]:
    for share in (50, 99):
        lag, otherwise = percentile(during, share), percentile(calm, share)
        what = f"health flip in Consul during full reads of Eureka, beside none, p{share}"
        said = note if share == 50 else ""
        yield Line(what, lag, "ms", otherwise, lag / otherwise, samples=len(during), note=said)
