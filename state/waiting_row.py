"""One row of the table of what waits: monotonic times become elapsed seconds, and go on from there."""

import json
from collections.abc import Sequence
from typing import Any

from state import codec
from state.model import InstanceKey, Reason, Waiting


def load(row: Sequence[Any], now: float) -> Waiting:
    """Return a removal that waits from its columns after the registry; ``now`` is monotonic."""
    service, node, identity, reason, word, waited, proofs, proved_ago = row
    return Waiting(
        key=InstanceKey(service, node, identity),
        reason=Reason(reason),
        word=None if word is None else codec.decode(json.loads(word)),
        since=now - waited,
        proofs=proofs,
        proved=now - proved_ago,
    )


def dump(registry: str, waiting: Waiting, now: float) -> list[Any]:
    """Return the columns of a removal that waits."""
    word = None if waiting.word is None else json.dumps(codec.encode(waiting.word))
    waited, proved_ago = max(0.0, now - waiting.since), max(0.0, now - waiting.proved)
    return [registry, *waiting.key, waiting.reason, word, waited, waiting.proofs, proved_ago]
