"""The README's first steps and the page on the packages, followed to the letter by root on a fresh machine."""

from pathlib import Path

import pytest

from tests.packages.built import build
from tests.packages.conftest import MakeMachine
from tests.packages.consul import wait_for_consul
from tests.packages.machine import Machine
from tests.packages.site import HOOK_SOCKET, Installation
from tests.testbed.apiserver import ApiServer
from tests.testbed.build import Binaries
from tests.testbed.consul_api import ConsulApi
from tests.testbed.documents import Block, blocks, compare, script
from tests.testbed.processes import wait_until

ROOT = Path(__file__).parents[2]
HOME = "/root"


def first_steps() -> list[Block]:
    """Return what the README tells to do with a package."""
    text = (ROOT / "README.md").read_text()
    begin, end = text.index("## Install"), text.index("## Five minutes")
    return [block for block in blocks(text[begin:end]) if block.language in ("sh", "yaml")]


def follow(machine: Machine, found: list[Block], **replaced: str) -> None:
    """Run all of it in root's home as one script, as `follow` of the other documents does on this host."""
    text = script(found)
    for old, new in replaced.items():
        text = text.replace(f"{old}: legacy", f"{old}: {new}")
    done = machine.run("bash", "-c", f"exec 2>&1\ncd {HOME}\n{text}", check=False)
    assert done.code == 0, f"ended with {done.code}:\n{done.stdout}"
    compare(found, done.stdout)


@pytest.fixture
def installation(make_machine: MakeMachine, api_server: ApiServer, namespace: str) -> Installation:
    """A machine with what the README expects in the folder: the package, and a kubeconfig."""
    made = Installation(make_machine("bookworm"), api_server, namespace)
    package = build("deb")
    made.machine.write(f"{HOME}/{package.name}", package)
    made.machine.write(f"{HOME}/east.kubeconfig", made.kubeconfig(), mode=0o600)
    return made


def test_the_documents_on_packages_can_be_followed(installation: Installation, testbed: Binaries) -> None:
    machine = installation.machine
    consul: ConsulApi = installation.start_consul(testbed.consul)
    consul.register("orders", "orders-1", node="node-1", address="10.0.0.1", port=8080)
    follow(machine, first_steps(), namespace=installation.namespace)
    installation.expect("10.0.0.1:8080")
    wait_for_consul(consul)
    before = installation.heard()
    consul.register("billing", "billing-1", node="node-1", address="10.0.0.2", port=8080)
    installation.expect("10.0.0.1:8080", "10.0.0.2:8080")
    wait_until(lambda: installation.heard() > before, "Consul has called")
    text = (ROOT / "docs" / "install.md").read_text()
    follow(machine, [block for block in blocks(text) if block.language == "sh"])
    machine.wait_for_unit("isthmus")
    assert machine.stat(HOOK_SOCKET) == "660 root:isthmus-hook"
