"""`isthmus watch-config --install`: a file in a folder that is Consul's."""

import grp
import json
import os
import pwd
import sys
from pathlib import Path
from stat import S_IMODE
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from agent import consul_user
from agent.cli import main
from agent.cli.consul_files import is_ours
from agent.cli.watch_config import command
from agent.consul_user import Caller, caller, hindrance
from hooks.server import bind_unix
from tests.dc import REGISTRY, configured

RECEIVER = {"socket": "hook.sock", "http": "127.0.0.1:9411", "token_file": "hook.token"}
SERVICE, CONSUL, FOLDERS = 64_001, 64_003, 64_005  # numbers that nobody needs to have
NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what is configured, one of Consul's, and a machine on which no Consul runs."""
    (tmp_path / "hook.token").write_text("sesame\n")
    (tmp_path / "consul.d").mkdir()
    (tmp_path / "proc").mkdir()
    monkeypatch.setattr("agent.consul_user.PROC", tmp_path / "proc")
    monkeypatch.setattr("agent.consul_user.NAME", "no-such-user")
    monkeypatch.setattr("agent.consul_user.GROUP", "no-such-group")
    return tmp_path


@pytest.fixture
def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder / "lib/bin").mkdir(parents=True)
    (folder / "lib/bin/isthmus-hook").touch()
    monkeypatch.setattr(sys, "prefix", str(folder / "lib/python"))
    return folder


def run(folder: Path, *arguments: str, **changes: Any) -> Result:
    configured(folder, "http://127.0.0.1:1", **{"receiver": RECEIVER, **changes})
    return CliRunner().invoke(main, ["watch-config", REGISTRY, "--config", str(folder / "isthmus.yaml"), *arguments])


def install(folder: Path, *place: str, handler: str = "script", code: int = 0) -> str:
    answer = run(folder, "--handler", handler, "--install", *(place or (str(folder / "consul.d"),)))
    assert answer.exit_code == code, answer.output
    return answer.stdout + answer.stderr


@pytest.mark.parametrize(("handler", "mode"), [("script", 0o644), ("http", 0o640)])
def test_the_file_holds_what_would_be_printed_and_a_token_only_for_its_group(
    folder: Path, handler: str, mode: int
) -> None:
    told = install(folder, handler=handler)
    path = folder / f"consul.d/isthmus-{REGISTRY}.json"
    assert f"{path} is written. Consul reads it at the next `consul reload`.\n" in told
    assert path.read_text() == run(folder, "--handler", handler).stdout
    assert S_IMODE(path.stat().st_mode) == mode
    assert os.listdir(folder / "consul.d") == [path.name]
    assert "sesame" not in told
    assert f"{path} holds these watches already.\n" in install(folder, handler=handler)


def test_another_handler_takes_the_place_of_one_and_its_mode(folder: Path) -> None:
    path = folder / "consul.d/mine.json"
    for handler, mode in (("script", 0o644), ("http", 0o640), ("script", 0o644)):
        assert f"{path} is written" in install(folder, str(path), handler=handler)
        assert S_IMODE(path.stat().st_mode) == mode
        assert ("sesame" in path.read_text()) == (handler == "http")


FOREIGN = {
    "nothing": "",
    "no JSON": "watches = []",
    "no watches": '{"watches": []}',
    "more than watches": '{"watches": [%s], "server": true}',
    "another watch": '{"watches": [%s, {"type": "nodes", "handler_type": "script", "args": ["/bin/mine"]}]}',
    "an old handler": '{"watches": [{"type": "nodes", "handler": "isthmus-hook --socket S consul-dc1 nodes"}]}',
    "a list": "[%s]",
    "words": '{"watches": ["isthmus-hook"]}',
    "no registry": '{"watches": [{"handler_type": "script", "args": ["isthmus-hook", "--socket", "S"]}]}',
    "numbers": '{"watches": [{"handler_type": "script", "args": [1, "--socket", 2, 3]}]}',
    "http of another": '{"watches": [{"handler_type": "http", "http_handler_config": {"path": "http://a/b"}}]}',
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_file_of_somebody_else_is_left_as_it_is(folder: Path, text: str) -> None:
    ours = json.dumps(json.loads(run(folder, "--handler", "script").stdout)["watches"][0])
    path = folder / f"consul.d/isthmus-{REGISTRY}.json"
    path.write_text(text.replace("%s", ours))
    before = path.read_bytes()
    told = install(folder, code=1)
    assert f"{path} holds something else than isthmus' watches of {REGISTRY}, and is left as it is" in told
    assert path.read_bytes() == before


def test_watches_of_another_registry_are_somebody_elses(folder: Path) -> None:
    for handler in ("script", "http"):
        text = run(folder, "--handler", handler).stdout
        assert is_ours(text, REGISTRY)
        assert not is_ours(text, "consul-dc")
        assert not is_ours(text.replace(REGISTRY, "consul-dc2"), REGISTRY)


def test_neither_a_link_nor_a_folder_is_replaced(folder: Path) -> None:
    path = folder / f"consul.d/isthmus-{REGISTRY}.json"
    path.symlink_to(folder / "elsewhere.json")
    install(folder, code=1)
    assert path.is_symlink()
    path.unlink()
    path.mkdir()
    install(folder, str(path), code=1)
    assert path.is_dir()
    path.rmdir()
    path.write_bytes(b"\xff\xfe")
    assert "it is not text" in install(folder, code=1)


def test_a_folder_that_is_not_there_is_wrong_usage(folder: Path) -> None:
    for place in ("nowhere", "nowhere/a.json", "hook.token"):
        told = install(folder, str(folder / place), code=2)
        assert "There is no folder" in told
        assert "-config-dir" in told


def test_without_a_place_it_is_the_folder_of_consuls_packages() -> None:
    (option,) = (one for one in command.params if one.name == "place")
    assert isinstance(option, click.Option)
    assert option.flag_value == "/etc/consul.d"


@as_root
def test_the_file_is_whose_the_folder_is(folder: Path) -> None:
    os.chown(folder / "consul.d", FOLDERS, FOLDERS + 1)
    for handler in ("script", "http"):
        install(folder, handler=handler)
        found = (folder / f"consul.d/isthmus-{REGISTRY}.json").stat()
        assert (found.st_uid, found.st_gid) == (FOLDERS, FOLDERS + 1)


def runs_consul(folder: Path, user: int, *groups: int, comm: str = "", command: str = "consul agent") -> None:
    """Let a Consul run, as /proc tells of one; the first group is its own."""
    comm = comm or consul_user.NAME
    entry = folder / "proc" / str(1000 + len(os.listdir(folder / "proc")))
    entry.mkdir()
    (entry / "comm").write_text(f"{comm}\n")
    (entry / "cmdline").write_bytes(command.replace(" ", "\0").encode() + b"\0")
    ids = f"Uid:\t0\t{user}\t0\t0\nGid:\t0\t{groups[0]}\t0\t0\nGroups:\t{' '.join(map(str, groups[1:]))} \n"
    (entry / "status").write_text(f"Name:\t{comm}\nState:\tS (sleeping)\n{ids}")


@as_root
@pytest.mark.parametrize(("own", "group"), [((0, 0), CONSUL + 1), ((CONSUL, 0), 0), ((0, CONSUL + 1), CONSUL + 1)])
def test_consul_can_read_a_token_also_in_a_folder_of_roots(folder: Path, own: tuple[int, int], group: int) -> None:
    runs_consul(folder, CONSUL, CONSUL + 1)
    os.chown(folder / "consul.d", *own)
    install(folder, handler="http")
    found = (folder / f"consul.d/isthmus-{REGISTRY}.json").stat()
    assert (found.st_uid, found.st_gid, S_IMODE(found.st_mode)) == (own[0], group, 0o640)


def test_whom_consul_runs_as_is_told_by_the_one_that_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert caller() is None
    runs_consul(folder, 7, 7, comm="consul-template", command="consul-template agent")
    runs_consul(folder, 8, 8, command="consul watch")
    (folder / "proc/1").mkdir()  # it has just ended
    assert caller() is None
    monkeypatch.setattr("agent.consul_user.NAME", "nobody")
    found = caller()
    assert found is not None
    assert (found.user, found.group, found.in_force) == (NOBODY.pw_uid, NOBODY.pw_gid, None)
    monkeypatch.setattr("agent.consul_user.NAME", "consul")
    runs_consul(folder, CONSUL, 9, 10, 11)
    found = caller()
    assert found == Caller(CONSUL, str(CONSUL), 9, frozenset({9, 10, 11}), frozenset({9, 10, 11}))


def nobody(folder: Path, *groups: int, member: bool) -> Caller:
    """Return a user of Consul that runs with these groups, and by the user database is one of the socket's or not."""
    of = os.stat(folder / "hook.sock").st_gid
    return Caller(SERVICE, "consul", SERVICE, frozenset({of} if member else ()), frozenset(groups))


def test_what_keeps_consul_from_the_socket_is_told_with_what_mends_it(folder: Path) -> None:
    path = folder / "hook.sock"
    bind_unix(path, 0o660).close()
    group = path.stat().st_gid
    name = grp.getgrgid(group).gr_name
    told = hindrance(path, nobody(folder, SERVICE, member=False))
    assert f"`usermod -aG {name} consul`, and restart Consul once, as a reload is not enough" in told
    told = hindrance(path, nobody(folder, SERVICE, member=True))
    assert f"was started before its user consul was in the group {name}" in told
    assert "restart Consul once" in told
    assert hindrance(path, nobody(folder, group, member=True)) == ""
    assert hindrance(path, nobody(folder, group, member=False)) == ""  # by its unit
    assert hindrance(path, nobody(folder, member=True)._replace(in_force=None)) == ""
    assert hindrance(path, Caller(os.getuid(), "me", 1, frozenset())) == ""
    assert hindrance(path, Caller(0, "root", 0, frozenset())) == ""
    assert f"`usermod -aG {name} USER`" in hindrance(path, None)


def test_a_socket_that_is_not_there_yet_will_have_the_group_of_the_socket_unit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "hook.sock"
    who = Caller(SERVICE, "consul", SERVICE, frozenset())
    assert f"the group of {path}, which is not there yet" in hindrance(path, who)
    monkeypatch.setattr("agent.consul_user.GROUP", grp.getgrgid(NOBODY.pw_gid).gr_name)
    assert f"`usermod -aG {grp.getgrgid(NOBODY.pw_gid).gr_name} consul`" in hindrance(path, who)


def test_that_is_told_when_scripts_are_installed_and_only_then(folder: Path) -> None:
    bind_unix(folder / "hook.sock", 0o660).close()
    assert "restart Consul once" in install(folder)
    assert "restart Consul once" not in install(folder, handler="http")
    assert run(folder, "--handler", "script").stderr == ""


def test_from_a_package_the_hook_is_named_so_that_an_upgrade_breaks_nothing(package: Path) -> None:
    install(package)
    content = json.loads((package / f"consul.d/isthmus-{REGISTRY}.json").read_text())
    expected = ["/usr/bin/isthmus-hook", "--socket", str(package / "hook.sock"), REGISTRY]
    assert all(watch["args"][:-1] == expected for watch in content["watches"])
    assert "holds these watches already" in install(package)


def test_from_a_package_the_socket_needs_no_configuration(package: Path) -> None:
    answer = run(package, "--handler", "script", receiver=None)
    assert answer.exit_code == 0
    (args, *_) = (watch["args"] for watch in json.loads(answer.stdout)["watches"])
    assert args[:4] == ["/usr/bin/isthmus-hook", "--socket", "/run/isthmus/hook.sock", REGISTRY]
