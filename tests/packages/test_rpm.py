"""isthmus from its rpm, by real rpm and dnf, on a machine without anything of Debian's package management."""

from tests.packages.built import build
from tests.packages.conftest import MakeServing
from tests.packages.consul import restart_consul, wait_for_consul
from tests.packages.machine import Machine
from tests.packages.site import CREDENTIALS, FILE, HOOK_SOCKET, REGISTRY, STATE
from tests.packages.versions import NEXT, REFUSED, WHY_REFUSED
from tests.testbed.processes import wait_until

UNITS = ("isthmus.service", "isthmus.socket")
# No repository can be reached, nor is one needed: what is missing, dnf says.
DNF = ("dnf", "--assumeyes", "--disablerepo=*", "--setopt=cachedir=/var/tmp/dnf")
LAID_DOWN = {
    "/etc/isthmus": "750 root:isthmus",
    "/etc/isthmus/credentials": "750 root:isthmus",
    "/etc/isthmus/isthmus.yaml": "640 root:isthmus",
    "/run/isthmus": "1775 root:isthmus",
    "/usr/lib/isthmus": "755 root:root",
    "/usr/lib/isthmus/bin/isthmus": "755 root:root",
    "/usr/lib/isthmus/bin/isthmus-hook": "755 root:root",
    "/usr/lib/isthmus/python/bin/python3.11": "755 root:root",
    "/usr/lib/systemd/system/isthmus.service": "644 root:root",
    "/usr/lib/systemd/system/isthmus.socket": "644 root:root",
    "/usr/lib/systemd/system-preset/90-isthmus.preset": "644 root:root",
    "/usr/share/zsh/site-functions/_isthmus": "644 root:root",
    "/var/lib/isthmus": "750 isthmus:isthmus",
}
GONE = (*LAID_DOWN.keys() - {"/etc/isthmus", "/etc/isthmus/credentials", "/var/lib/isthmus"}, "/usr/share/isthmus")


def differences(machine: Machine) -> list[str]:
    """Return which files `rpm -V` finds changed since the installation."""
    done = machine.run("rpm", "--verify", "isthmus", check=False)
    return [line.split()[-1] for line in (done.stdout).splitlines()]


def states(machine: Machine) -> list[tuple[str, str]]:
    """Return of both units whether they run, and whether they will at the next boot."""
    shown = [machine.show(unit, "ActiveState", "UnitFileState") for unit in UNITS]
    return [(one["ActiveState"], one["UnitFileState"]) for one in shown]


def test_dnf_resolves_what_it_needs_and_nothing_runs_before_it_is_configured(el8: Machine) -> None:
    package = build("rpm")
    path = f"/var/tmp/{package.name}"
    el8.write(path, package)
    before = sorted(el8.run("find", "/usr").stdout.splitlines())
    # Where nothing claims to be RHEL's glibc and systemd, they are missing.
    el8.run("cp", "-r", el8.run("rpm", "--eval", "%{_dbpath}").stdout.strip(), "/var/tmp/rpmdb")
    el8.run("rpm", "--dbpath=/var/tmp/rpmdb", "--erase", "--justdb", "el8-shim")
    refused = el8.run("rpm", "--dbpath=/var/tmp/rpmdb", "--install", "--test", path, check=False)
    assert refused.code != 0
    assert "systemd >= 239 is needed by isthmus" in refused.stderr
    assert "libc.so.6(GLIBC_2.17)(64bit) is needed by isthmus" in refused.stderr

    el8.run(*DNF, "install", path)
    assert el8.run("rpm", "--query", "isthmus").stdout.startswith("isthmus-")
    assert differences(el8) == []
    assert states(el8) == [("inactive", "disabled")] * 2
    assert {path: el8.stat(path) for path in LAID_DOWN} == LAID_DOWN
    assert el8.run("readlink", "/usr/bin/isthmus").stdout == "../lib/isthmus/bin/isthmus\n"
    assert el8.run("id", "-nG", "isthmus").stdout.split() == ["isthmus", "isthmus-hook"]
    done = el8.run("isthmus", "check", user="isthmus", check=False)
    assert done.code == 10
    assert "owner, registries and clusters are missing" in done.stdout + done.stderr
    el8.run("systemctl", "start", "isthmus", check=False)
    el8.wait_for_unit("isthmus", "failed")
    assert el8.show("isthmus", "ExecMainStatus", "NRestarts") == {"ExecMainStatus": "10", "NRestarts": "0"}
    assert differences(el8) == []

    el8.run(*DNF, "remove", "isthmus")
    assert sorted(el8.run("find", "/usr").stdout.splitlines()) == before
    assert not el8.exists("/etc/isthmus")  # nobody had changed anything


def test_it_serves_as_on_debian_changes_no_file_of_its_own_and_is_back_after_a_boot(make_serving: MakeServing) -> None:
    site = make_serving("el8")
    machine = site.machine
    site.serve()
    assert machine.stat(HOOK_SOCKET) == "660 root:isthmus-hook"
    machine.run("isthmus", "watch-config", REGISTRY, "--handler", "script", "--install")
    restart_consul(site.machine, site.consul)
    wait_until(lambda: site.heard() > 0, "Consul's handlers call")
    site.still_works()
    for secret in (FILE, f"{CREDENTIALS}/east.kubeconfig", STATE):
        assert machine.run("cat", secret, user="consul", check=False).code == 1
    # As root, so that whatever could be written anew, compiled files for one, would be.
    machine.run("isthmus", "check")
    machine.run("isthmus", "plan")
    assert differences(machine) == [FILE]

    machine.reboot()
    machine.wait_for_unit("isthmus")
    wait_for_consul(site.consul)
    site.still_works()
    assert differences(machine) == [FILE]


def test_an_upgrade_that_refuses_the_configuration_leaves_the_old_agent_be_and_erasing_leaves_what_is_not_ours(
    make_serving: MakeServing,
) -> None:
    site = make_serving("el8")
    machine = site.machine
    before = site.serve(domain=REFUSED)
    done = site.upgrade()
    assert WHY_REFUSED in done.stdout + done.stderr
    assert "the old one goes on" in done.stdout + done.stderr
    assert machine.main_pid("isthmus") == before
    assert states(machine) == [("active", "enabled")] * 2
    site.still_works()
    site.configure()
    machine.run("systemctl", "restart", "isthmus")
    assert site.status()["version"] == NEXT
    assert differences(machine) == [FILE]
    machine.run("isthmus", "watch-config", REGISTRY, "--handler", "script", "--install")
    configuration, running = machine.read(FILE), machine.main_pid("isthmus")

    done = machine.run("rpm", "--erase", "isthmus")
    assert f"/etc/consul.d/isthmus-{REGISTRY}.json" in done.stderr + done.stdout
    assert [machine.show(unit, "LoadState")["LoadState"] for unit in UNITS] == ["not-found"] * 2
    assert not machine.exists(f"/proc/{running}")
    assert [path for path in GONE if machine.exists(path)] == []
    assert machine.read(f"{FILE}.rpmsave") == configuration
    assert machine.exists(STATE)

    # Whoever thinks better of it finds it as at first: not enabled.
    site.install(build("rpm"))
    assert states(machine) == [("inactive", "disabled")] * 2
    assert differences(machine) == []
