import re
from configparser import ConfigParser
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([a-z0-9][a-z0-9-]*)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", re.MULTILINE)
LOCKED = ("runtime", "development")


@pytest.fixture(scope="module")
def setup() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def locked(name: str) -> dict[str, str]:
    text = (ROOT / f"requirements/{name}.txt").read_text()
    return {project: number for project, number, _ in PIN.findall(text)}


def test_every_package_on_disk_is_listed(setup: ConfigParser) -> None:
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for top in ("agent", "hooks", "state")
        for path in (ROOT / top).rglob("*.py")
    }
    listed = setup["options"]["packages"].split()
    assert listed == sorted(found)
    assert [name for name in listed if not (ROOT / name.replace(".", "/") / "__init__.py").is_file()] == []


def test_the_packaging_directory_does_not_hide_the_library_of_that_name() -> None:
    assert not (ROOT / "packaging/__init__.py").exists()


def test_the_application_is_never_uploaded(setup: ConfigParser) -> None:
    assert "Private :: Do Not Upload" in setup["metadata"]["classifiers"].splitlines()


@pytest.mark.parametrize("name", LOCKED)
def test_every_pin_carries_hashes(name: str) -> None:
    text = (ROOT / f"requirements/{name}.txt").read_text()
    pins = PIN.findall(text)
    assert pins
    assert all(hashes for _, _, hashes in pins)
    assert len(pins) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)), "a line that is neither a pin nor a comment"


def test_the_locked_files_agree() -> None:
    assert locked("runtime").items() <= locked("development").items()


@pytest.mark.parametrize("name", LOCKED)
def test_what_is_asked_for_is_locked(name: str) -> None:
    asked = re.findall(r"^\w[\w-]*", (ROOT / f"requirements/{name}.in").read_text(), re.MULTILINE)
    assert {project.lower() for project in asked} <= locked(name).keys()


def test_the_environment_holds_what_is_locked() -> None:
    assert {project: version(project) for project in locked("development")} == locked("development")


def test_the_versions_agree(setup: ConfigParser) -> None:
    number = setup["metadata"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version("isthmus") == number
    assert headings[0] == "Unreleased"
    assert headings[1:2] in ([], [number])


def test_the_command_is_installed() -> None:
    commands = {entry.name: entry.value for entry in entry_points(group="console_scripts")}
    assert commands["isthmus"] == "agent.cli:main"
