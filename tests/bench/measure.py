"""What the kernel and the samples say: percentiles, memory, processor time."""

import contextlib
import math
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

CPUCLOCK_SCHED = 2  # linux/posix-timers.h


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that so many per cent of them do not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)]


def noise(samples: Sequence[float]) -> float:
    """Return by which share of the median the medians of the first and second half differ: 0 is a quiet machine."""
    half = len(samples) // 2
    if not half:
        return 0.0
    middle = statistics.median(samples)
    apart = abs(statistics.median(samples[:half]) - statistics.median(samples[half:]))
    return apart / middle if middle else 0.0


def memory(pid: int) -> dict[str, float]:
    """Return the resident memory of a process in MB, ``now`` and at its ``peak``."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found["now" if name == "VmRSS" else "peak"] = int(value.split()[0]) * 1024 / 1e6
    return found


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process so far, to the nanosecond, where /proc/PID/stat counts ticks of 10 ms.

    The clock's number is made as glibc's clock_getcpuclockid makes it, which Python does not offer.
    """
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


def first_in_line() -> None:
    """Let the calling thread, and none that it starts, run as soon as something arrives for it, where root allows that.

    Whoever looks at the clock must not wait for a processor behind those whom it measures.
    https://man7.org/linux/man-pages/man7/sched.7.html
    """
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
