"""Every command line of the documents, run against real servers in the order in which a reader would."""

import os
import sys
from pathlib import Path

import pytest

from tests.testbed.apiserver import MakeApiServer
from tests.testbed.consul import Consul
from tests.testbed.documents import blocks, follow

ROOT = Path(__file__).parents[2]
NEEDS_CLUSTER = "kubectl"


def documents() -> list[Path]:
    """Return every document for users that has a command line."""
    found = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/performance/*.md")]
    return sorted(path for path in found if any(block.language == "sh" for block in blocks(path.read_text())))


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_a_document_can_be_followed(path: Path, consul: Consul, make_api_server: MakeApiServer, tmp_path: Path) -> None:
    document = path.read_text()
    home = tmp_path / "fresh"
    (home / ".kube").mkdir(parents=True)
    if NEEDS_CLUSTER in document:
        server = make_api_server()
        kubeconfig = server.kubeconfig(server.admin_token).read_text()
        (home / ".kube" / "config").write_text(kubeconfig.replace('"testbed"', '"east"'))
    binaries = Path(sys.executable).parent
    environment = {"HOME": str(home), "PATH": f"{binaries}:{os.environ['PATH']}"}
    follow(document, home, environment, {"127.0.0.1:8500": consul.url.removeprefix("http://")})
