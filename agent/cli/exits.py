"""The exit codes, of which the largest that applies is taken; 0 is for done."""

FAILED = 1  # a registry or a cluster
USAGE = 2
CHANGES = 3  # in a plan, only if asked for
CONFIGURATION = 10
STATE = 11
HELD = 12  # by a guard


def largest(*codes: int) -> int:
    """Return the largest of the codes that apply."""
    return max(codes, default=0)
