"""Write a package's changelog from CHANGELOG.md: `python packaging/changelog.py deb|rpm VERSION MAINTAINER` prints it.

For the deb it is https://www.debian.org/doc/debian-policy/ch-source.html#debian-changelog-debian-changelog, for the rpm
what nfpm reads: https://github.com/goreleaser/chglog.
"""

import json
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"
RELEASE = re.compile(r"^## \[(?P<version>[^]]+)\](?: - (?P<date>\d{4}-\d{2}-\d{2}))?\s*$", re.MULTILINE)
ENTRY = re.compile(r"^- (.+(?:\n  .+)*)", re.MULTILINE)
WIDTH = 78


def main(kind: str, version: str, maintainer: str) -> None:
    """Print every release, the newest first; what is not released yet counts as the version that is built.

    VERSION ends with the package's own revision, as in 1.2.3-1. The time of what is not released yet is that of the
    sources: https://reproducible-builds.org/specs/source-date-epoch/
    """
    upstream, _, revision = version.rpartition("-")
    built = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    releases = []
    for name, date, body in _releases():
        when = datetime.fromisoformat(f"{date}T00:00:00+00:00") if date else built
        releases.append((name if date else upstream, when, body))
    if kind == "rpm":
        # JSON is YAML.
        told = [
            {
                "semver": f"{name}-{revision}",
                "date": when.isoformat(),
                "packager": maintainer,
                "changes": [{"note": point} for _, points in _sections(body) for point in points],
            }
            for name, when, body in releases
        ]
        sys.stdout.write(json.dumps(told, indent=1))
    else:
        for name, when, body in releases:
            lines = "\n".join(_lines(body))
            sys.stdout.write(f"isthmus ({name}-{revision}) stable; urgency=medium\n\n{lines}\n\n")
            sys.stdout.write(f" -- {maintainer}  {when:%a, %d %b %Y %H:%M:%S} +0000\n\n")


def _releases() -> Iterator[tuple[str, str, str]]:
    """Yield version, date and text of each release that says anything; what is not released yet has no date."""
    text = CHANGELOG.read_text()
    releases = list(RELEASE.finditer(text))
    ends = [*(release.start() for release in releases[1:]), len(text)]
    for release, end in zip(releases, ends, strict=True):
        body = text[release.end() : end]
        if ENTRY.search(body):
            yield release["version"], release["date"] or "", body


def _sections(body: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each heading of a release with its points."""
    for section in re.split(r"^### ", body, flags=re.MULTILINE)[1:]:
        heading, _, points = section.partition("\n")
        yield heading.strip(), [" ".join(point.split()).replace("`", "") for point in ENTRY.findall(points)]


def _lines(body: str) -> Iterator[str]:
    for heading, points in _sections(body):
        yield f"  [ {heading} ]"
        for point in points:
            yield from textwrap.wrap(
                point, WIDTH, initial_indent="  * ", subsequent_indent="    ", break_on_hyphens=False
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
