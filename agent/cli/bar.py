"""A bar on a terminal: what is being written, and how long that will take."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """Shows how many objects of how many are written, on standard error, and leaves nothing behind."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("writing"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("", visible=False)

    def start(self) -> None:
        """Begin to show it, once it has appeared."""
        self._progress.start()

    def stop(self) -> None:
        """Leave nothing behind."""
        self._progress.stop()

    def appear(self) -> None:
        """Be visible from now on."""
        self._progress.update(self._task, visible=True)

    def show(self, done: int, total: int) -> None:
        """Show how far it is."""
        self._progress.update(self._task, completed=done, total=total)
        self._progress.refresh()
