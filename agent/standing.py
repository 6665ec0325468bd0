"""The sizes by which a registry's removals are judged: what is left, its baseline, and its epoch.

Pure: time is an argument, and nothing is changed here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from state.limits import Limits
from state.model import Count, Instance, InstanceKey, Reason, Standing, Waiting

FEW = 3
SMALL = 10  # a baseline below this knows no panic and needs no half to be left
HELD = (Reason.HOLD, Reason.PANIC)

Carries = Callable[[Instance], bool]
Services = Mapping[str, Mapping[InstanceKey, Instance]]


def contribution(instance: Instance, row: Waiting | None, carries: Carries) -> Count:
    """Return what one believed instance adds to what is left."""
    present = instance.present and not (row and row.gone)
    return Count(int(present), int(row is None and carries(instance)))


def count_left(services: Services, waiting: Mapping[InstanceKey, Waiting], carries: Carries) -> Count:
    """Count what is believed and does not wait."""
    return _sum(
        contribution(instance, waiting.get(key), carries)
        for instances in services.values()
        for key, instance in instances.items()
    )


def count_kept(services: Services, rows: Iterable[Waiting], carries: Carries) -> Count:
    """Count what is not left only because its removal waits: it may come back.

    What waits for grace is not part of it: its removal is believed.
    """
    whole, left = [], []
    for row in rows:
        if row.reason is not Reason.GRACE:
            instance = services[row.key.service][row.key]
            whole.append(contribution(instance, None, carries))
            left.append(contribution(instance, row, carries))
    every, some = _sum(whole), _sum(left)
    return Count(every.present - some.present, every.in_service - some.in_service)


def within(baseline: int, left: int, share: int) -> bool:
    """Tell whether what is left is something, and within max(3, share %) of the baseline."""
    return left > 0 and baseline - left <= max(FEW, baseline * share // 100)


def half(baseline: int, left: int) -> bool:
    """Tell whether half of the baseline is left, or it is too small to ask."""
    return baseline < SMALL or 2 * left >= baseline


def released(standing: Standing, left: Count, kept: Count) -> Standing:
    """Let a release set the baseline to what is left, and to what other waiting removals keep.

    A baseline that knew panic goes on knowing it while others wait: accepting one
    of ten held removals must not let the other nine go.
    """
    base = added(left, kept)
    if any(kept):
        before = standing.baseline
        base = _larger(base, Count(min(before.present, SMALL), min(before.in_service, SMALL)))
    return replace(standing, minutes=(base,) * 10)


def count_minute(standing: Standing, waiting: Iterable[Waiting], limits: Limits, now: float) -> Standing:
    """Count what is left, once a minute (a tenth of ``limits.baseline``).

    While a removal waits to be believed the baseline does not shrink: it is judged
    by what was there before, however long the registry cannot be read.
    """
    if not standing.minutes or now - standing.counted < limits.baseline / len(standing.minutes):
        return standing
    minutes = (*standing.minutes[1:], standing.left)
    if any(row.reason is not Reason.GRACE for row in waiting):
        minutes = tuple(_larger(count, standing.baseline) for count in minutes)
    return replace(standing, minutes=minutes, counted=now)


def begin_epoch(standing: Standing, now: float) -> Standing:
    """Begin another life of the registry's data: what is not seen in it will be held."""
    return replace(standing, epoch=standing.epoch + 1, epoch_began=now, index=0, versions=())


def added(one: Count, other: Count) -> Count:
    """Return the sum of two counts."""
    return Count(one.present + other.present, one.in_service + other.in_service)


def _sum(counts: Iterable[Count]) -> Count:
    present = in_service = 0
    for count in counts:
        present += count.present
        in_service += count.in_service
    return Count(present, in_service)


def _larger(one: Count, other: Count) -> Count:
    return Count(max(one.present, other.present), max(one.in_service, other.in_service))
