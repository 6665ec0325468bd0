"""Write a manual page in Markdown: `python packaging/man.py isthmus.8`; package.sh lets lowdown make the page of it.

What a page says of commands and keys is not written twice: it is what the command line and
docs/configuration.md say.
"""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / "packaging" / "examples" / "isthmus.yaml"


def main(page: str) -> None:
    """Print a page, with everything filled in."""
    text = (ROOT / "packaging" / "man" / f"{page}.md").read_text()
    sys.stdout.write(re.sub(r"^@(\w+)@$", lambda place: PLACES[place[1]](), text, flags=re.MULTILINE))


def commands() -> str:
    """Tell of every command: its usage, what it does, and the options that only it has."""
    click, cli = import_module("click"), import_module("agent.cli")
    group = click.Context(cli.main, info_name="isthmus")
    parts: list[str] = []
    for name in cli.VERBS:
        command = cli.main.get_command(group, name)
        context = click.Context(command, info_name=name, parent=group)
        shared = {option.name for option in cli.main.params}
        own = [one for one in command.params if one.param_type_name == "option" and one.name not in shared]
        words = command.collect_usage_pieces(context)[0 if own else 1 :]
        parts.append(f"## {' '.join([name, *map(_escaped, words)])}\n")
        parts += [f"{_escaped(' '.join(paragraph.split()))}\n" for paragraph in command.help.split("\n\n")]
        parts += [_definition(*one.get_help_record(context)) for one in own]
    return "\n".join(parts)


def options() -> str:
    """Tell of the options that every command has."""
    click, cli = import_module("click"), import_module("agent.cli")
    group = click.Context(cli.main, info_name="isthmus")
    return "\n".join(_definition(*option.get_help_record(group)) for option in cli.main.params)


def description() -> str:
    """Tell of every key, as the reference does, with a definition for each row of its tables."""
    _, text = REFERENCE.read_text().split("# Configuration\n", 1)
    # How the reference is made is for those who have the source.
    text = re.sub(r"This page is made from .* anew\.", "`isthmus schema` prints its schema.", text, flags=re.DOTALL)
    return "\n".join(_lines(text))


def example() -> str:
    """Show the example that the packages install."""
    return "```\n" + EXAMPLE.read_text() + "```"


PLACES = {"COMMANDS": commands, "OPTIONS": options, "DESCRIPTION": description, "EXAMPLE": example}


def _lines(text: str) -> Iterator[str]:
    columns: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            columns = []
            yield _unlinked(line)
        elif not columns:
            columns = _cells(line)
        elif not line.startswith("| ---"):
            row: dict[str, str] = dict(zip(columns, _cells(line), strict=True))
            told = " ".join(filter(None, (_kind(row), row["what it is"])))
            yield _definition(row["key"].strip("`"), told)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split(" | ")]


def _kind(row: dict[str, str]) -> str:
    """Return what a key takes and what it is without one, in parentheses."""
    default = row["default"]
    said = {"required": "required", "": ""}.get(default, f"default {default}")
    words = ", ".join(filter(None, (_unlinked(row.get("value", "")), said)))
    return f"({words})" if words else ""


def _unlinked(text: str) -> str:
    return re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", text)


def _definition(term: str, told: str) -> str:
    return f"**{_escaped(term)}**\n\n: {_escaped(told)}\n"


def _escaped(text: str) -> str:
    """Return a text with which Markdown does nothing, except for what stands in backquotes."""
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*_\[\]<>])", r"\\\1", part)
        for part in re.split(r"(`[^`]*`)", text)
    )


if __name__ == "__main__":
    main(sys.argv[1])
