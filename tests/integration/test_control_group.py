"""The control socket is for root and for the service's group; everybody else is told so."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE
from typing import NamedTuple

import pytest
import yaml

from agent.demo.registry import EmbeddedRegistry
from tests.dc import configuration, fill
from tests.integration.agents import COMMAND
from tests.testbed.processes import wait_until

USER, GROUP = 64_001, 64_002  # the service's; nobody needs to have these numbers
OTHER = 65_001

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

# The command as another user, who may perhaps not read Python's own files: asked for once before, it has imported all.
AS = """
import json, os, sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from agent.cli import main
for verb in ("accept", "pause", "once"):
    import_module(f"agent.cli.{verb}")
user, group, *groups = json.loads(sys.argv[1])
with suppress(SystemExit), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
    main(["--config", sys.argv[2], "status"])
os.setgroups(groups)
os.setgid(group)
os.setuid(user)
main(["--config", *sys.argv[2:]])
"""


class Done(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


class Site:
    """A machine with the folders that a package makes, and the service, as root but in the service's group."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.chmod(0o755)
        self.etc, self.run, var = folder / "etc", folder / "run", folder / "var"
        for path, mode, user in ((self.etc, 0o750, 0), (self.run, 0o755, USER), (var, 0o750, USER)):
            path.mkdir()
            path.chmod(mode)
            os.chown(path, user, GROUP)
        self.config = self.etc / "isthmus.yaml"
        self.control = self.run / "control.sock"
        clusters = {"review": {"directory": str(var / "review"), "namespace": "legacy"}}
        content = configuration(url, state=str(var / "state.db"), control=str(self.control), clusters=clusters)
        self.config.write_text(yaml.safe_dump(content))
        self.config.chmod(0o640)
        os.chown(self.config, 0, GROUP)

    def start(self) -> "subprocess.Popen[bytes]":
        # As the unit has it: UMask=0027.
        return subprocess.Popen(
            (COMMAND, "run", "--config", str(self.config)),
            group=GROUP,
            extra_groups=[],
            umask=0o027,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, *arguments: str, groups: tuple[int, ...] = ()) -> Done:
        """Ask as somebody who is in these groups beside the own one."""
        who = json.dumps([OTHER, OTHER, *groups])
        done = subprocess.run(
            (sys.executable, "-c", AS, who, str(self.config), *arguments),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def site() -> Iterator[Site]:
    # Not in pytest's folder, which nobody else may enter.
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder, EmbeddedRegistry() as registry:
        fill(registry)
        yield Site(Path(folder), registry.url)


@pytest.fixture
def running(site: Site) -> Iterator[Site]:
    with site.start() as service:
        wait_until(
            lambda: '"review"' in site.ask("status", "-o", "json", groups=(GROUP,)).stdout, "the service answers"
        )
        yield site
        service.terminate()


def test_the_socket_is_the_services_groups(running: Site) -> None:
    found = running.control.stat()
    assert (found.st_gid, S_IMODE(found.st_mode)) == (GROUP, 0o660)


def test_whoever_is_in_the_group_can_look_and_accept(running: Site) -> None:
    assert running.ask("status", groups=(GROUP,)).code == 0
    assert running.ask("accept", "review", "--yes", groups=(GROUP,)).code == 0
    assert running.ask("pause", "review", groups=(GROUP,)).code == 0


def test_everybody_else_is_told_who_may(running: Site) -> None:
    for verb in (("status",), ("accept", "review", "--yes"), ("pause", "review")):
        done = running.ask(*verb)
        assert done.code == 10
        assert f"{running.config}: cannot be read: Permission denied\n" in done.stderr
        assert f"only root and the group {GROUP} may read it\n" in done.stderr


def test_a_configuration_that_everybody_may_read_lets_nobody_else_ask(running: Site) -> None:
    running.etc.chmod(0o755)
    running.config.chmod(0o644)
    for verb in (("status",), ("accept", "review", "--yes"), ("pause", "review")):
        done = running.ask(*verb)
        assert done.code == 11
        assert f"{running.control}: Permission denied: only root and the group {GROUP} may ask there" in done.stderr
    assert "ask as root or as the user of the service" in running.ask("status").stderr


def test_a_run_by_somebody_else_changes_nothing(site: Site) -> None:
    done = site.ask("once", groups=(GROUP,))
    assert done.code == 11
    assert "cannot be locked: Permission denied" in done.stderr
