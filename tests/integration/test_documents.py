"""Every command line of the documents, run against real servers in the order in which a reader would."""

import os
import sys
from pathlib import Path

import pytest

from tests.testbed.apiserver import MakeApiServer
from tests.testbed.build import Binaries
from tests.testbed.consul import MakeConsul
from tests.testbed.documents import blocks, follow
from tests.testbed.eureka import MakeEureka
from tests.testbed.processes import free_port

ROOT = Path(__file__).parents[2]
NEEDS_CLUSTER, NEEDS_ACL = "kubectl", "consul acl"
EUREKA = "127.0.0.1:8761"  # of a server as it is by default


def documents() -> list[Path]:
    """Return every document for users that has a command line.

    That of the packages, and the README's part on them, are followed on machines: `tests/packages/test_documents.py`.
    """
    found = [*sorted(set(ROOT.glob("docs/*.md")) - {ROOT / "docs" / "install.md"}), ROOT / "README.md"]
    return [path for path in found if any(block.language == "sh" for block in blocks(path.read_text()))]


def text_of(path: Path) -> str:
    """Return what a reader follows: of the README, not the commands for whoever builds isthmus."""
    text = path.read_text()
    if path.name != "README.md":
        return text
    begin, end = text.index("## Five minutes"), text.index("## For good")
    assert "```sh" not in text[end:]
    return text[begin:end]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_a_document_can_be_followed(
    path: Path,
    testbed: Binaries,
    make_consul: MakeConsul,
    make_eureka: MakeEureka,
    make_api_server: MakeApiServer,
    tmp_path: Path,
) -> None:
    document = text_of(path)
    consul = make_consul(acl=NEEDS_ACL in document)
    home = tmp_path / "fresh"
    (home / ".kube").mkdir(parents=True)
    replaced = {
        "127.0.0.1:8500": consul.url.removeprefix("http://"),
        "127.0.0.1:9411": f"127.0.0.1:{free_port()}",
        "127.0.0.1:9412": f"127.0.0.1:{free_port()}",
        "/etc/consul.d": str(consul.drop_in),
    }
    if EUREKA in document:
        replaced[EUREKA] = make_eureka(cache=True).url.removeprefix("http://").removesuffix("/eureka")
    if NEEDS_CLUSTER in document:
        server = make_api_server()
        replaced["https://127.0.0.1:6443"] = server.url
        kubeconfig = server.kubeconfig(server.admin_token).read_text()
        (home / ".kube" / "config").write_text(kubeconfig.replace('"testbed"', '"east"'))
    environment = {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(testbed.consul.parent), os.environ["PATH"]]),
        "CONSUL_HTTP_ADDR": consul.url,
        "CONSUL_HTTP_TOKEN": consul.token,
    }
    follow(document, home, environment, replaced)
