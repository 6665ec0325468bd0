"""One removal: what is believed of a registration, and what the registry says of it now.

Pure.
"""

from dataclasses import dataclass, replace

from agent.standing import Carries
from state.model import Absence, Instance, InstanceKey, Reason, Waiting


@dataclass(frozen=True, slots=True)
class Case:
    """One removal under judgement.

    ``word`` is what the registry says now, None when the registration vanished;
    ``row`` how it waits already. ``gone`` counts against what is present, ``dark``
    against what is in service. ``unseen`` tells that this epoch never showed it.
    """

    before: Instance
    word: Instance | None
    row: Waiting | None
    gone: bool
    dark: bool
    unseen: bool

    @property
    def key(self) -> InstanceKey:
        """Return whose removal it is."""
        return self.before.key

    @property
    def fresh(self) -> bool:
        """Tell whether it is gone only since this reading."""
        return self.gone and not (self.row and self.row.gone)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a case: believed when there is no reason to wait.

    ``released`` tells that it was held, and that proofs or an operator ended that.
    """

    reason: Reason | None
    proofs: int = 0
    proved: float = 0.0
    released: bool = False


def keep_rejected(before: Instance | None, word: Instance) -> Instance:
    """Return what to believe of a registration whose new word may be invalid.

    A rejected update of a believed instance leaves it as last believed, shown as
    rejected; that it is unhealthy is believed all the same.
    """
    if not word.rejected or before is None or not before.address:
        return word
    absent = before.absent_because if word.absent_because is Absence.REJECTED else word.absent_because
    return replace(before, rejected=word.rejected, absent_because=absent)


def is_gone(before: Instance, word: Instance) -> bool:
    """Tell whether what was present is not any more."""
    return before.present and not word.present


def is_dark(before: Instance, word: Instance, carries: Carries) -> bool:
    """Tell whether what carried traffic does not any more."""
    return carries(before) and not carries(word)
