"""How an upgrade under load is felt: `python -m tests.packages.upgrade_lag` measures it on a Debian 12, or on `el8`."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.packages.load import make_busy, upgrade_under_load
from tests.packages.machine import Machine
from tests.packages.roots import ROOTS
from tests.packages.serving import Serving
from tests.testbed.apiserver import ApiServer
from tests.testbed.build import binaries

NAMESPACE = "legacy"


def main() -> int:
    """Upgrade once under load, and print what calls and endpoints had of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.packages.upgrade_lag", description=main.__doc__)
    parser.add_argument("root", nargs="?", default="bookworm", choices=sorted(ROOTS), metavar="ROOT")
    root = ROOTS[parser.parse_args().root]
    testbed = binaries()
    with ExitStack() as running:
        folder = Path(running.enter_context(TemporaryDirectory(prefix="isthmus-upgrade-")))
        server = running.enter_context(ApiServer(testbed, folder / "apiserver"))
        server.create_namespace(NAMESPACE)
        server.grant(NAMESPACE)
        machine = running.enter_context(Machine(root, folder))
        site = Serving(machine, server, NAMESPACE).prepare(testbed.consul)
        site.serve()
        make_busy(site)
        with server.record(NAMESPACE) as recorder:
            print(f"{root.name}: {upgrade_under_load(site, recorder, site.upgrade)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
