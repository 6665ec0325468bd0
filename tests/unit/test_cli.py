import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from agent.cli import VERBS, main
from agent.cli.logs import Lines, set_up_logging
from agent.cli.options import Options


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_that_begins_as_the_list_says(verb: str) -> None:
    command = main.get_command(click.Context(main), verb)
    assert command is not None
    assert (command.help or "").splitlines()[0] == VERBS[verb]
    answer = CliRunner().invoke(main, [verb, "--help"])
    assert answer.exit_code == 0
    for option in ("--config", "--output", "--log-level", "--log-format", "--version"):
        assert option in answer.output


@pytest.mark.parametrize("arguments", [["--help"], ["schema"], ["--version"], ["schema", "--help"]])
def test_what_needs_no_cluster_imports_no_client(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom agent.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(sorted({'kubernetes', 'consul', 'flask', 'rich'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"


def test_the_schema_is_printed() -> None:
    answer = CliRunner().invoke(main, ["schema"])
    assert answer.exit_code == 0
    assert "registries" in json.loads(answer.output)["properties"]


@pytest.mark.parametrize(
    "arguments", [["--version"], ["status", "--version"], ["--config", "/nowhere", "run", "--version"]]
)
def test_the_version_is_told_before_and_after_the_verb(arguments: list[str]) -> None:
    answer = CliRunner().invoke(main, arguments)
    assert (answer.exit_code, answer.output) == (0, "isthmus 0.1.0\n")


def test_the_demo_plays_the_story_with_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage = ModuleType("agent.demo.play")
    asked: list[tuple[Path, float]] = []

    def play(out: Path, seconds: float) -> int:
        asked.append((out, seconds))
        return 7

    stage.play = play  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agent.demo.play", stage)
    answer = CliRunner().invoke(main, ["demo", "--out", str(tmp_path), "--seconds", "20"])
    assert answer.exit_code == 7
    assert CliRunner().invoke(main, ["demo"]).exit_code == 7
    assert asked == [(tmp_path, 20.0), (Path("build/demo"), 40.0)]
    assert CliRunner().invoke(main, ["demo", "--seconds", "0"]).exit_code == 2


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield set_up_logging(Options(log_format=getattr(request, "param", "text")), "info")
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("lines", ["json"], indirect=True)
def test_a_json_log_line_is_one_object(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("agent.x").warning("service %s", "a\nb\ud800")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("agent.x").exception("failed")
    first, second = capsys.readouterr().err.splitlines()
    record = json.loads(first)
    assert record.pop("time").endswith("Z")
    assert record == {"level": "warning", "logger": "agent.x", "message": "service a\nb\ud800"}
    assert "ValueError: no" in json.loads(second)["exception"]
    assert isinstance(lines, logging.Handler)


def test_a_text_log_line_is_one_line(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("agent.x").info("service %s", "a\nb")
    logging.getLogger("apscheduler.scheduler").warning("late")
    logging.getLogger("agent.x").debug("nothing")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("Z INFO service a\\nb")
    assert not lines.crowded


def test_single_writes_are_left_out_while_a_bar_counts_them(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    lines.crowded = True
    logging.getLogger("agent.lane").info("cluster east: + x")
    logging.getLogger("agent.lane").warning("cluster east: refused")
    assert [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()] == ["cluster east: refused"]
