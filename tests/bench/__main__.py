"""`python -m tests.bench`, or `make bench`: isthmus beside the floor, on a real Consul and a real API server."""

import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.bench import machine, measure, plot, report, result
from tests.bench.catalogue import ROWS
from tests.bench.result import Results, Row
from tests.bench.rows import QUICK, Bench, Effort, Measured, Place
from tests.bench.site import Site
from tests.testbed.build import Binaries, TestbedError, binaries

ROOT = Path(__file__).parents[2]
DOCUMENTS = ROOT / "docs/performance"
TRIAL = ROOT / "build/bench"
LAST_WORDS = 5  # lines of isthmus' log, where a row failed


class Run:
    """One run of chosen rows: an estate is set up when its first row comes, and ended after its last."""

    def __init__(self, bench: Bench, folder: Path, built: Binaries) -> None:
        self.rows: list[Row] = []
        self.versions: dict[str, str] = {}
        self._bench = bench
        self._folder = folder
        self._built = built

    def measure(self, place: Place, chosen: Sequence[Measured]) -> None:
        """Measure all chosen rows that want this estate."""
        mine = [row for row in chosen if row.place is place]
        if not mine:
            return
        size = self._bench.effort.large if place is Place.LARGE else self._bench.effort.small
        _say(f"setting up Consul with {size.instances:,} instances in {size.services:,} services, and an API server")
        try:
            site = Site(self._built, self._folder / place, size)
        except Exception as error:  # noqa: BLE001 - every row of it failed
            self.rows += [Row(row.name, row.title, error=_told(error)) for row in mine]
            return
        with site:
            self.versions = self.versions or machine.versions(site)
            for row in mine:
                self.rows.append(self._row(site, row))

    def _row(self, site: Site, row: Measured) -> Row:
        _say(f"{row.name}: {row.title}")
        began = time.monotonic()
        try:
            found = row.measure(site, self._bench)
        except Exception as error:  # noqa: BLE001 - the next row may do
            said = site.last_words(LAST_WORDS)
            site.stop()
            return Row(row.name, row.title, seconds=time.monotonic() - began, error=f"{_told(error)}\n{said}".strip())
        return Row(row.name, row.title, tuple(found.lines), tuple(found.series), time.monotonic() - began)


def _say(sentence: str) -> None:
    click.echo(f"bench: {sentence}", err=True)


def _told(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {f'{error} '.splitlines()[0].strip()} ({Path(where.filename).name}:{where.lineno})"


def _publish(results: Results, out: Path, *, whole: bool) -> Results:
    """Write JSON, text and picture, and where all was measured renew the documents; return what was written."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.json"
    result.write(results, file)
    written = result.read(file)  # what documents say is what the file says, to the last digit
    (out / "results.txt").write_text(report.text(written))
    (out / "results.svg").write_text(plot.draw(written))
    report.renew(out / "README.md", report.details(written))
    if whole and out.resolve() == DOCUMENTS:
        report.renew(ROOT / "README.md", report.summary(written))
    return written


@click.command()
@click.option("--row", "names", multiple=True, type=click.Choice([row.name for row in ROWS]), help="Only this; again.")
@click.option("--quick", is_flag=True, help="Few samples, a tenth of the large estate: to see that everything works.")
@click.option("--turns", type=click.IntRange(min=1), help="Turns of four changes at 100 instances, 28 if not given.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Else docs/performance, or build/bench.")
def main(names: tuple[str, ...], quick: bool, turns: int | None, out: Path | None) -> None:
    """Measure isthmus beside the floor: one kept-alive blocking query and one bare write, same Consul, same API server.

    Only a whole run in full goes to docs/performance, and renews the tables there and in README.md. Ends with 0 also
    when a bound was missed, which is said, and with 1 when a row could not be measured.
    """
    effort = QUICK if quick else Effort()
    if turns:
        effort = replace(effort, turns=turns, large_turns=max(1, 2 * turns // 5))
    chosen = [row for row in ROWS if not names or row.name in names]
    whole = not names and not quick
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    try:
        built = binaries()
    except TestbedError as error:
        raise click.ClickException(str(error)) from None
    measure.first_in_line()
    with TemporaryDirectory(prefix="isthmus-bench-") as scratch:
        run = Run(Bench(effort), Path(scratch), built)
        for place in Place:
            run.measure(place, chosen)
    command = " ".join(["make bench", *([f'ARGS="{" ".join(sys.argv[1:])}"'] if sys.argv[1:] else [])])
    found = Results(made, command, run.versions, machine.machine(), tuple(run.rows))
    where = out or (DOCUMENTS if whole else TRIAL)
    results = _publish(found, where, whole=whole)
    click.echo(report.text(results), nl=False)
    click.echo(f"Written to {where}: results.json, results.txt, results.svg.")
    sys.exit(1 if results.failed else 0)


if __name__ == "__main__":
    main()
