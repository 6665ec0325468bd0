from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import plot, report, result
from tests.bench.measure import noise, percentile
from tests.bench.result import Line, Results, Row, Series, at_least, at_most, within

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "docs/performance/results.json"
EUREKA = ROOT / "docs/performance/eureka/results.json"
LINES = (
    within("flip, p50", 5.0, 4.0, "ms", 1.5, samples=60, noise=0.03, note="quiet"),
    at_most("writes of a restart", 3, "", 0, "0"),
    at_least("bytes", 600.0, 500, ours=8000.0, floor=4.8e6, unit="B", samples=150),
    Line("only told", 12345.0, "ms"),
)
SERIES = (Series("flip", "floor", "ms", (4.0, 4.5)), Series("flip", "isthmus", "ms", (5.0, 900.0)))
RESULTS = Results(
    "2026-01-02 03:04 UTC",
    "make bench",
    {"Consul": "1.19.2"},
    {"cores": "2", "processor": "X"},
    (Row("changes", "Changes", LINES, SERIES, 12.0), Row("hook", "Calls", error="WireError: refused\nits log")),
)


def test_the_documents_show_the_results_that_are_stored() -> None:
    found = result.read(FOUND)
    for file, table in (("docs/performance/README.md", report.details(found)), ("README.md", report.summary(found))):
        document = (ROOT / file).read_text()
        assert report.between_markers(document, table) == document, f"{file}: run `make bench` in full"


def test_the_page_on_eureka_shows_the_results_that_are_stored() -> None:
    document = EUREKA.with_name("README.md").read_text()
    assert report.between_markers(document, report.details(result.read(EUREKA))) == document


@pytest.mark.parametrize("file", [FOUND, EUREKA])
def test_the_picture_and_the_text_show_the_results_that_are_stored(file: Path) -> None:
    found = result.read(file)
    assert file.with_suffix(".svg").read_text() == plot.draw(found)
    assert file.with_suffix(".txt").read_text() == report.text(found)


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    result.write(RESULTS, tmp_path / "once.json")
    once = result.read(tmp_path / "once.json")
    result.write(once, tmp_path / "twice.json")
    assert result.read(tmp_path / "twice.json") == once
    assert report.text(once) == report.text(RESULTS)


def test_a_bound_is_judged_and_what_is_only_told_is_not() -> None:
    assert [line.reached for line in LINES] == [True, False, True, None]
    assert within("flip", 6.1, 4.0, "ms", 1.5).reached is False
    assert within("flip", 6.1, -0.5, "ms", 1.5).reached is False
    assert at_least("bytes", 400.0, 500, ours=1.0, floor=400.0, unit="B", samples=1).reached is False


def test_what_was_missed_or_failed_is_said_plainly() -> None:
    *said, last = report.verdict(RESULTS)
    assert [line.split(":")[0] for line in said] == ["MISSED changes", "FAILED hook"]
    assert last == "2 of 3 bounds reached, 1 of 2 rows failed."
    assert all(line in report.text(RESULTS) for line in (*said, "FAILED: WireError: refused"))


def test_a_table_replaces_what_stands_between_the_markers_and_nothing_else() -> None:
    document = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    assert report.between_markers(document, "new") == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    with pytest.raises(ValueError, match="missing"):
        report.between_markers("before", "new")


def test_the_summary_has_a_line_for_each_bound() -> None:
    table = report.summary(RESULTS)
    assert table.count("\n| ") == 2 + 3
    assert "| flip, p50 | 5 ms | 4 ms | 1.25x | <= 1.5x floor | yes |" in table


@pytest.mark.parametrize("rows", [RESULTS.rows, RESULTS.rows[1:], ()])
def test_the_picture_is_svg_with_every_sample_and_bound(rows: tuple[Row, ...]) -> None:
    picture = ElementTree.fromstring(plot.draw(replace(RESULTS, rows=rows)))
    tags = [element.tag.rpartition("}")[2] for element in picture.iter()]
    samples = sum(len(one.values) for row in rows for one in row.series)
    legend = 2 if samples else 0
    assert tags.count("circle") == samples + legend
    assert tags.count("rect") == 1 + sum(line.share is not None for row in rows for line in row.lines)


def test_a_percentile_is_a_sample() -> None:
    samples = [float(number) for number in range(1, 101)]
    assert (percentile(samples, 50), percentile(samples, 99), percentile([7.0], 99)) == (50.0, 99.0, 7.0)


def test_noise_is_the_distance_between_the_two_halves() -> None:
    assert noise([4.0, 4.0, 5.0, 5.0]) == pytest.approx(1 / 4.5)
    assert noise([4.0]) == 0.0
