"""What was written to clusters: when, why, by whose word, and how late.

JSON keys are those of the answer at ``/v1/history``.
"""

from datetime import UTC, datetime
from typing import Any

from agent.naming import host_label
from agent.plan import Action
from state.checkpoint import Checkpoint, Event

MOST = 10_000  # events that are told at once
WORDS = {str(Action.CREATE): "created", str(Action.UPDATE): "updated", str(Action.DELETE): "deleted"}


def chronicle(checkpoint: Checkpoint, host: str, most: int) -> dict[str, Any]:
    """Return what was written last, the newest first, of one host or, for "", of all."""
    host = host.lower().rstrip(".")
    return {"host": host, "events": [_told(event) for event in checkpoint.history(host_label(host), most)]}


def _told(event: Event) -> dict[str, Any]:
    return {
        "at": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds"),
        "cluster": event.cluster,
        "action": WORDS.get(event.action, event.action),
        "kind": event.key.kind,
        "namespace": event.key.namespace,
        "name": event.key.name,
        "host": event.host,
        "why": event.why,
        "registry": event.registry,
        "lag_seconds": event.lag,
    }
