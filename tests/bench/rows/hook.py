"""What a watch call costs the one who makes it: `isthmus-hook` as a script handler, and a call of type http."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import hooks
from tests.bench.measure import noise, percentile
from tests.bench.ours import REGISTRY
from tests.bench.result import Line, at_most
from tests.bench.rows import Bench, Found
from tests.bench.site import Site
from tests.bench.wire import Wire

PYTHON = (sys.executable, "-I", "-S")
SEND = Path(hooks.__file__).with_name("send.py")
HOOK_MS, CALL_MS = 30.0, 5.0  # allowed


def hook(site: Site, bench: Bench) -> Found:
    """Run the hook and a Python that does nothing by turns; then call by http."""
    agent, name = site.agent(), site.estate.services[0]
    socket = agent.folder / agent.config["receiver"]["socket"]
    command = (*PYTHON, str(SEND), "--socket", str(socket), REGISTRY, "service", name)
    ours, floor = [], []
    for _ in range(bench.effort.runs):
        floor.append(_run((*PYTHON, "-c", "pass")))
        ours.append(_run(command))
    calls = _calls(Wire(agent.hook), f"/v1/consul/{REGISTRY}/service/{name}", bench.effort.calls)
    above = median(ours) - median(floor)
    lines = [
        at_most(
            "`isthmus-hook`, p50 above `python -I -S -c pass`",
            above,
            "ms",
            HOOK_MS,
            f"<= {HOOK_MS:g} ms",
            samples=len(ours),
            noise=noise(floor),
            note=f"p50 {median(ours):.1f} ms, of which {median(floor):.1f} ms are Python's start",
        ),
        at_most("answer to a watch call, p50", median(calls), "ms", CALL_MS, f"<= {CALL_MS:g} ms", samples=len(calls)),
        Line("answer to a watch call, p99", percentile(calls, 99), "ms", samples=len(calls)),
    ]
    return Found(lines)


def _run(command: Sequence[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, input=b"[]", check=True)
    return 1000 * (time.monotonic() - began)


def _calls(wire: Wire, path: str, number: int) -> list[float]:
    found = []
    for _ in range(number):
        began = time.monotonic()
        wire.ask("POST", path, b"[]")
        found.append(1000 * (time.monotonic() - began))
    wire.close()
    return found
