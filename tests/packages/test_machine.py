"""The machines of the tests do what a test relies on, and leave nothing behind."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.packages.conftest import MakeMachine
from tests.packages.consul import start_consul, wait_for_consul
from tests.packages.enclosure import Enclosure
from tests.packages.machine import Machine, MachineError
from tests.packages.roots import RELEASES, ROOTS
from tests.testbed.build import Binaries
from tests.testbed.processes import wait_until

# It counts its starts, before it is active.
TOY = """\
[Service]
User=daemon
StateDirectory=toy
ExecStartPre=/bin/sh -c "echo start >>/var/lib/toy/starts; echo I am up"
ExecStart=/bin/sleep infinity
Restart=on-failure
RestartSec=50ms

[Install]
WantedBy=multi-user.target
"""
ECHO_SOCKET = "[Socket]\nListenStream=127.0.0.1:7\nAccept=yes\n[Install]\nWantedBy=sockets.target\n"
ECHO_SERVICE = "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n"
DEB = (
    "Package: toy\nVersion: {}\nArchitecture: all\nMaintainer: t <t@example.org>\nDescription: toy\nDepends: systemd\n"
)
SPEC = """\
Name: toy
Version: {}
Release: 1
Summary: toy
License: none
BuildArch: noarch
Requires: systemd >= 239, shadow-utils, glibc >= 2.17, /bin/sh
%description
toy
%install
install -D -m 640 /dev/null %{{buildroot}}/etc/toy.conf
%pre
getent group toy >/dev/null || groupadd --system toy
%post
echo "post $1" >>/var/tmp/scripts
systemctl daemon-reload
%preun
echo "preun $1" >>/var/tmp/scripts
%files
%attr(640, root, toy) %config(noreplace) /etc/toy.conf
"""


def start_toy(machine: Machine) -> None:
    machine.write("/etc/systemd/system/toy.service", TOY)
    machine.run("systemctl", "enable", "--now", "--quiet", "toy")
    machine.wait_for_unit("toy")


def starts(machine: Machine) -> int:
    return len(machine.read("/var/lib/toy/starts").splitlines())


@pytest.mark.parametrize("root", [*RELEASES, "el8"])
def test_a_machine_boots_runs_a_unit_and_shows_it(make_machine: MakeMachine, root: str) -> None:
    machine = make_machine(root)
    assert machine.run("systemctl", "list-units", "--failed", "--plain", "--no-legend").stdout == ""
    start_toy(machine)
    wait_until(lambda: "I am up\n" in machine.journal("toy"), "the journal has what the unit said")
    assert machine.stat("/var/lib/toy/starts") == "644 daemon:daemon"
    before = machine.main_pid("toy")
    machine.run("systemctl", "kill", "--signal=KILL", "toy")
    wait_until(lambda: starts(machine) == 2, "the unit was restarted")
    machine.wait_for_unit("toy")
    assert machine.main_pid("toy") != before
    assert machine.show("toy", "NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"}


def test_the_disk_and_the_journal_outlive_a_reboot_a_pulled_plug_and_a_poweroff(make_machine: MakeMachine) -> None:
    machine = make_machine("bookworm")
    start_toy(machine)
    boot = machine.read("/proc/sys/kernel/random/boot_id")
    machine.reboot()
    machine.wait_for_unit("toy")
    machine.kill()
    assert not machine.is_on
    assert starts(machine) == 2
    machine.boot().wait_for_unit("toy")
    machine.power_off()
    machine.boot().wait_for_unit("toy")
    assert starts(machine) == 4
    assert machine.journal("toy").count("I am up") >= 3  # a pulled plug may cost the last words
    assert machine.read("/proc/sys/kernel/random/boot_id") != boot


def test_two_machines_do_not_touch_each_other(make_machine: MakeMachine) -> None:
    one, two = make_machine("bookworm"), make_machine("bookworm")
    start_toy(one)
    start_toy(two)
    one.run("systemctl", "kill", "--signal=KILL", "toy")
    wait_until(lambda: starts(one) == 2, "the unit was restarted")
    one.run("systemctl", "stop", "toy")
    one.run("rm", "-r", "/etc/issue", "/var/lib/toy")
    assert (two.show("toy", "ActiveState", "NRestarts"), starts(two)) == (
        {"ActiveState": "active", "NRestarts": "0"},
        1,
    )
    assert two.exists("/etc/issue")
    assert one.run("hostname").stdout != two.run("hostname").stdout


def test_a_command_has_its_user_its_input_and_an_end_that_counts(make_machine: MakeMachine) -> None:
    machine = make_machine("bookworm")
    assert machine.run("id", "-un").stdout == "root\n"
    assert machine.run("sh", "-c", "id -un; cat", user="daemon", stdin="said").stdout == "daemon\nsaid"
    done = machine.run("sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.stdout, done.stderr, done.code) == ("out\n", "err\n", 3)
    with pytest.raises(MachineError, match=r"cat /nowhere on bookworm-\d+-\d+ ended with 1:\n.*No such file"):
        machine.read("/nowhere")
    machine.write("/etc/toy/secret", "word\n", mode=0o640, owner="root:daemon")
    assert machine.stat("/etc/toy/secret") == "640 root:daemon"
    assert machine.run("cat", "/etc/toy/secret", user="daemon").stdout == "word\n"
    assert machine.run("cat", "/etc/toy/secret", user="nobody", check=False).code == 1
    assert "COVERAGE" not in machine.run("env").stdout


def test_a_machine_that_is_off_is_an_image_without_systemd(make_machine: MakeMachine) -> None:
    machine = make_machine("trixie", on=False)
    machine.write("/etc/systemd/system/toy.service", TOY)
    assert machine.run("systemctl", "is-system-running", check=False).stdout == "offline\n"
    machine.run("systemctl", "enable", "toy")
    machine.boot().wait_for_unit("toy")


def test_ports_are_handed_on_in_both_directions_and_over_a_reboot(make_machine: MakeMachine) -> None:
    machine = make_machine("bookworm")
    machine.write("/etc/systemd/system/echo.socket", ECHO_SOCKET)
    machine.write("/etc/systemd/system/echo@.service", ECHO_SERVICE)
    machine.run("systemctl", "enable", "--now", "--quiet", "echo.socket")
    port = machine.reach(7)
    big = os.urandom(2**20)
    with ExitStack() as opened:
        listening = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        machine.forward(6443, listening.getsockname()[1])
        for _ in range(2):
            assert echo(port, big) == big
            asked = ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/6443; echo hello >&3; cat <&3"]
            client = opened.enter_context(subprocess.Popen(machine.inside(*asked), stdout=subprocess.PIPE, text=True))
            assert client.stdout
            stream, _ = listening.accept()
            with stream:
                assert stream.recv(100) == b"hello\n"
                stream.sendall(b"world\n")
            assert client.stdout.read() == "world\n"
            machine.reboot()
    # The host's own loopback, and whatever else it has, is not to be seen from in there.
    assert [line.split(":")[0].strip() for line in machine.read("/proc/net/dev").splitlines()[2:]] == ["lo"]
    with pytest.raises(MachineError, match="refused"):
        machine.run("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}")


def echo(port: int, octets: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as stream, ThreadPoolExecutor(1) as other:
        sent = other.submit(stream.sendall, octets)
        with stream.makefile("rb") as answer:
            got = answer.read(len(octets))
        sent.result()
        return got


def test_a_deb_is_installed_and_upgraded_with_apt(make_machine: MakeMachine, tmp_path: Path) -> None:
    machine = make_machine("bullseye")
    for version in ("1", "2"):
        machine.write("/var/tmp/toy/DEBIAN/control", DEB.format(version))
        machine.run("dpkg-deb", "--build", "/var/tmp/toy", "/var/tmp/built.deb")
        deb = tmp_path / f"toy_{version}_all.deb"
        with deb.open("wb") as file:
            subprocess.run(machine.inside("cat", "/var/tmp/built.deb"), stdout=file, check=True)
        machine.install(deb)
        assert machine.run("dpkg-query", "-W", "-f", "${Version}", "toy").stdout == version


def test_an_rpm_is_installed_upgraded_verified_and_erased_as_on_rhel(el8: Machine, tmp_path: Path) -> None:
    for version in ("1", "2"):
        el8.write("/root/toy.spec", SPEC.format(version))
        el8.run("rpmbuild", "-bb", "--quiet", "/root/toy.spec")
        rpm = tmp_path / f"toy-{version}.noarch.rpm"
        with rpm.open("wb") as file:
            subprocess.run(
                el8.inside("cat", f"/root/rpmbuild/RPMS/noarch/toy-{version}-1.noarch.rpm"), stdout=file, check=True
            )
        el8.install(rpm)
        assert el8.run("rpm", "--query", "toy").stdout == f"toy-{version}-1.noarch\n"
    assert el8.stat("/etc/toy.conf") == "640 root:toy"
    assert el8.run("rpm", "--verify", "toy").stdout == ""
    el8.run("chmod", "600", "/etc/toy.conf")
    assert "/etc/toy.conf" in el8.run("rpm", "--verify", "toy", check=False).stdout
    el8.run("rpm", "--erase", "toy")
    assert el8.read("/var/tmp/scripts").split("\n") == ["post 1", "post 2", "preun 1", "preun 0", ""]
    # dnf resolves the same, of what the shim provides, and refuses what RHEL 8 lacks.
    el8.run("dnf", "install", "--assumeyes", f"/var/tmp/toy-{version}.noarch.rpm")
    el8.write("/root/toy.spec", SPEC.format("3").replace("glibc >= 2.17", "glibc >= 2.29"))
    el8.run("rpmbuild", "-bb", "--quiet", "/root/toy.spec")
    done = el8.run("dnf", "install", "--assumeyes", "/root/rpmbuild/RPMS/noarch/toy-3-1.noarch.rpm", check=False)
    assert done.code == 1
    assert "nothing provides glibc >= 2.29" in done.stderr
    assert not el8.exists("/usr/bin/dpkg")


@pytest.mark.parametrize("root", ["bullseye-consul", "bookworm"])
def test_a_consul_runs_as_its_user_and_keeps_what_it_was_told(
    make_machine: MakeMachine, testbed: Binaries, root: str
) -> None:
    machine = make_machine(root)
    consul = start_consul(machine, testbed.consul)
    consul.register("web", port=80)
    assert machine.run("stat", "--format=%U", f"/proc/{machine.main_pid('consul')}").stdout == "consul\n"
    machine.reboot()
    wait_for_consul(consul)
    assert [entry.service for entry in consul.catalog()] == ["web"]
    assert "v1.8.7" in machine.run("consul", "version").stdout or root != "bullseye-consul"


def test_nothing_is_left_when_pytest_is_killed(tmp_path: Path) -> None:
    script = (
        "import pathlib, signal; from tests.packages.machine import Machine; from tests.packages.roots import ROOTS;"
        f"machine = Machine(ROOTS['bookworm'], pathlib.Path({str(tmp_path)!r})).open().boot();"
        "print(machine.enclosure.pid, machine.leader, machine.enclosure.cgroup, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        first, leader, cgroup = child.stdout.readline().split()
        assert Path(f"/proc/{leader}").exists()
        child.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (first, leader)), "its processes are gone")
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    with Enclosure(ROOTS["bookworm"].make(), tmp_path / "next"):
        assert not Path(cgroup).exists()
    assert not list(Path("/sys/fs/cgroup").rglob(f"isthmus-test-{child.pid}-*"))
