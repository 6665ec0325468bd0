"""Hosts that are not as a package would like them: other users, mounts, hurry, and an agent that turned bad."""

import pytest
import yaml

from tests.packages.built import build
from tests.packages.conftest import MakeMachine
from tests.packages.machine import Machine
from tests.packages.site import CONTROL_SOCKET, FILE, HOOK_SOCKET, REGISTRY
from tests.testbed.processes import wait_until

FOLDER = "/run/isthmus"
DROP_IN = "/etc/systemd/system/isthmus.service.d/test.conf"
RESTART_IF_VALID = "/usr/lib/isthmus/bin/restart-if-valid"
# Neither is needed: a registry that cannot be reached, and a cluster that is a folder.
CONFIGURATION = {
    "owner": "dc1",
    "registries": {REGISTRY: {"type": "consul", "url": "http://127.0.0.1:8500"}},
    "clusters": {"east": {"directory": "/var/lib/isthmus/east", "namespace": "legacy"}},
    "receiver": {"socket": HOOK_SOCKET},
}


def configure(machine: Machine) -> None:
    """Write a working configuration."""
    machine.write(FILE, yaml.safe_dump(CONFIGURATION), mode=0o640, owner="root:isthmus")


def call(machine: Machine) -> None:
    """Call as Consul's user."""
    machine.run("isthmus-hook", "--socket", HOOK_SOCKET, REGISTRY, "services", user="consul")


@pytest.fixture
def machine(make_machine: MakeMachine) -> Machine:
    """A host with a user of Consul's, on which isthmus serves."""
    machine = make_machine("bookworm")
    machine.run("useradd", "--system", "consul")
    machine.install(build("deb"))
    configure(machine)
    machine.run("systemctl", "enable", "--now", "--quiet", "isthmus")
    return machine


def test_the_agents_user_cannot_have_roots_files_given_to_it(machine: Machine) -> None:
    """By its name, systemd gives a socket's file to its group, whatever that leads to by then."""
    call(machine)
    assert machine.stat(FOLDER) == "1775 root:isthmus"
    done = machine.run("rm", "--force", HOOK_SOCKET, user="isthmus", check=False)
    assert "Operation not permitted" in done.stderr

    machine.run("systemctl", "stop", "isthmus.socket", "isthmus.service")
    machine.write("/etc/roots-own", "secret\n", mode=0o600)
    machine.run("ln", "-s", "/etc/roots-own", HOOK_SOCKET, user="isthmus")
    machine.run("systemctl", "start", "isthmus")
    assert machine.stat("/etc/roots-own") == "600 root:root"
    assert machine.stat(HOOK_SOCKET) == "660 root:isthmus-hook"
    call(machine)


def test_a_folder_of_sockets_that_is_gone_is_made_again(machine: Machine) -> None:
    machine.run("systemctl", "stop", "isthmus.socket", "isthmus.service")
    machine.run("rm", "-r", FOLDER)
    machine.run("systemctl", "start", "isthmus")
    assert machine.stat(FOLDER) == "1775 root:isthmus"
    assert machine.stat(CONTROL_SOCKET) == "660 isthmus:isthmus"
    call(machine)


def test_a_drop_in_with_another_user_and_file_is_what_an_upgrade_checks(machine: Machine) -> None:
    machine.run("useradd", "--system", "somebody")
    machine.run("cp", "--preserve", FILE, "/etc/isthmus/other.yaml")
    machine.write(FILE, "nonsense: 1\n")
    command = "/usr/bin/isthmus --config /etc/isthmus/other.yaml run"
    machine.write(DROP_IN, f"[Service]\nUser=somebody\nExecStart=\nExecStart={command}\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "isthmus")
    call(machine)
    before = machine.main_pid("isthmus")
    assert machine.run(RESTART_IF_VALID).stderr == ""
    assert machine.main_pid("isthmus") != before
    assert machine.stat(CONTROL_SOCKET) == "660 somebody:isthmus"


def test_no_number_of_restarts_is_final(machine: Machine) -> None:
    machine.write(DROP_IN, "[Service]\nExecStart=\nExecStart=/bin/false\n")
    machine.run("systemctl", "daemon-reload")
    for _ in range(8):
        machine.run("systemctl", "restart", "isthmus", check=False)
    machine.run("rm", DROP_IN)
    machine.run("systemctl", "daemon-reload")
    machine.wait_for_unit("isthmus")
    wait_until(lambda: machine.exists(CONTROL_SOCKET), "it serves again")
    call(machine)


def test_what_cannot_be_removed_or_added_leaves_no_package_half_done(machine: Machine) -> None:
    machine.run("systemctl", "stop", "isthmus.socket", "isthmus.service")
    machine.run("mount", "-t", "tmpfs", "tmpfs", "/var/lib/isthmus")
    machine.write("/var/lib/isthmus/state.db", "")
    machine.run("dpkg", "--purge", "isthmus")
    assert machine.run("find", "/var/lib/isthmus", "-mindepth", "1").stdout == ""
    assert machine.run("dpkg-query", "--show", "isthmus", check=False).code != 0

    # First, as dpkg looks for it.
    machine.write("/usr/local/sbin/gpasswd", "#!/bin/sh\nexit 1\n", mode=0o755)
    done = machine.run("dpkg", "--install", f"/var/tmp/{build('deb').name}")
    assert "belongs to the group" not in done.stdout
    assert machine.run("dpkg-query", "--show", "--showformat=${db:Status-Status}", "isthmus").stdout == "installed"
