"""Machines for tests of the packages: ended with the test, and asked for their journals when it fails."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from tests.packages.machine import Machine, MachineError
from tests.packages.roots import ROOTS
from tests.packages.serving import Serving
from tests.testbed.apiserver import ApiServer
from tests.testbed.build import Binaries

_machines: list[Machine] = []


class MakeMachine(Protocol):
    """Copies a root folder for the test, and boots it unless it is to be off."""

    def __call__(self, root: str, *, on: bool = True) -> Machine: ...


class MakeServing(Protocol):
    """Installs isthmus on a machine with a Consul, and leaves the rest to the test."""

    def __call__(self, root: str) -> Serving: ...


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what its machines logged; they still run then."""
    report = yield
    for machine in _machines if report.failed and report.when == "call" else ():
        try:
            report.sections.append((f"journal of {machine.name}", machine.journal("", "--lines=200")))
        except (MachineError, OSError) as error:
            report.sections.append((f"journal of {machine.name}", str(error)))
    return report


@contextmanager
def machines(folder: Path) -> Iterator[MakeMachine]:
    """Make machines that end with the block."""
    with ExitStack() as running:

        def make(root: str, *, on: bool = True) -> Machine:
            machine = Machine(ROOTS[root], folder)
            running.callback(machine.close)
            _machines.append(machine)
            running.callback(_machines.remove, machine)
            machine.open()
            return machine.boot() if on else machine

        yield make


@pytest.fixture
def make_machine(tmp_path: Path) -> Iterator[MakeMachine]:
    """Give a test as many machines as it wants, each of a root folder by its name."""
    with machines(tmp_path) as make:
        yield make


@pytest.fixture
def el8(make_machine: MakeMachine) -> Machine:
    """A machine with rpm and dnf, without dpkg, on which a package claims what RHEL 8 provides."""
    return make_machine("el8")


@pytest.fixture
def make_serving(make_machine: MakeMachine, api_server: ApiServer, namespace: str, testbed: Binaries) -> MakeServing:
    """Give a test installations of this version, each beside a Consul that logs every call of a handler."""
    return lambda root: Serving(make_machine(root), api_server, namespace).prepare(testbed.consul)
