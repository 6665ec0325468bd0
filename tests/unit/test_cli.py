import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from agent.cli import VERBS, main
from agent.cli.logs import Lines, set_up_logging
from agent.cli.options import Options
from state.checkpoint import Checkpoint
from tests.dc import configured


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


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Give the root logger back as it was: a verb takes it for its own."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a configuration is."""
    configured(tmp_path, "http://127.0.0.1:1")
    return tmp_path / "isthmus.yaml"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing command"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["once", "--nonsense"], "No such option '--nonsense'"),
        (["status", "-o", "xml"], "'xml' is not one of 'table', 'json'"),
        (["run", "--log-level", "loud"], "'loud' is not one of"),
        (["--log-format", "xml", "run"], "'xml' is not one of"),
        (["accept"], "Missing argument 'NAME'"),
        (["accept", "nobody"], "There is no registry or cluster 'nobody'. Known are: consul-dc1, east, west"),
        (["export"], "There are several clusters. Choose one: east, west"),
        (["export", "north"], "There is no cluster 'north'. Known are: east, west"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_sentence(file: Path, arguments: list[str], words: str) -> None:
    answer = CliRunner().invoke(main, ["--config", str(file), *arguments])
    assert answer.exit_code == 2
    assert words in answer.stderr


@pytest.mark.parametrize("verb", ["once", "plan", "status", "holds", "accept", "export"])
def test_every_problem_of_a_configuration_has_its_line(tmp_path: Path, verb: str) -> None:
    file = tmp_path / "isthmus.yaml"
    file.write_text("owner: a b\nsurprise: true\n")
    answer = CliRunner().invoke(main, [verb, *(["consul-dc1"] if verb == "accept" else []), "--config", str(file)])
    assert answer.exit_code == 10
    found = [line.removeprefix(f"{file}:").split(": ")[1] for line in answer.stderr.splitlines()]
    assert found == ["clusters", "owner", "registries", "surprise"]


@pytest.mark.parametrize("verb", ["status", "holds"])
def test_without_an_agent_and_a_state_file_it_is_said_what_to_do(file: Path, verb: str) -> None:
    answer = CliRunner().invoke(main, [verb, "--config", str(file)])
    assert answer.exit_code == 11
    assert "there is no state file" in answer.stderr
    assert "Start an agent with `isthmus run`, or ask as root or as the user of the service." in answer.stderr


@pytest.mark.parametrize("before", [True, False])
def test_options_may_stand_before_the_verb_or_after_it(file: Path, before: bool) -> None:
    with closing(Checkpoint.open(file.parent / "state.db")) as checkpoint:
        checkpoint.set_owner("dc1")
    options = ["--config", str(file), "-o", "json"]
    answer = CliRunner().invoke(main, [*options, "status"] if before else ["status", *options])
    assert json.loads(answer.stdout)["owner"] == "dc1"


def test_an_option_after_the_verb_wins(file: Path) -> None:
    answer = CliRunner().invoke(main, ["--config", "/nowhere", "status", "--config", str(file)])
    assert answer.exit_code == 11


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Lines:
    return set_up_logging(Options(log_format=getattr(request, "param", "text")), "info")


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
