"""Why everything is read: a delta is not enough, or a removal waits for it."""

from enum import StrEnum


class Why(StrEnum):
    """What called for a full read.

    START: nothing is known yet. SERVER: another server answers now. EPOCH: its data
    began anew. GAP: deltas may have been missed. MISMATCH: the hashes differ.
    UNREADABLE: a delta could not be understood. DISABLED: the server gives no
    deltas. WAITING: a removal waits for a pass. ASKED: somebody awaits one. SWEEP:
    nothing; it should find nothing.
    """

    START = "start"
    SERVER = "server"
    EPOCH = "epoch"
    GAP = "gap"
    MISMATCH = "mismatch"
    UNREADABLE = "unreadable"
    DISABLED = "disabled"
    WAITING = "waiting"
    ASKED = "asked"
    SWEEP = "sweep"
