"""An installation that serves: one endpoint to begin with, a Consul that tells of every call, and its next version."""

from pathlib import Path
from typing import Any, Self

from tests.packages.built import build
from tests.packages.machine import Done
from tests.packages.site import Installation
from tests.packages.versions import build_next
from tests.testbed.consul_api import ConsulApi

# What automation says to dpkg, which has nobody to ask: https://manpages.debian.org/dpkg.1#force-confold
KEEP = ("-o", "Dpkg::Options::=--force-confold")
BACK = (*KEEP, "--allow-downgrades")
ONE, TWO = "10.0.0.1:8080", "10.0.0.2:8080"
# The journal drops nothing of what Consul says, however much that is.
NO_LIMIT = "[Service]\nLogRateLimitIntervalSec=0\n"


class Serving(Installation):
    """A machine on which this version is installed, to be upgraded."""

    consul: ConsulApi

    def prepare(self, consul: Path) -> Self:
        """Start Consul and install isthmus."""
        self.machine.write("/etc/systemd/system/consul.service.d/log.conf", NO_LIMIT)
        self.consul = self.start_consul(consul)
        self.install(build("deb" if self.is_debian else "rpm"))
        return self

    def serve(self, **changes: Any) -> int:
        """Configure and start the agent, wait until its one endpoint is in the cluster, and return its process ID."""
        self.configure(**changes)
        self.machine.run("systemctl", "enable", "--now", "--quiet", "isthmus")
        self.consul.register("orders", "orders-1", node="node-1", address="10.0.0.1", port=8080)
        self.expect(ONE)
        return self.machine.main_pid("isthmus")

    def upgrade(self) -> Done:
        """Upgrade to the next version, and wait until what ran before runs."""
        is_active = self.machine.show("isthmus", "ActiveState")["ActiveState"] == "active"
        done = self.install(build_next("deb"), *KEEP) if self.is_debian else self.install(build_next("rpm"))
        if is_active:
            self.machine.wait_for_unit("isthmus")
        return done

    def still_works(self) -> None:
        """See a call of a handler be answered, and changes in Consul arrive in the cluster."""
        assert self.call("services").stderr == ""
        self.consul.register("orders", "orders-2", node="node-1", address="10.0.0.2", port=8080)
        self.expect(ONE, TWO)
        self.consul.set_status("orders-2", "critical", node="node-1")
        self.expect(ONE)

    @property
    def is_debian(self) -> bool:
        """Whether dpkg installs here, and not rpm."""
        return self.machine.system.name != "el8"

    def versions(self) -> tuple[str, str]:
        """Return the version that is installed, with dpkg's two letters for its state, and the one that runs."""
        shown = self.machine.run("dpkg-query", "--show", "--showformat=${Version} ${db:Status-Abbrev}", "isthmus")
        return shown.stdout.strip(), self.status()["version"]
