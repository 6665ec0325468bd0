"""`isthmus check` as a command, and what it answered."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

COMMAND = (sys.executable, "-W", "error", str(Path(sys.executable).with_name("isthmus")))


class Checked(NamedTuple):
    """What `check` answered."""

    code: int
    findings: list[dict[str, str]]
    policies: dict[str, str]

    def of(self, level: str) -> list[dict[str, str]]:
        """Return the findings of one level."""
        return [finding for finding in self.findings if finding["level"] == level]

    def tells(self, place: str, seen: str, remedy: str, level: str = "error") -> None:
        """Fail unless one finding of a level tells a cause and what mends it, at one place."""
        told = [(one["place"], one["seen"], one["remedy"]) for one in self.of(level)]
        assert [one for one in told if place == one[0] and seen in one[1] and remedy in one[2]], told


def check(file: Path, *arguments: str, secrets: Iterable[str] = ()) -> Checked:
    """Run the command on a configuration; whatever happens, it shows neither a traceback nor a secret."""
    command = [*COMMAND, "check", "-o", "json", "--config", str(file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed
    assert "Warning" not in done.stderr
    assert not any(secret in printed for secret in secrets)
    answer = json.loads(done.stdout)
    return Checked(done.returncode, answer["findings"], answer["policies"])
