"""Whether a cluster is paused, and what waits for the end of that."""

from agent.hosts import Place


class Pause:
    """Counts the changes that are planned and not written; kept by a lane's own thread."""

    def __init__(self, configured: bool) -> None:
        """``configured`` is the configuration's word, which only another configuration ends."""
        self.ordered = False  # by an operator
        self._configured = configured
        self._waiting: dict[Place, int] = {}

    @property
    def stands(self) -> bool:
        """Tell whether nothing may be written."""
        return self.ordered or self._configured

    def note(self, place: Place, changes: int) -> None:
        """Note how many changes of a place wait."""
        self._waiting[place] = changes

    def obey(self, ordered: bool) -> set[Place]:
        """Take an operator's word; return the places at which something has waited for the end that it is."""
        stood, self.ordered = self.stands, ordered
        if self.stands or not stood:
            return set()
        places = {place for place, changes in self._waiting.items() if changes}
        self._waiting.clear()
        return places

    def waiting(self) -> int:
        """Return how many changes wait; may be called from any thread."""
        return sum(list(self._waiting.values()))
