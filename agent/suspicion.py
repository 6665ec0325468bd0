"""Whether a plan that deletes much of what a registry still lists is our own mistake (design section 7)."""

from collections.abc import Callable

from agent.gate import too_many
from agent.serving import Serving
from state.checkpoint import Carried
from state.model import Held, ResourceKey


class Suspicion:
    """Withholds deletions until the whole plan was made once, and after that if they are too many.

    Until then another place may want what seems to be here. A plan of another
    configuration or version than the last one carried out is judged as a whole.
    """

    def __init__(self, serving: Serving, carried: Carried | None) -> None:
        self.raised = True
        self._trusted = carried is not None and _trusts(serving, carried)
        self._withheld: dict[ResourceKey, Held] = {}

    def withhold(self, held: Held) -> None:
        """Do not let an object be deleted yet."""
        self._withheld[held.key] = held

    def drop(self, key: ResourceKey) -> None:
        """Note that an object is planned anew."""
        self._withheld.pop(key, None)

    def conclude(self, objects: Callable[[], int], *, passed: bool) -> list[Held]:
        """Judge the whole plan, now that all of it was made; return what may be deleted from now on.

        Whether it is our own mistake shows only when every registry has ``passed``;
        ``objects`` counts those of ours that the cluster holds.
        """
        if self.raised and (self._trusted or (passed and not too_many(len(self._withheld), objects()))):
            return self.end()
        return []

    def end(self) -> list[Held]:
        """Suspect nothing any more; return what may be deleted from now on."""
        self.raised = False
        released, self._withheld = list(self._withheld.values()), {}
        return released

    def withheld(self) -> tuple[Held, ...]:
        """Return the objects whose deletion is held as perhaps our own mistake."""
        return () if self._trusted else tuple(self._withheld.values())


def _trusts(serving: Serving, carried: Carried) -> bool:
    same = (carried.configuration, carried.version) == (serving.configuration, serving.version)
    return same or carried.accepted == serving.configuration
