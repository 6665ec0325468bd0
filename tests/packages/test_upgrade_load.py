"""An upgrade of an agent that is busy: nobody's call is lost, and nobody's endpoint."""

import pytest

from tests.packages.conftest import MakeServing
from tests.packages.load import make_busy, upgrade_under_load
from tests.packages.site import FILE
from tests.packages.versions import NEW_DEFAULT, NEXT, build_next
from tests.testbed.processes import wait_until


@pytest.mark.parametrize("root", ["bullseye", "bookworm", "trixie", "el8"])
def test_an_upgrade_under_load_loses_no_call_and_no_endpoint(make_serving: MakeServing, root: str) -> None:
    site = make_serving(root)
    before = site.serve()
    steady = make_busy(site)
    wait_until(lambda: set(steady) < site.entries().keys(), "the cluster has everything")
    wanted = site.machine.read(FILE)
    build_next("deb" if site.is_debian else "rpm")  # which is not to take its time under the load

    with site.api_server.record(site.namespace) as recorder:
        measured = upgrade_under_load(site, recorder, site.upgrade)
    # On a busy machine the restart may last longer than a handler waits. It says so then, and the call is heard later.
    assert set(measured.codes) <= {0, 1}
    assert measured.counted == len(measured.codes) + measured.by_consul
    assert measured.by_consul > 0
    assert measured.lost_endpoints == []
    assert site.status()["version"] == NEXT
    assert site.machine.main_pid("isthmus") != before
    # Our default has changed as well, and the operator's file stays all the same.
    assert site.machine.read(FILE) == wanted
    assert NEW_DEFAULT in site.machine.read(f"{FILE}.{'dpkg-dist' if site.is_debian else 'rpmnew'}")
    # The state was migrated.
    assert "starting as after a loss" not in site.machine.journal("isthmus")
    assert "new host" in site.machine.run("isthmus", "history", "orders.mesh.internal", user="isthmus").stdout
