"""A registry host on which isthmus serves, and what its operator does there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.packages.consul import restart_consul
from tests.packages.machine import Machine
from tests.packages.site import HOOK_SOCKET, REGISTRY, Installation
from tests.testbed.consul_api import ConsulApi
from tests.testbed.processes import wait_until

HANDLERS = f"/etc/consul.d/isthmus-{REGISTRY}.json"
# Where Debian itself remembers users and packages, and where logs are.
REMEMBERED = r"/etc/(passwd|shadow|group|gshadow)-?|/var/(log|tmp|lib/dpkg|lib/apt|cache/apt|cache/debconf)/.*"


@dataclass(frozen=True, slots=True)
class Installed:
    """A bare installation, and the packages that were installed."""

    installation: Installation
    packages: set[str]


@dataclass(frozen=True, slots=True)
class Host:
    """A registry host with isthmus configured and serving, and Consul calling it."""

    installation: Installation
    consul: ConsulApi

    @property
    def machine(self) -> Machine:
        """The machine that it is."""
        return self.installation.machine


def packages(machine: Machine) -> set[str]:
    """Return the names of all packages."""
    return set(machine.run("dpkg-query", "--show", "--showformat=${Package}\n").stdout.split())


def names(machine: Machine) -> set[str]:
    """Return the files on the disk whose name, or whose text, tells of isthmus."""
    kept = ("-path", "/proc", "-prune", "-o", "-path", "/sys", "-prune", "-o")
    named = machine.run("find", "/", *kept, "-iname", "*isthmus*", "-print").stdout.splitlines()
    told = machine.run("grep", "-rIl", "isthmus", "/etc", "/var", "/usr", "/run", "/root", check=False).stdout
    return {path for path in (*named, *told.splitlines()) if not re.fullmatch(REMEMBERED, path)}


def install_handlers(host: Host) -> None:
    """Do what `watch-config --install` does and says."""
    machine = host.machine
    done = machine.run("isthmus", "watch-config", REGISTRY, "--handler", "script", "--install")
    owner = machine.stat("/etc/consul.d").split()[1]
    assert machine.stat(HANDLERS) == f"644 {owner}"
    # Debian's own Consul had its user before isthmus came.
    advice = re.search(r"`(usermod [^`]*)`, and restart Consul once", done.stderr)
    assert (advice is None) == (machine.system.name == "bullseye-consul"), done.stderr
    if advice:
        assert advice[1] == "usermod -aG isthmus-hook consul"
        machine.run(*advice[1].split())
    restart_consul(machine, host.consul)


def call_at_once(installation: Installation, number: int, meanwhile: str = "") -> None:
    """Run as many handlers as Consul's user, after a command of root's, and wait until every call was heard, once.

    On a busy machine an agent may take longer to start than handlers wait: they fail, and their calls are in the queue.
    """
    before = installation.heard_in_all_lives()
    call = f"isthmus-hook --socket {HOOK_SOCKET} {REGISTRY} services"
    calls = f"for number in $(seq {number}); do ({call}) & done; wait"
    installation.machine.run("sh", "-c", f"{meanwhile} runuser -u consul -- sh -c '{calls}'; wait")
    installation.machine.wait_for_unit("isthmus")
    wait_until(lambda: installation.heard_in_all_lives() >= before + number, f"{number} calls are heard")
    assert installation.heard_in_all_lives() == before + number


@contextmanager
def restarting(machine: Machine) -> Iterator[None]:
    """Wait until systemd, for what happens in the block, has started the agent by itself once more."""
    before = machine.show("isthmus", "NRestarts")
    yield
    wait_until(lambda: machine.show("isthmus", "NRestarts") != before, "systemd restarted isthmus")
    machine.wait_for_unit("isthmus")


def see_that_it_hears(host: Host) -> None:
    """Register an instance, see it in the cluster, and take it back."""
    host.consul.register("again", node="node-9", address="10.0.0.9", port=80)
    host.installation.expect("10.0.0.1:80", "10.0.0.9:80")
    # Not the last of its service that goes: that one would stay for a while.
    host.consul.set_status("again", "critical", node="node-9")
    host.installation.expect("10.0.0.1:80")
    host.consul.deregister_node("node-9")


def label(installation: Installation) -> str | None:
    """Return the label `team` of the endpoint that is always there."""
    labels: dict[str, str] = installation.entries()["10.0.0.1:80"]["metadata"]["labels"]
    return labels.get("team")
