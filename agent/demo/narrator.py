"""What the demo prints: plain lines, with colours where there is a terminal."""

from collections.abc import Iterable, Sequence
from textwrap import wrap

from rich.padding import Padding
from rich.text import Text

from agent.cli.tables import console, table
from agent.demo.witness import Write
from agent.plan import Action
from agent.words import plain

WIDTH = 110  # columns
INDENT = 21  # of what belongs to the line above
WORDS = 25  # columns for what was written
STYLES = {Action.CREATE: "green", Action.UPDATE: "yellow", Action.DELETE: "red"}


class Narrator:
    """Prints a story whose times count from its beginning, in monotonic seconds."""

    indent = INDENT

    def __init__(self) -> None:
        self.began = 0.0
        self._output = console()

    def title(self, text: str, explained: str = "") -> None:
        """Print what begins, and what it is about."""
        self._print()
        self._print((text, "bold"))
        self.say(explained, 3, "italic")

    def say(self, text: str, indent: int = 2, style: str = "") -> None:
        """Print a paragraph."""
        for line in _wrapped(text, indent):
            self._print((" " * indent + line, style))

    def named(self, name: str, text: str) -> None:
        """Print a paragraph with a word before it."""
        first, *rest = _wrapped(text, 13)
        self._print((f"  {name:<11}", "bold"), first)
        for line in rest:
            self._print(" " * 13 + line)

    def note(self, at: float, who: str, text: str, style: str = "bold") -> None:
        """Print what somebody did or found."""
        first, *rest = _wrapped(text, INDENT)
        self._print(f"{self._time(at)}  ", (f"{who:<10}", style), first)
        for line in rest:
            self._print(" " * INDENT + line)

    def verbatim(self, line: str) -> None:
        """Print a line as the command line would have printed it."""
        self._print((f"{' ' * INDENT}{plain(line)}", "dim"))

    def wrote(self, write: Write, lag: float, place: str) -> None:
        """Print one write."""
        words = write.fact.words
        if write.action is Action.UPDATE and write.before is not None:
            words += "".join(f" {new}" for new in write.fact.details if new not in write.before.details)
        self._print(
            f"{self._time(write.at)}  {write.cluster:<8}",
            (f"{write.action} {words:<{WORDS}}", STYLES[write.action]),
            f" {_milliseconds(lag):>9}  ",
            (plain(place), "dim"),
        )

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table."""
        self._output.print(Padding(table(columns, rows), (0, 0, 0, 2), expand=False))

    def _time(self, at: float) -> str:
        return f"{max(0.0, at - self.began):7.2f} s"

    def _print(self, *parts: str | tuple[str, str]) -> None:
        self._output.print(Text.assemble(*parts), soft_wrap=True)


def _wrapped(text: str, indent: int) -> list[str]:
    return wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False)


def _milliseconds(lag: float) -> str:
    """Return a lag; what is negative happened before the registry's acknowledgement had arrived here."""
    return f"{max(0.0, 1000 * lag):.1f} ms"
