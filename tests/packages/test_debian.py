"""isthmus on Debian 11, 12 and 13, as its operator meets it: installed, configured, broken, mended, removed."""

from collections.abc import Iterator

import pytest

from tests.packages.built import build
from tests.packages.conftest import machines
from tests.packages.consul import wait_for_consul
from tests.packages.host import (
    HANDLERS,
    Host,
    Installed,
    call_at_once,
    install_handlers,
    label,
    names,
    packages,
    restarting,
    see_that_it_hears,
)
from tests.packages.site import (
    CONTROL_SOCKET,
    CREDENTIALS,
    FILE,
    HOOK_SOCKET,
    KUBECONFIG,
    REGISTRY,
    STATE,
    Installation,
)
from tests.testbed.apiserver import ApiServer
from tests.testbed.build import Binaries
from tests.testbed.processes import wait_until

# Debian 11 has a Consul of its own; later ones get the test bed's.
SYSTEMS = ("bullseye-consul", "bookworm", "trixie")
UNITS = ("isthmus.service", "isthmus.socket")
DROP_IN = "/etc/systemd/system/isthmus.service.d"
EXAMPLES = "/usr/share/isthmus/examples"
LAID_DOWN = {
    "/etc/isthmus": "750 root:isthmus",
    "/etc/isthmus/isthmus.yaml": "640 root:isthmus",
    "/etc/isthmus/credentials": "750 root:isthmus",
    "/var/lib/isthmus": "750 isthmus:isthmus",
    "/run/isthmus": "1775 root:isthmus",
    "/usr/lib/isthmus/bin/isthmus": "755 root:root",
    "/usr/lib/isthmus/bin/isthmus-hook": "755 root:root",
    "/usr/lib/isthmus/python/bin/python3.11": "755 root:root",
    "/usr/lib/systemd/system/isthmus.service": "644 root:root",
    "/usr/lib/systemd/system/isthmus.socket": "644 root:root",
    "/usr/lib/sysusers.d/isthmus.conf": "644 root:root",
    "/usr/lib/tmpfiles.d/isthmus.conf": "644 root:root",
    f"{EXAMPLES}/isthmus.yaml": "644 root:root",
    f"{EXAMPLES}/consul.d/isthmus-watch.json": "644 root:root",
    f"{EXAMPLES}/isthmus.service.d/credentials.conf": "644 root:root",
    "/usr/share/man/man8/isthmus.8.gz": "644 root:root",
    "/usr/share/man/man5/isthmus.yaml.5.gz": "644 root:root",
    "/usr/share/bash-completion/completions/isthmus": "644 root:root",
    "/usr/share/zsh/vendor-completions/_isthmus": "644 root:root",
}
PAYLOAD = ("/usr/lib/isthmus", "/usr/share/isthmus", "/usr/share/doc/isthmus")
MISSING = "owner, registries and clusters are missing"


# A machine is installed and configured once in all: it goes from test to test, each of which leaves it serving, and
# with one endpoint in the cluster. Those that need it bare come first, the one that removes isthmus comes last.
@pytest.fixture(scope="module", params=SYSTEMS)
def installed(
    request: pytest.FixtureRequest, api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """A machine on which isthmus was installed, and nothing else was done."""
    namespace = f"debian-{request.param}"
    api_server.create_namespace(namespace)
    api_server.grant(namespace)
    with machines(tmp_path_factory.mktemp(request.param)) as make:
        installation = Installation(make(request.param), api_server, namespace)
        before = packages(installation.machine)
        installation.install(build("deb"))
        yield Installed(installation, packages(installation.machine) - before)


@pytest.fixture(scope="module")
def configured(installed: Installed, testbed: Binaries) -> Host:
    """A host whose operator has written a configuration, and started nothing."""
    installation = installed.installation
    consul = installation.start_consul(testbed.consul)
    consul.register("base", node="node-0", address="10.0.0.1", port=80)
    installation.configure()
    return Host(installation, consul)


@pytest.fixture(scope="module")
def host(configured: Host) -> Host:
    """A host that serves, and that Consul calls."""
    configured.machine.run("systemctl", "enable", "--now", "isthmus")
    configured.installation.expect("10.0.0.1:80")
    install_handlers(configured)
    wait_until(lambda: configured.installation.heard() >= 4, "every watch of Consul told what there is")
    return configured


def test_an_installation_runs_nothing_and_says_what_is_missing(installed: Installed) -> None:
    machine = installed.installation.machine
    # Neither a Python nor anything else came with it.
    assert installed.packages == {"isthmus"}
    assert machine.run("sh", "-c", "command -v python3", check=False).stdout == ""

    for unit in UNITS:
        assert machine.run("systemctl", "is-enabled", unit, check=False).stdout == "disabled\n"
        assert machine.show(unit, "ActiveState") == {"ActiveState": "inactive"}
    assert {path: machine.stat(path) for path in LAID_DOWN} == LAID_DOWN
    writable = ("(", "!", "-user", "root", "-o", "!", "-type", "l", "-perm", "/022", ")")
    assert machine.run("find", *PAYLOAD, *writable).stdout == ""
    assert machine.run("id", "-Gn", "isthmus").stdout == "isthmus isthmus-hook\n"
    # No user is made for a Consul that is not there.
    consul = machine.run("id", "-Gn", "consul", check=False).stdout
    assert consul == ("consul isthmus-hook\n" if machine.exists("/usr/bin/consul") else "")

    done = machine.run("isthmus", "check", check=False)
    assert done.code == 10
    assert MISSING in done.stdout
    assert machine.run("systemctl", "start", "isthmus", check=False).code != 0
    assert machine.show("isthmus", "ActiveState", "NRestarts", "ExecMainStatus") == {
        "ActiveState": "failed",
        "NRestarts": "0",
        "ExecMainStatus": "10",
    }
    assert machine.journal("isthmus").count(MISSING) == 1
    # Nor does a call of Consul's start it again and again.
    assert machine.show("isthmus.socket", "ActiveState") == {"ActiveState": "inactive"}


def test_a_single_run_as_root_before_the_first_start_leaves_nothing_to_mend(configured: Host) -> None:
    machine, installation = configured.machine, configured.installation
    assert machine.run("isthmus", "check").stdout.count("error") == 0
    machine.run("isthmus", "once")
    installation.expect("10.0.0.1:80")
    left = machine.run("find", "/var/lib/isthmus", "/run/isthmus", "-mindepth", "1", "!", "-user", "isthmus").stdout
    assert left == ""
    with installation.writing(0):
        machine.run("systemctl", "enable", "--now", "isthmus")
        shown = machine.show("isthmus", "ActiveState", "Type", "StatusText")
    assert (shown["ActiveState"], shown["Type"]) == ("active", "notify")
    assert shown["StatusText"].startswith("1 of 1 registries and 1 of 1 clusters work")
    see_that_it_hears(configured)


def test_consuls_user_can_call_and_nothing_else(host: Host) -> None:
    machine, installation = host.machine, host.installation
    before = installation.heard()
    see_that_it_hears(host)
    wait_until(lambda: installation.heard() > before, "Consul called of the new service")
    # No handler of its own user's failed.
    assert "isthmus-hook" not in machine.journal("consul")

    for path in (FILE, KUBECONFIG, STATE):
        done = machine.run("cat", path, user="consul", check=False)
        assert (done.stdout, done.code) == ("", 1)
        assert "Permission denied" in done.stderr
    assert machine.stat(HOOK_SOCKET) == "660 root:isthmus-hook"
    assert machine.stat(CONTROL_SOCKET) == "660 isthmus:isthmus"
    for user, socket in (("consul", CONTROL_SOCKET), ("nobody", HOOK_SOCKET), ("nobody", CONTROL_SOCKET)):
        called = ("isthmus-hook", "--socket", socket, REGISTRY, "services")
        done = machine.run(*called, user=user, check=False)
        assert (done.code, done.stderr) == (1, f"isthmus-hook: not delivered to {socket}: Permission denied\n")

    machine.run("useradd", "--groups", "isthmus", "admin")
    assert machine.run("isthmus", "status", user="admin").stdout.startswith("isthmus ")
    assert installation.status("admin")["running"] is True
    done = machine.run("isthmus", "status", user="nobody", check=False)
    assert done.code == 10
    assert "only root and the group isthmus may read it" in done.stderr


def test_no_call_is_lost_while_the_agent_is_stopped_or_restarts(host: Host) -> None:
    machine, installation = host.machine, host.installation
    with installation.writing(0):
        call_at_once(installation, 1, "systemctl stop isthmus;")
        assert machine.show("isthmus.socket", "ActiveState") == {"ActiveState": "active"}
        call_at_once(installation, 20, "systemctl stop isthmus;")
        call_at_once(installation, 20, "systemctl restart isthmus &")


def test_an_agent_that_is_killed_or_hangs_is_back_and_writes_nothing(host: Host) -> None:
    machine = host.machine
    machine.write(f"{DROP_IN}/watchdog.conf", "[Service]\nWatchdogSec=3s\n")
    machine.run("systemctl", "daemon-reload")
    killed = machine.main_pid("isthmus")
    with host.installation.writing(0), restarting(machine):
        machine.run("sh", "-c", f"kill -KILL {killed}")
    hanging = machine.main_pid("isthmus")
    assert hanging != killed
    see_that_it_hears(host)

    with host.installation.writing(0), restarting(machine):
        machine.run("sh", "-c", f"kill -STOP {hanging}")
    assert machine.main_pid("isthmus") != hanging
    assert "isthmus.service: Watchdog timeout (limit 3s)!" in machine.journal("isthmus")
    see_that_it_hears(host)
    machine.run("rm", "-r", DROP_IN)
    machine.run("systemctl", "daemon-reload")


def test_a_reload_with_a_mistake_fails_and_changes_nothing(host: Host) -> None:
    machine, installation = host.machine, host.installation
    pid, restarts = machine.main_pid("isthmus"), machine.show("isthmus", "NRestarts")
    installation.configure(rules=[{"match": {}, "lables": {"team": "shop"}}])
    assert machine.run("systemctl", "reload", "isthmus", check=False).code != 0
    assert "lables" in machine.journal("isthmus")
    machine.wait_for_unit("isthmus")
    see_that_it_hears(host)

    installation.configure(rules=[{"match": {}, "labels": {"team": "shop"}}])
    machine.run("systemctl", "reload", "isthmus")
    wait_until(lambda: label(installation) == "shop", "the new configuration counts")
    installation.configure()
    machine.run("systemctl", "reload", "isthmus")
    wait_until(lambda: label(installation) is None, "the old configuration counts again")
    assert (machine.main_pid("isthmus"), machine.show("isthmus", "NRestarts")) == (pid, restarts)


def test_credentials_are_loaded_by_systemd_with_the_drop_in_as_it_is_shipped(host: Host) -> None:
    machine, installation = host.machine, host.installation
    machine.run("install", "-d", "-m", "700", "/etc/isthmus/secret")
    machine.write("/etc/isthmus/secret/consul", "no-token-is-needed\n", mode=0o600)
    machine.write("/etc/isthmus/secret/east.kubeconfig", installation.kubeconfig(), mode=0o600)
    machine.run("install", "-D", "-m", "644", "-t", DROP_IN, f"{EXAMPLES}/isthmus.service.d/credentials.conf")
    registry = {"type": "consul", "url": "http://127.0.0.1:8500", "token_file": "consul"}
    cluster = {"kubeconfig": "east.kubeconfig", "namespace": installation.namespace}
    installation.configure(registries={REGISTRY: registry}, clusters={"east": cluster})
    machine.run("mv", CREDENTIALS, "/root/away")
    with installation.writing(0):
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", "isthmus")
    see_that_it_hears(host)
    assert machine.run("ls", "/etc/isthmus/secret", user="isthmus", check=False).code != 0
    machine.run("systemctl", "reload", "isthmus")  # the check that comes first finds them as well
    machine.run("env", "CREDENTIALS_DIRECTORY=/run/credentials/isthmus.service", "isthmus", "check")

    machine.run("rm", "-r", DROP_IN, "/etc/isthmus/secret")
    machine.run("mv", "/root/away", CREDENTIALS)
    installation.configure()
    machine.run("systemctl", "daemon-reload")


def test_a_reboot_brings_everything_back_and_writes_nothing(host: Host) -> None:
    machine, installation = host.machine, host.installation
    with installation.writing(0):
        machine.reboot()
        wait_for_consul(host.consul)
        machine.wait_for_unit("isthmus")
        wait_until(installation.is_settled, "the registry is read again")
    assert machine.stat("/run/isthmus") == "1775 root:isthmus"
    assert machine.stat(HOOK_SOCKET) == "660 root:isthmus-hook"
    assert machine.stat(CONTROL_SOCKET) == "660 isthmus:isthmus"
    wait_until(lambda: installation.heard() >= 4, "every watch of Consul told what there is")
    see_that_it_hears(host)


def test_a_removal_keeps_the_data_and_a_purge_leaves_nothing(host: Host) -> None:
    machine = host.machine
    before = machine.read(FILE)
    removed = machine.run("apt-get", "remove", "--yes", "isthmus")
    # Consul goes on calling: who removes isthmus is told where.
    assert HANDLERS in removed.stdout + removed.stderr
    states = {unit: machine.show(unit, "ActiveState")["ActiveState"] for unit in UNITS}
    assert states == dict.fromkeys(UNITS, "inactive")
    assert machine.read(FILE) == before
    assert [machine.stat(path) for path in (KUBECONFIG, STATE)] == ["640 root:isthmus", "644 isthmus:isthmus"]
    assert not machine.exists("/usr/lib/isthmus")
    assert not machine.exists("/run/isthmus")

    machine.run("apt-get", "purge", "--yes", "isthmus")
    assert names(machine) == {HANDLERS}
    machine.run("id", "isthmus")  # its number is not given to somebody else
    host.installation.expect("10.0.0.1:80")  # and what was written stays
