"""Every error that isthmus raises on purpose.

IsthmusError
├── ConfigurationError   exit 10: the configuration cannot be used
├── StateError           exit 11: the state file cannot be used
│   └── NewerStateError  it is a newer isthmus's, and `isthmus run` begins without it
├── RegistryError        a registry could not be read completely
└── ClusterError         a cluster did not take, or show, what was asked
"""

from enum import StrEnum


class IsthmusError(Exception):
    """Whatever isthmus reports: what, where and which value."""


class ConfigurationError(IsthmusError):
    """The configuration has mistakes; ``problems`` lists all of them, ``remedy`` may say what mends them."""

    def __init__(self, problems: list[str], remedy: str = "") -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.remedy = remedy


class StateError(IsthmusError):
    """The state file cannot be opened, locked, read or written."""


class NewerStateError(StateError):
    """The state file was written by a newer isthmus."""


class RegistryError(IsthmusError):
    """A registry did not give a complete, trustworthy answer."""


class Fault(StrEnum):
    """What a failed call to a cluster means for what comes next."""

    OBJECT = "object"  # this object: try again later, others go on
    CLUSTER = "cluster"  # the whole cluster: wait, then try again
    REJECTED = "rejected"  # never as it is: wait for another desired state
    CONFLICT = "conflict"  # somebody changed it: read it again
    EXISTS = "exists"  # created by somebody else: read it again
    MISSING = "missing"  # it is not there
    UNAUTHORISED = "unauthorised"  # credentials or permissions
    EXPIRED = "expired"  # a watch is too old: list again


class ClusterError(IsthmusError):
    """A cluster refused or failed; ``fault`` says what follows from it.

    ``retry_after`` is in seconds, 0 when the cluster named none.
    """

    def __init__(self, fault: Fault, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.fault = fault
        self.retry_after = retry_after


class ReloadingError(IsthmusError):
    """The agent is being replaced by one with another configuration."""
