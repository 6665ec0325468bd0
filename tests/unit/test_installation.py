"""What is said before anything is configured, and to whom nothing may be said."""

import grp
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import main
from agent.config import load
from agent.installation import allowed, group_name, is_packaged, manual
from state.errors import ConfigurationError

TEMPLATE = Path(__file__).parents[2] / "packaging/etc/isthmus.yaml"
NOTHING = "nothing is configured yet: owner, registries and clusters are missing"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have Python where a package puts it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/isthmus-hook").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    return tmp_path


@pytest.fixture
def comments(tmp_path: Path) -> Path:
    path = tmp_path / "comments.yaml"
    path.write_text("# Not configured yet.\n#owner: dc1\n")
    return path


def test_check_says_in_one_finding_what_is_missing_and_where_it_is_described(comments: Path) -> None:
    for path in (comments, TEMPLATE):
        for options in ([], ["--config-only"]):
            answer = CliRunner().invoke(main, ["check", "--config", str(path), "-o", "json", *options])
            assert answer.exit_code == 10
            (finding,) = json.loads(answer.stdout)["findings"]
            assert finding["seen"] == f"{path}: {NOTHING}"
            assert finding["remedy"].startswith("docs/configuration.md describes every key")


@pytest.mark.usefixtures("package")
def test_what_is_installed_from_a_package_is_described_by_its_manual(comments: Path) -> None:
    assert is_packaged()
    assert manual() == "`man isthmus.yaml`"
    answer = CliRunner().invoke(main, ["check", "--config", str(comments)])
    assert f"{NOTHING}\n" in answer.stdout
    assert "-> `man isthmus.yaml` describes every key" in answer.stdout


def test_an_environment_of_its_own_is_no_package() -> None:
    assert not is_packaged()


@pytest.mark.parametrize("verb", ["run", "once", "plan", "status"])
def test_whoever_runs_it_unconfigured_reads_the_same_words_and_10(comments: Path, verb: str) -> None:
    command = (sys.executable, "-c", "from agent.cli import main; main()", verb, "--config", str(comments))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 10
    assert done.stdout == ""
    assert done.stderr.startswith(f"{comments}: {NOTHING}\ndocs/configuration.md describes every key")


def test_a_mistake_beside_what_is_missing_is_told_with_its_line(comments: Path) -> None:
    comments.write_text("domain: Mesh\n")
    with pytest.raises(ConfigurationError) as caught:
        load(comments)
    assert len(caught.value.problems) == 4
    assert not any(NOTHING in problem for problem in caught.value.problems)


def test_who_may_is_told_by_the_group_of_the_file_or_of_its_folder(tmp_path: Path) -> None:
    own = tmp_path.stat().st_gid
    expected = f"only root and the group {grp.getgrgid(own).gr_name} may" if own else "only root may"
    assert allowed(tmp_path) == expected
    assert allowed(tmp_path / "nowhere") == expected
    assert allowed(tmp_path / "no/where") == "only root may"
    assert group_name(os.getgid()) == grp.getgrgid(os.getgid()).gr_name
    assert group_name(4_000_000_000) == "4000000000"
