"""What a health flip costs Consul: with isthmus listening, with one blocking reader of everything, with nobody."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import cycle
from statistics import median

from tests.bench.child import Child
from tests.bench.estate import Instance
from tests.bench.measure import processor_seconds
from tests.bench.ours import Ours
from tests.bench.result import Line, at_least
from tests.bench.rows import Bench, Found
from tests.bench.site import Site
from tests.bench.wire import Server

NOBODY, OURS, READER = "nobody", "isthmus", "reader"
CALM = 4.0  # seconds before each measurement
SPACING, READER_SPACING = 0.1, 0.4  # seconds between two flips; the shorter, the less of what Consul does anyway
LEAST = 5e-5  # seconds: a difference that is less was not measured
CPU_TIMES, BYTES_TIMES = 20, 500


@dataclass(slots=True)
class Spent:
    """What was spent while somebody listened."""

    flips: int = 0
    answered: int = 0  # bytes, by Consul
    processor: list[float] = field(default_factory=list)  # seconds of Consul for each flip, by round


def cost(site: Site, bench: Bench) -> Found:
    """Flip checks in rounds, in each of which everybody listens once, alone."""
    effort = bench.effort
    spent: dict[str, Spent] = defaultdict(Spent)
    services = cycle(site.estate.services[500:] or site.estate.services)
    with Child("proxy") as before_ours, Child("proxy") as before_reader:
        agent = site.agent(_url(before_ours, site))
        reader_url = _url(before_reader, site)
        pid = site.consul.process.pid
        for _ in range(effort.rounds):
            with _stopped(agent):
                idle = _idle(pid)
                _flip(site, (effort.flips, SPACING), services, spent[NOBODY], idle)
            time.sleep(CALM)
            _flip(site, (effort.flips, SPACING), services, spent[OURS], idle, before_ours)
            with _stopped(agent), Child("reader") as reader:
                reader.ask(server=asdict(Server(reader_url)))
                time.sleep(CALM)
                _flip(site, (effort.reader_flips, READER_SPACING), services, spent[READER], idle, before_reader)
            time.sleep(CALM)
        site.stop()
    return Found(list(_lines(spent)))


def _url(proxy: Child, site: Site) -> str:
    return f"http://127.0.0.1:{proxy.ask(port=site.consul.port)['port']}"


@contextmanager
def _stopped(agent: Ours) -> Iterator[None]:
    agent.process.pause()
    try:
        yield
    finally:
        agent.process.resume()


def _idle(pid: int) -> float:
    """Return how much processor time Consul takes in a second when nothing happens."""
    time.sleep(CALM)
    before = processor_seconds(pid)
    time.sleep(CALM)
    return (processor_seconds(pid) - before) / CALM


def _flip(
    site: Site, plan: tuple[int, float], services: Iterator[str], spent: Spent, idle: float, proxy: Child | None = None
) -> None:
    """Flip so many checks there and back, so far apart, and add what that cost."""
    (flips, spacing), pid = plan, site.consul.process.pid
    if proxy:
        proxy.ask(reset=True)
    start, before = time.monotonic(), processor_seconds(pid)
    for _ in range(flips):
        one = Instance(next(services), 1)
        for status in ("critical", "passing"):
            began = time.monotonic()
            site.estate.set_status(one, status)
            site.rest(spacing, began)
    took = processor_seconds(pid) - before - idle * (time.monotonic() - start)
    spent.processor.append(took / (2 * flips))
    spent.flips += 2 * flips
    if proxy:
        spent.answered += proxy.ask()["answered"]


def _lines(spent: dict[str, Spent]) -> Iterator[Line]:
    nobody, ours, reader = (spent[name] for name in (NOBODY, OURS, READER))
    mine, theirs = (max(LEAST, median(one.processor) - median(nobody.processor)) for one in (ours, reader))
    yield at_least(
        "Consul's CPU per health flip, beside a `health/state/any` reader",
        theirs / mine,
        CPU_TIMES,
        ours=1000 * mine,
        floor=1000 * theirs,
        unit="ms",
        samples=ours.flips,
    )
    sent, others = (max(1.0, one.answered / one.flips) for one in (ours, reader))
    yield at_least(
        "bytes that Consul sends per health flip",
        others / sent,
        BYTES_TIMES,
        ours=sent,
        floor=others,
        unit="B",
        samples=ours.flips,
    )
    yield Line(
        "Consul's CPU per health flip, nobody listening", 1000 * median(nobody.processor), "ms", samples=nobody.flips
    )
