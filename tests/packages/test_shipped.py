"""What the packages bring beside isthmus: examples, the configuration as installed, completion, manual pages."""

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from agent.cli import VERBS
from agent.config import load
from state.errors import ConfigurationError
from tests.packages.built import build
from tests.packages.tree import COMMAND, PACKAGING, PLACE, installed, make_tree, run

EXAMPLES = PACKAGING / "examples"
# Bash's own function, called as Bash would at a press of the tabulator.
COMPLETE = (
    "source {script}; COMP_WORDS=(isthmus {word}); COMP_CWORD=1; _isthmus_completion isthmus; echo ${{COMPREPLY[*]}}"
)


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the deb was unpacked into, but for isthmus itself."""
    folder = tmp_path_factory.mktemp("deb")
    packed = subprocess.run(("dpkg-deb", "--fsys-tarfile", build("deb")), stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, [one for one in archive if one.name.startswith("./usr/share")], filter="data")
    return folder


def test_the_installed_configuration_says_that_nothing_is_configured() -> None:
    with pytest.raises(
        ConfigurationError, match="nothing is configured yet: owner, registries and clusters are missing"
    ):
        load(PACKAGING / "etc/isthmus.yaml")


def test_the_installed_configuration_needs_no_more_than_its_comments(tmp_path: Path) -> None:
    text = (PACKAGING / "etc/isthmus.yaml").read_text()
    file = tmp_path / "isthmus.yaml"
    file.write_text(re.sub(r"^#(?=\S|  )", "", text, flags=re.MULTILINE))
    config = load(file)
    assert (config.owner, list(config.registries), list(config.clusters)) == ("dc1", ["consul-dc1"], ["east"])


def test_the_example_is_a_configuration() -> None:
    config = load(EXAMPLES / "isthmus.yaml")
    assert set(config.registries) == {"consul-dc1", "eureka-dc1"}
    assert set(config.clusters) == {"east", "west", "review"}


def test_the_sample_watches_are_what_watch_config_prints(tmp_path: Path) -> None:
    content = yaml.safe_load((PACKAGING / "etc/isthmus.yaml").read_text()) | {
        "owner": "dc1",
        "registries": {"consul-dc1": {"type": "consul", "url": "http://127.0.0.1:8500"}},
        "clusters": {"review": {"directory": str(tmp_path), "namespace": "legacy"}},
    }
    file = tmp_path / "isthmus.yaml"
    file.write_text(yaml.safe_dump(content))
    command = (COMMAND, "--config", str(file), "watch-config", "consul-dc1", "--handler", "script")
    printed = json.loads(run(installed(make_tree(), *command)).stdout)
    assert printed == json.loads((EXAMPLES / "consul.d/isthmus-watch.json").read_text())


def test_bash_completes_the_commands(deb: Path) -> None:
    script = deb / "usr/share/bash-completion/completions/isthmus"
    command = ("bash", "-c", COMPLETE.format(script=script, word="watch"))
    path = {"PATH": f"/{PLACE}/bin:/usr/bin:/bin"}
    assert run(installed(make_tree(), *command), path).stdout.split() == ["watch-config"]


@pytest.mark.parametrize("page", ["man5/isthmus.yaml.5", "man8/isthmus.8", "man8/isthmus-hook.8"])
def test_manual_pages_are_found_by_their_name_and_need_no_warning(deb: Path, page: str) -> None:
    file = deb / f"usr/share/man/{page}.gz"
    name = Path(page).stem
    assert run(("lexgrog", str(file))).stdout.startswith(f'{file}: "{name} - ')
    shown = run(("man", "--local-file", "--warnings", str(file)), {"MANWIDTH": "100", "LC_ALL": "C.UTF-8"})
    assert shown.stderr == ""
    assert "@" not in re.sub(r"\S+@\S+", "", shown.stdout)


def test_the_manual_page_tells_of_every_command(deb: Path) -> None:
    page = run(("man", "--local-file", str(deb / "usr/share/man/man8/isthmus.8.gz")), {"LC_ALL": "C.UTF-8"}).stdout
    assert [verb for verb in VERBS if not re.search(rf"^   {verb}( |$)", page, re.MULTILINE)] == []
