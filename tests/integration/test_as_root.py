"""What root leaves to the service's user, who is somebody else."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.demo.registry import EmbeddedRegistry
from tests.dc import configuration, fill
from tests.integration.agents import COMMAND
from tests.testbed.processes import wait_until

SERVICE = (64_001, 64_002)  # user and group; nobody needs to have these numbers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave what another user cannot write")


class Site:
    """A machine on which a package was installed, and the service never started."""

    def __init__(self, folder: Path, url: str) -> None:
        self.etc, self.var = folder / "etc", folder / "var"
        self.etc.mkdir()
        self.var.mkdir(mode=0o750)
        os.chown(self.var, *SERVICE)
        self.url = url
        self.configure()

    def configure(self, **changes: Any) -> None:
        clusters = {"review": {"directory": str(self.var / "deep/review"), "namespace": "legacy"}}
        content = configuration(
            self.url, state=str(self.var / "state.db"), control=str(self.etc / "c.sock"), clusters=clusters, **changes
        )
        (self.etc / "isthmus.yaml").write_text(yaml.safe_dump(content))

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            (COMMAND, "--config", str(self.etc / "isthmus.yaml"), *arguments),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def left(self) -> dict[str, tuple[int, int]]:
        """Return the owners of all files and folders in the service's folder."""
        return {
            str(path.relative_to(self.var)): (path.lstat().st_uid, path.lstat().st_gid) for path in self.var.rglob("*")
        }


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with EmbeddedRegistry() as registry:
        fill(registry)
        yield Site(tmp_path, registry.url)


def test_a_first_once_leaves_only_what_the_service_can_write(site: Site) -> None:
    site.run("once")
    left = site.left()
    assert set(left.values()) == {SERVICE}
    assert {"state.db", "state.db-lock", "deep/review/legacy/orders.mesh.internal.yaml"} <= left.keys()


def test_what_the_service_had_stays_its_own(site: Site) -> None:
    site.run("once")
    os.chown(site.var / "deep/review/legacy/orders.mesh.internal.yaml", 0, 0)  # as an isthmus before this left it
    os.chown(site.var / "state.db-lock", 0, 0)
    site.configure(rules=[{"match": {}, "labels": {"team": "x"}}])
    site.run("once")
    site.run("pause", "review")
    site.run("resume", "review")
    site.run("purge", "review", "--owner", "dc9", "--yes")
    assert set(site.left().values()) == {SERVICE}


def test_only_looking_leaves_nothing(site: Site) -> None:
    site.run("plan")
    site.run("check")
    site.run("export", "review")
    assert site.left() == {}


def test_a_state_file_that_is_moved_aside_leaves_no_file_of_roots(site: Site) -> None:
    (site.var / "state.db").write_bytes(b"nonsense" * 1000)
    os.chown(site.var / "state.db", *SERVICE)
    site.run("once")
    assert set(site.left().values()) == {SERVICE}
    assert any(".aside-" in name for name in site.left())


def test_an_agent_of_roots_that_is_killed_leaves_a_log_that_the_service_can_write(site: Site) -> None:
    command = (COMMAND, "run", "--config", str(site.etc / "isthmus.yaml"))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as run:
        wait_until((site.var / "deep/review/legacy/orders.mesh.internal.yaml").exists, "it works")
        run.kill()
    left = site.left()
    assert {"state.db-wal", "state.db-shm"} <= left.keys()
    assert set(left.values()) == {SERVICE}
    site.run("status")
    assert set(site.left().values()) == {SERVICE}


@pytest.mark.parametrize("name", ["state.db-lock", "state.db", "deep"])
def test_a_link_in_the_services_folder_gives_away_nothing_else(site: Site, tmp_path: Path, name: str) -> None:
    """The service's user could put one there, and must not become the owner of what it leads to."""
    aim = tmp_path / "roots"
    if name == "deep":
        aim.mkdir()
    else:
        aim.write_text("root's own")
    (site.var / name).symlink_to(aim)
    os.chown(site.var / name, *SERVICE, follow_symlinks=False)
    before = aim.stat()
    assert "is a link of somebody else's" in site.run("once", code=1) if name == "deep" else site.run("once", code=11)
    assert (aim.stat().st_uid, stat.S_IMODE(aim.stat().st_mode)) == (0, stat.S_IMODE(before.st_mode))
    assert not list(aim.iterdir()) if name == "deep" else aim.read_text() == "root's own"


def test_root_makes_no_state_file_where_a_link_in_the_services_folder_leads_to(site: Site, tmp_path: Path) -> None:
    (site.var / "state.db").symlink_to(tmp_path / "new")
    os.chown(site.var / "state.db", *SERVICE, follow_symlinks=False)
    assert "root does not follow" in site.run("once", code=11)
    assert not (tmp_path / "new").exists()


def test_a_file_with_a_second_name_is_not_given_away(site: Site, tmp_path: Path) -> None:
    (tmp_path / "roots").write_text("")
    os.link(tmp_path / "roots", site.var / "state.db-lock")
    site.run("once")
    assert (tmp_path / "roots").stat().st_uid == 0
