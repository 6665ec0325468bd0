"""What is in a package, as the tools of its distribution tell it."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, folder or link of a package: its mode as `-rw-r--r--`, its owner as `root:root`, a link's target."""

    mode: str
    owner: str
    target: str


def entries(file: Path) -> dict[str, Entry]:
    """Return everything that a package has, by its absolute path."""
    if file.suffix == ".deb":
        lines = _said("dpkg-deb", "--contents", str(file))
        pattern = r"(?P<mode>\S{10}) (?P<owner>\S+) +\d+ \S+ \S+ \./(?P<path>.*?)/?(?: -> (?P<target>.*))?"
    else:
        lines = _said("rpm", "-qp", "--queryformat", "[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} "
                      "%{FILENAMES} -> %{FILELINKTOS}\n]", str(file))  # fmt: skip
        pattern = r"(?P<mode>\S{10}) (?P<owner>\S+) /(?P<path>.*?) -> (?P<target>.*)"
    found = {}
    for line in lines:
        one = re.fullmatch(pattern, line)
        assert one, line
        found[f"/{one['path']}"] = Entry(one["mode"], one["owner"].replace("/", ":"), one["target"] or "")
    return found


def fields(file: Path) -> dict[str, str]:
    """Return the fields of a deb's control file."""
    lines = _said("dpkg-deb", "--field", str(file))
    return dict(line.split(": ", 1) for line in lines if line[:1].isalpha())


def requirements(file: Path) -> set[str]:
    """Return what an rpm requires, without what concerns rpm itself."""
    return {line for line in _said("rpm", "-qp", "--requires", str(file)) if not line.startswith("rpmlib(")}


def _said(*command: str) -> list[str]:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    ).stdout.splitlines()
