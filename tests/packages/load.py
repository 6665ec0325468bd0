"""An upgrade under load: watch handlers call without a pause, services come and go, and every event is looked at."""

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Self

import httpx

from tests.packages.consul import restart_consul
from tests.packages.serving import Serving
from tests.packages.site import HOOK_SOCKET, REGISTRY
from tests.testbed.consul_log import calls_in
from tests.testbed.processes import wait_until
from tests.testbed.recorder import Event, Recorder

CALLERS = 2
ENOUGH = "/var/tmp/enough"
# How each call ended, and after how many microseconds.
CALL = f"""\
#!/bin/bash
until test -e {ENOUGH}; do
    began=${{EPOCHREALTIME/./}}
    /usr/bin/isthmus-hook --socket {HOOK_SOCKET} {REGISTRY} services
    echo "$? $((${{EPOCHREALTIME/./}} - began))" >>"/var/tmp/calls-$1"
done
"""
# Every call of its handlers is then in Consul's log.
TRACE = '{"log_level": "trace"}\n'
PAUSE = 0.1
STEADY = 20
SICK = "10.9.0.1:8080"


@dataclass(frozen=True, slots=True)
class Measured:
    """What an upgrade under load was like; times in seconds."""

    codes: Sequence[int]  # of every call
    counted: int  # by both lives of the agent
    by_consul: int  # calls of Consul's own handlers
    waits: Sequence[float]  # of every call
    lags: Mapping[str, float]  # of every endpoint that came, from Consul's word to the WorkloadEntry
    lost_endpoints: Sequence[str]  # deleted, although they were healthy all the time

    def __str__(self) -> str:
        lags, calls = self.lags.values(), len(self.codes) + self.by_consul
        return (
            f"{calls} calls of watch handlers, {self.counted} heard, {calls - self.counted} lost; "
            f"a call took {statistics.median(self.waits):.3f} s at the median and {max(self.waits):.1f} s at most; "
            f"{len(self.lags)} new endpoints were in the cluster {statistics.median(lags):.3f} s (median) to "
            f"{max(lags):.1f} s (across the restart) after Consul had them"
        )


class Load:
    """Callers on the machine, and services that come, fall ill and recover, until the block ends."""

    def __init__(self, site: Serving, recorder: Recorder) -> None:
        self._machine = site.machine
        self._consul = site.consul
        self._recorder = recorder
        self.came: dict[str, float] = {}
        self._enough = threading.Event()
        self._failure: Exception | None = None
        self._changing = threading.Thread(target=self._change, name="changes", daemon=True)

    def __enter__(self) -> Self:
        self._machine.write("/usr/local/bin/call", CALL, mode=0o755)
        for number in range(CALLERS):
            unit = f"--unit=caller-{number}"
            self._machine.run("systemd-run", "--quiet", unit, "--uid=consul", "/usr/local/bin/call", str(number))
        self._changing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._machine.run("touch", ENOUGH)
        self._enough.set()
        self._changing.join()
        for number in range(CALLERS):
            self._machine.wait_for_unit(f"caller-{number}", "inactive")

    def _change(self) -> None:
        try:
            for number in count():
                address = f"10.8.{number // 200}.{number % 200 + 1}"
                self._consul.register("waves", f"wave-{number}", node="node-1", address=address, port=8080)
                self.came[f"{address}:8080"] = time.monotonic()
                self._consul.set_status("sick-1", ("critical", "passing")[number % 2], node="node-1")
                if self._enough.wait(PAUSE):
                    return
        except httpx.HTTPError as error:  # told to whoever waits for the load
            self._failure = error

    def go_on(self) -> None:
        """Wait until some calls and changes that begin now have had their effect."""
        before, calls = set(self.came), len(self.calls())

        def has() -> bool:
            if self._failure:
                raise self._failure
            fresh = set(self.came) - before
            return len(fresh & self.arrived().keys()) > 10 and len(self.calls()) > calls + 20

        wait_until(has, "calls and changes go on", 60)

    def calls(self) -> list[tuple[int, int]]:
        """Return how every call ended, and after how many microseconds."""
        lines = self._machine.run("sh", "-c", "cat /var/tmp/calls-*", check=False).stdout.splitlines()
        return [(int(code), int(wait)) for code, wait in map(str.split, lines)]

    def arrived(self) -> dict[str, float]:
        """Return when each endpoint that came was in the cluster."""
        events = self._recorder.seen()
        return {endpoint(event): event.time for event in events if event.type == "ADDED" and is_entry(event)}


def upgrade_under_load(site: Serving, recorder: Recorder, upgrade: Callable[[], object]) -> Measured:
    """Upgrade while handlers call and services change, and return what that was like; the agent was started once."""
    machine = site.machine
    with Load(site, recorder) as load:
        load.go_on()
        upgrade()
        machine.wait_for_unit("isthmus")
        load.go_on()
    # Of the last ones, some may still be on their way.
    wait_until(lambda: load.came.keys() <= load.arrived().keys(), "every endpoint that came is in the cluster", 60)
    codes, waits = zip(*load.calls(), strict=True)

    def counts() -> tuple[int, int]:
        return site.heard_in_all_lives(), calls_in(machine.journal("consul"), REGISTRY).total()

    wait_until(lambda: counts()[0] == len(codes) + counts()[1], "every call is counted", 20)
    counted, by_consul = counts()
    arrived = load.arrived()
    return Measured(
        codes=codes,
        counted=counted,
        by_consul=by_consul,
        waits=[wait / 1e6 for wait in waits],
        lags={came: arrived[came] - at for came, at in load.came.items()},
        lost_endpoints=[
            endpoint(event)
            for event in recorder.events()
            if event.type == "DELETED" and is_entry(event) and endpoint(event) != SICK
        ],
    )


def make_busy(site: Serving) -> list[str]:
    """Register services, have Consul's own handlers call, and return the endpoints that nothing may touch."""
    machine = site.machine
    for number in range(STEADY):
        site.consul.register("steady", f"steady-{number}", node="node-1", address=f"10.0.0.{number + 1}", port=8080)
    site.consul.register("sick", "sick-0", node="node-1", address="10.9.0.2", port=8080)  # no last one is at stake
    site.consul.register("sick", "sick-1", node="node-1", address=SICK.partition(":")[0], port=8080)
    machine.run("isthmus", "watch-config", REGISTRY, "--handler", "script", "--install")
    machine.write("/etc/consul.d/trace.json", TRACE)
    restart_consul(site.machine, site.consul)
    return [f"10.0.0.{number + 1}:8080" for number in range(STEADY)] + [SICK]


def is_entry(event: Event) -> bool:
    """Tell whether an event is one of a WorkloadEntry."""
    return event.kind == "WorkloadEntry"


def endpoint(event: Event) -> str:
    """Return the address and port of a WorkloadEntry."""
    spec: Mapping[str, Any] = event.object["spec"]
    (port,) = spec["ports"].values()
    return f"{spec['address']}:{port}"
