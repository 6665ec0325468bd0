"""Many writes at once: a burst of registrations and a first sync, beside a bare client with as many in flight."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from agent.writes import IN_FLIGHT
from tests.bench.child import Child, ChildError, Words
from tests.bench.estate import FLOOR, Instance, service
from tests.bench.ours import NAMESPACE, Ours
from tests.bench.result import Line, Series, within
from tests.bench.rows import Bench, Found
from tests.bench.site import ADDED_BY_SERVER, Site
from tests.bench.wire import Server
from tests.testbed.apiserver import PLURALS, path

EACH = 10  # instances of each new service
PATIENCE = 600.0
SPACE = "floor"
Write = tuple[str, str]


def burst(site: Site, bench: Bench) -> Found:
    """Register many instances of new services at once, some times over."""
    agent, number = site.agent(), bench.effort.burst
    ours, floor, taken = [], [], []
    for turn in range(1, bench.effort.bursts + 1):
        names = [service(1000 * turn + one) for one in range(number // EACH)]
        fresh = [site.estate.fresh(name) for name in names for _ in range(EACH)]
        mark = site.witness.mark()
        registered = _pooled(site.registry, "PUT", [_registration(site, one) for one in fresh])
        made = site.witness.wait_until_quiet(len(fresh) + len(names), NAMESPACE, mark, PATIENCE)
        ours.append(made[-1] - registered["ended"])
        taken.append(registered["ended"] - registered["began"])
        agent.wait_until_settled()
        time.sleep(1)
        copies = _copies(site, {site.estate.address(one) for one in fresh}, set(names))
        bare = _bare(site, agent, copies)
        floor.append(bare["ended"] - bare["began"])
    what = f"burst of {number:,} registrations, last registration to last write"
    middle = sorted(zip(ours, floor, strict=True), key=lambda pair: pair[0] / pair[1])[len(ours) // 2]
    line = within(
        what,
        middle[0],
        middle[1],
        "s",
        1.5,
        than=SPACE,
        samples=len(ours),
        noise=(max(floor) - min(floor)) / min(floor),
        note=f"registered within {min(taken):.1f} s, {number // EACH} new hosts included",
    )
    return Found([line], _series("burst", ours, floor))


def first_sync(site: Site, bench: Bench) -> Found:  # noqa: ARG001 - as every row
    """Start isthmus with everything still to be written, and time that; then write the same by a bare client."""
    site.stop()
    objects = site.size.instances + site.size.services
    mark = site.witness.mark()
    agent = site.start()
    made = site.witness.wait_until_quiet(objects, NAMESPACE, mark, PATIENCE)
    ours = (len(made) - 1) / (made[-1] - made[0])
    agent.wait_until_settled()
    copies = _copies(site)
    halves = [copies[::2], copies[1::2]]
    rates = []
    for half in halves:
        bare = _bare(site, agent, half)
        rates.append(len(half) / (bare["ended"] - bare["began"]))
    floor = sum(rates) / len(rates)
    ratio = ours / floor
    first, last = made[0] - agent.started, made[-1] - agent.started
    line = Line(
        f"first sync of {site.size.instances:,} instances into 1 cluster",
        ours,
        "objects/s",
        floor,
        ratio,
        f">= 0.8x {SPACE}",
        ratio >= 0.8,
        0.8 / ratio,
        len(made),
        abs(rates[0] - rates[1]) / floor,
        f"{first:.1f} s from the start to the first write, {last:.1f} s to the last",
    )
    return Found([line])


def _registration(site: Site, one: Instance) -> Write:
    return "/v1/catalog/register", json.dumps(site.estate.body(one))


def _pooled(server: Server, method: str, writes: Sequence[Write]) -> Words:
    with Child("pool") as pool:
        done = pool.ask(server=asdict(server), in_flight=IN_FLIGHT, method=method, writes=writes)
    if done["errors"]:
        raise ChildError(str(done["errors"]))
    return done


def _bare(site: Site, agent: Ours, writes: Sequence[Write]) -> Words:
    agent.process.pause()
    try:
        return _pooled(site.cluster, "POST", writes)
    finally:
        agent.process.resume()


def _copies(site: Site, addresses: set[str] | None = None, services: set[str] | None = None) -> list[Write]:
    """Return writes of what isthmus wrote, of these addresses and services or all, into the floor's namespace."""
    copies = []
    for kind in PLURALS:
        for found in site.server.objects(kind, NAMESPACE):
            if kind == "WorkloadEntry" and addresses is not None and found["spec"]["address"] not in addresses:
                continue
            if (
                kind == "ServiceEntry"
                and services is not None
                and found["metadata"]["name"].split(".")[0] not in services
            ):
                continue
            copies.append((path(kind, FLOOR), json.dumps(_copy(found))))
    return copies


def _copy(found: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in found["metadata"].items() if key not in ADDED_BY_SERVER}
    return {**found, "metadata": {**kept, "namespace": FLOOR}}


def _series(name: str, ours: Sequence[float], floor: Sequence[float]) -> list[Series]:
    return [Series(name, who, "s", tuple(values)) for who, values in (("floor", floor), ("isthmus", ours))]
