"""The documents, followed to the letter.

A code block of the language `sh` is run, all blocks of one document in one shell, in their order. A block of `yaml` or
`json` after a line that ends with "in `NAME`:" is written to that file first. A line that begins with `#  ` tells what
the command before it prints; what varies from run to run is written as `...` there.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 150.0  # seconds for one document
NAMED = re.compile(r"in `([^`/]+)`:\s*$")
EXPECTED = re.compile(r"^#  ?(.*)$")
MARK = "--- line"


@dataclass(frozen=True, slots=True)
class Block:
    """A code block: its language, its first line's number, and the file that it is to be written to."""

    language: str
    line: int
    text: str
    file: str = ""


def blocks(document: str) -> Iterator[Block]:
    """Yield the code blocks of a document in Markdown."""
    language, start, before, found = "", 0, "", list[str]()
    for number, line in enumerate(document.splitlines(), 1):
        if line.startswith("```") and not start:
            language, start, found = line.removeprefix("```").strip(), number + 1, []
        elif line.startswith("```"):
            named = NAMED.search(before)
            yield Block(language, start, "\n".join(found) + "\n", named[1] if named else "")
            start, before = 0, ""
        elif start:
            found.append(line)
        elif line.strip():
            before = line


def script(found: Sequence[Block]) -> str:
    """Return a shell script of a document's blocks, which tells before each expectation that the line has come."""
    parts = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait || true' EXIT"]
    for block in found:
        if block.file:
            parts.append(f"cat > {block.file} <<'END OF FILE'\n{block.text}END OF FILE")
        elif block.language == "sh":
            parts.append(_commands(block))
    return "\n".join(parts) + "\n"


def _commands(block: Block) -> str:
    lines = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        lines.append(f"echo '{MARK} {number}'" if EXPECTED.match(line) else line)
    return "\n".join(lines)


def follow(document: str, folder: Path, environment: Mapping[str, str], replaced: Mapping[str, str]) -> str:
    """Run a document in a folder and return all that it printed; AssertionError when a command fails or prints less."""
    found = list(blocks(document))
    text = script(found)
    for old, new in replaced.items():
        text = text.replace(old, new)
    log = folder / ".output"
    with log.open("wb") as output:
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
    printed = log.read_text()
    assert done.returncode == 0, f"ended with {done.returncode}:\n{printed}"
    compare(found, printed)
    return printed


def compare(found: Sequence[Block], printed: str) -> None:
    """Raise AssertionError when a script of these blocks has printed less than they say."""
    for number, expected, shown in _expectations(found, printed):
        assert _matches(expected, shown), f"line {number} expects {expected!r}, but there is only:\n{shown}"


def _expectations(found: Sequence[Block], printed: str) -> Iterator[tuple[int, str, str]]:
    """Yield each expected line with what was printed since the last block of them."""
    pieces = re.split(rf"^{MARK} (\d+)$\n?", printed, flags=re.MULTILINE)
    shown_at = {int(number): text for text, number in zip(pieces[::2], pieces[1::2], strict=False)}
    for block in found:
        shown = ""
        for number, line in enumerate(block.text.splitlines(), block.line):
            expected = EXPECTED.match(line)
            if block.language == "sh" and not block.file and expected:
                shown = shown_at[number] or shown  # further lines of the same expectation
                yield number, expected[1].strip(), shown


def _matches(expected: str, shown: str) -> bool:
    pattern = r"\s+".join(re.escape(word).replace(r"\.\.\.", ".*") for word in expected.split())
    return re.search(pattern, shown) is not None
