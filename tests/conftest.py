"""The servers that tests talk to: real ones, started here, and ended here whatever happens.

The API servers live as long as the session, and each test gets a namespace of its own in them; a test that stops, kills
or pauses one asks for its own by `make_api_server`. A Consul starts within a second: each test has its own.
"""

import itertools
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.testbed.apiserver import ApiServer, MakeApiServer
from tests.testbed.build import Binaries, binaries
from tests.testbed.consul import Config, Consul, MakeConsul
from tests.testbed.pki import Authority

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo the level that a command set for its log: it would hide from later tests what is logged."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.fixture(scope="session")
def testbed() -> Binaries:
    """Where the real servers are."""
    return binaries()


@pytest.fixture
def make_consul(testbed: Binaries, tmp_path: Path) -> Iterator[MakeConsul]:
    """Start as many Consul servers as a test wants."""
    with ExitStack() as running:

        def make(
            *,
            dev: bool = True,
            datacenter: str = "dc1",
            config: Config | None = None,
            acl: bool = False,
            tls: bool = False,
        ) -> Consul:
            folder = tmp_path / f"consul-{next(_numbers)}"
            authority = Authority(folder / "pki") if tls else None
            consul = Consul(
                testbed.consul, folder, dev=dev, datacenter=datacenter, config=config, acl=acl, authority=authority
            )
            running.callback(consul.close)
            return consul.start()

        yield make


@pytest.fixture
def consul(make_consul: MakeConsul) -> Consul:
    """One Consul server of the test's own, empty, in memory."""
    return make_consul()


@pytest.fixture(scope="session")
def api_server(testbed: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The API server of the session: to be used in the test's `namespace`, never stopped."""
    with ApiServer(testbed, tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture(scope="session")
def two_api_servers(
    testbed: Binaries, api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ApiServer, ApiServer]]:
    """The API server of the session and another that knows nothing of it."""
    with ApiServer(testbed, tmp_path_factory.mktemp("apiserver")) as server:
        yield api_server, server


@pytest.fixture
def make_api_server(testbed: Binaries, tmp_path: Path) -> Iterator[MakeApiServer]:
    """Start API servers, with further flags, that the test may break."""
    with ExitStack() as running:

        def make(*flags: str) -> ApiServer:
            return running.enter_context(ApiServer(testbed, tmp_path / f"apiserver-{next(_numbers)}", *flags))

        yield make


@pytest.fixture
def namespace(request: pytest.FixtureRequest, api_server: ApiServer) -> str:
    """A namespace that is the test's own, in which isthmus may write, on each API server of the session in use."""
    name = f"test-{next(_numbers)}"
    servers = request.getfixturevalue("two_api_servers") if "two_api_servers" in request.fixturenames else (api_server,)
    for server in servers:
        server.create_namespace(name)
        server.grant(name)
    return name
