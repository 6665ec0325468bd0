"""What is in the deb and the rpm, and what the tools of their distributions say of it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packages.built import build
from tests.packages.contents import Entry, entries, fields, requirements
from tests.packages.tree import EPOCH, PACKAGING, ROOT, make_tree

KINDS = ("deb", "rpm")
TREE = "/usr/lib/isthmus"
# The worst that systemd-analyze may say, in tenths.
EXPOSURE = 12
ONLY_DEB = {
    "/usr/share/doc/isthmus/changelog.Debian.gz",
    "/usr/share/lintian/overrides/isthmus",
    "/usr/share/zsh/vendor-completions/_isthmus",
}
ONLY_RPM = {
    "/usr/lib/systemd/system-preset/90-isthmus.preset",
    "/usr/share/licenses/isthmus/LICENSE",
    "/usr/share/zsh/site-functions/_isthmus",
    "/var/lib/isthmus",
}
PRIVATE = {
    "/etc/isthmus": "drwxr-x---",
    "/etc/isthmus/credentials": "drwxr-x---",
    "/etc/isthmus/isthmus.yaml": "-rw-r-----",
}
COMMANDS = ("isthmus", "isthmus-hook", "restart-if-valid")


def make_package(kind: str, out: Path, tree: Path, environment: dict[str, str]) -> Path:
    """Make a package of a tree."""
    given = {**os.environ, "PYTHON": sys.executable, "TREE": str(tree), **environment}
    command = (PACKAGING / "package.sh", kind, out)
    return Path(subprocess.run(command, env=given, stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


def output(*command: str | Path) -> str:
    """Return all that a command says, however it ends."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_two_builds_give_the_same_bytes(kind: str, tmp_path: Path) -> None:
    # In a hurry: xz makes the same of the same with any preset. The tree itself may be made anew meanwhile.
    here, there = tmp_path / "tree", tmp_path / "elsewhere" / "copy"
    shutil.copytree(make_tree(), here, symlinks=True)
    shutil.copytree(here, there, symlinks=True)
    said = {"PRESET": "0", "SOURCE_DATE_EPOCH": EPOCH}
    one = make_package(kind, tmp_path / "one", here, said)
    old = os.umask(0o077)
    try:
        elsewhere = {"TZ": "Pacific/Auckland", "LC_ALL": "C.UTF-8", "TMPDIR": str(tmp_path), "COLUMNS": "40"}
        two = make_package(kind, tmp_path / "two", there, said | elsewhere)
    finally:
        os.umask(old)
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()


def test_both_have_the_same_files_but_for_what_only_one_distribution_wants() -> None:
    deb, rpm = entries(build("deb")), entries(build("rpm"))
    # An rpm does not own the folders that others have made, nor need it own those of its tree that hold files.
    files = {path for path, entry in deb.items() if not entry.mode.startswith("d") or path in PRIVATE}
    packed = {
        path for path, entry in rpm.items() if not entry.mode.startswith("d") or path in {*PRIVATE, "/var/lib/isthmus"}
    }
    assert files - packed == ONLY_DEB
    assert packed - files == ONLY_RPM
    for path in files & packed - set(PRIVATE):
        if not deb[path].mode.startswith("l"):  # a link has no mode
            assert deb[path] == rpm[path], path
        assert deb[path].target == rpm[path].target, path


def test_only_what_is_secret_is_closed_and_only_commands_can_be_run() -> None:
    for kind in KINDS:
        found = entries(build(kind))
        group = {"deb": "root:root", "rpm": "root:isthmus"}[kind]
        assert {path: found.pop(path) for path in PRIVATE} == {
            path: Entry(mode, group, "") for path, mode in PRIVATE.items()
        }
        if kind == "rpm":
            assert found.pop("/var/lib/isthmus") == Entry("drwxr-x---", "isthmus:isthmus", "")
        assert {entry.owner for entry in found.values()} == {"root:root"}
        plain = {path: entry.mode for path, entry in found.items() if not entry.mode.startswith("l")}
        assert set(plain.values()) == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"}
        runnable = {path for path, mode in plain.items() if mode == "-rwxr-xr-x"}
        assert runnable == {*(f"{TREE}/bin/{name}" for name in COMMANDS), f"{TREE}/python/bin/python3.11"}
        for name in ("isthmus", "isthmus-hook"):
            assert found[f"/usr/bin/{name}"].target == f"../lib/isthmus/bin/{name}"


def test_they_depend_on_what_every_such_system_has() -> None:
    told = fields(build("deb"))
    assert told["Depends"].split(", ") == [
        "libc6 (>= 2.17)",
        "libgcc-s1",
        "passwd",
        "systemd (>= 247) | systemd-standalone-sysusers",
        "systemd (>= 247) | systemd-standalone-tmpfiles",
    ]
    assert requirements(build("rpm")) == {
        "/bin/sh",
        "libc.so.6(GLIBC_2.17)(64bit)",
        "libgcc_s.so.1()(64bit)",
        "shadow-utils",
        "systemd >= 239",
    }


def test_the_rpm_is_whole_and_its_configuration_is_not_replaced() -> None:
    assert output("rpm", "--checksig", "--nosignature", build("rpm")).endswith(": digests OK\n")
    kept = "/etc/isthmus/isthmus.yaml"
    assert output("rpm", "-qp", "--configfiles", build("rpm")).split() == [kept]
    flags = output("rpm", "-qp", "--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]", build("rpm"))
    assert f"\n{kept} cn\n" in flags  # a configuration, not replaced
    assert output("dpkg-deb", "--info", build("deb"), "conffiles").split() == [kept]


def test_lintian_finds_nothing_but_what_is_argued() -> None:
    said = output("lintian", "--allow-root", "--display-info", "--tag-display-limit", "0", build("deb"))
    lines = [line for line in said.splitlines() if not line.startswith(("I:", "N:"))]
    assert lines == []
    assert re.findall(r".*(?:unused|mismatched)-override.*", said) == []


def test_rpmlint_finds_nothing_but_what_is_argued() -> None:
    said = output("rpmlint", "--config", PACKAGING / "rpmlint.toml", build("rpm"))
    assert "; 0 badness;" in said or "0 errors, 0 warnings" in said, said


def test_the_service_is_hardly_exposed() -> None:
    command = (
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        f"--threshold={EXPOSURE}",
        "agent.service",
    )
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr
    assert "Overall exposure level" in done.stdout


def test_scripts_are_as_shellcheck_wants_them() -> None:
    scripts = [*(PACKAGING / "scripts").iterdir(), *(PACKAGING / "bin").iterdir(), *PACKAGING.glob("*.sh")]
    assert output("shellcheck", *scripts) == ""
