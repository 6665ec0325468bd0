"""Upgrades that do not go by the book, and the way back: what served before serves on, and nothing is removed."""

import signal

import pytest

from tests.packages.built import build
from tests.packages.conftest import MakeServing
from tests.packages.machine import MachineError
from tests.packages.serving import BACK
from tests.packages.site import FILE, STATE
from tests.packages.versions import NEW_DEFAULT, NEXT, REFUSED, WHY_REFUSED, build_next
from tests.testbed.processes import wait_until

SLOW = "/run/systemd/system/isthmus.service.d/slow.conf"
# As soon as the first of the new files is there.
KILL_DPKG = """\
#!/bin/sh
dpkg --force-confold --install /var/tmp/next.deb &
until test -e /usr/lib/isthmus/python/bin/python3.11.dpkg-new; do kill -0 $! || break; done
kill -KILL $!
wait $!
"""


def test_an_upgrade_that_must_ask_or_that_refuses_the_configuration_changes_nothing_that_runs(
    make_serving: MakeServing,
) -> None:
    site = make_serving("bookworm")
    machine = site.machine
    before, configuration = site.serve(domain=REFUSED), machine.read(FILE)
    # Our default has changed, and so has the operator's file, and there is no terminal to ask which to take.
    with pytest.raises(MachineError, match="end of file on stdin at conffile prompt"):
        site.install(build_next("deb"))
    assert (machine.main_pid("isthmus"), machine.read(FILE)) == (before, configuration)
    site.still_works()

    # Now it is told which, and the next version does not take that one.
    done = machine.run("dpkg", "--force-confold", "--configure", "--pending")
    assert WHY_REFUSED in done.stderr
    assert "the old one goes on" in done.stderr
    assert (machine.main_pid("isthmus"), machine.read(FILE)) == (before, configuration)
    assert NEW_DEFAULT in machine.read(f"{FILE}.dpkg-dist")
    site.still_works()

    # As the message says.
    site.configure()
    assert machine.run("isthmus", "check", "--config-only", user="isthmus").code == 0
    machine.run("systemctl", "restart", "isthmus")
    assert site.versions() == (f"{NEXT}-1 ii", NEXT)


@pytest.mark.parametrize("root", ["bullseye-consul", "bookworm", "trixie"])
def test_the_way_back_by_one_version_moves_the_newer_state_aside_and_removes_nothing(
    make_serving: MakeServing, root: str
) -> None:
    site = make_serving(root)
    machine, old = site.machine, build("deb")
    first = site.serve()
    site.upgrade()
    second = machine.main_pid("isthmus")
    assert site.versions() == (f"{NEXT}-1 ii", NEXT)
    site.still_works()

    with site.api_server.record(site.namespace) as recorder:
        site.install(old, *BACK)
        machine.wait_for_unit("isthmus")
        third = machine.main_pid("isthmus")
        assert len({first, second, third}) == 3
        assert site.versions()[1] != NEXT
        log = machine.journal("isthmus")
        assert "newer than" in log
        assert "starting as after a loss" in log
        assert machine.run("sh", "-c", f"ls {STATE}.aside-*").stdout != ""
        wait_until(site.is_settled, "the agent has read and compared everything")
        assert recorder.events() == []
    site.still_works()


def test_an_agent_that_is_stopped_stays_so_over_an_upgrade(make_serving: MakeServing) -> None:
    site = make_serving("bookworm")
    machine = site.machine
    site.serve()
    machine.run("systemctl", "stop", "isthmus")
    site.upgrade()
    units = ("isthmus.service", "isthmus.socket")
    assert [machine.show(unit, "ActiveState", "UnitFileState") for unit in units] == [
        {"ActiveState": "inactive", "UnitFileState": "enabled"},
        {"ActiveState": "active", "UnitFileState": "enabled"},
    ]

    # One that is not ready yet, whatever keeps it, is none that is stopped.
    machine.write(SLOW, "[Service]\nExecStart=\nExecStart=/bin/sleep infinity\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "--no-block", "isthmus")
    machine.wait_for_unit("isthmus", "activating")
    machine.run("rm", SLOW)
    machine.run("systemctl", "daemon-reload")
    machine.run("/usr/lib/isthmus/bin/restart-if-valid")
    assert machine.show("isthmus", "ActiveState") == {"ActiveState": "active"}
    site.still_works()

    machine.run("systemctl", "disable", "--now", "--quiet", *units)
    site.install(build("deb"), *BACK)
    assert [machine.show(unit, "ActiveState", "UnitFileState") for unit in units] == [
        {"ActiveState": "inactive", "UnitFileState": "disabled"}
    ] * 2


def test_an_upgrade_that_breaks_off_leaves_the_old_agent_serving(make_serving: MakeServing) -> None:
    site = make_serving("bookworm")
    machine = site.machine
    before, old = site.serve(), site.versions()
    machine.write("/var/tmp/next.deb", build_next("deb"))

    # The new version changes its mind before a file is unpacked: dpkg calls postrm and postinst with abort-upgrade.
    machine.run("dpkg-deb", "--raw-extract", "/var/tmp/next.deb", "/var/tmp/next")
    machine.write("/var/tmp/next/DEBIAN/preinst", "#!/bin/sh\nexit 1\n", mode=0o755)
    machine.run("dpkg-deb", "-Znone", "--build", "/var/tmp/next", "/var/tmp/unwilling.deb")
    done = machine.run("dpkg", "--install", "/var/tmp/unwilling.deb", check=False)
    assert done.code == 1
    assert "pre-installation script subprocess returned error exit status 1" in done.stderr
    assert (machine.main_pid("isthmus"), site.versions()) == (before, old)

    # dpkg dies while it unpacks.
    machine.write("/usr/local/bin/kill-dpkg", KILL_DPKG, mode=0o755)
    assert machine.run("/usr/local/bin/kill-dpkg", check=False).code == 128 + signal.SIGKILL
    assert machine.main_pid("isthmus") == before
    site.still_works()
    # As apt-get would say.
    machine.run("dpkg", "--configure", "--pending")
    site.upgrade()
    assert site.versions() == (f"{NEXT}-1 ii", NEXT)
