"""The servers that tests talk to: real ones, started here, and ended here whatever happens.

The API servers live as long as the session, and each test gets a namespace of its own in them; a test that stops, kills
or pauses one asks for its own by `make_api_server`. A Consul starts within a second: each test has its own. A Eureka
takes several: those of the session are emptied after each test, and one to be broken comes from `make_eureka`.
"""

import itertools
import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.testbed.apiserver import ApiServer, MakeApiServer
from tests.testbed.build import Binaries, binaries
from tests.testbed.consul import Config, Consul, MakeConsul
from tests.testbed.eureka import (
    Eureka,
    MakeEureka,
    MakeEurekaPeers,
    Value,
    server_properties,
    start_together,
    two_peers,
)
from tests.testbed.pki import Authority

_numbers = itertools.count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let what a test printed travel between processes: a lone surrogate, which some tests log, cannot."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


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
def eureka_server(testbed: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Eureka]:
    """The Eureka server of the session without a read-only cache; tests ask for `eureka`."""
    with Eureka(tmp_path_factory.mktemp("eureka"), jar=testbed.eureka) as server:
        yield server


@pytest.fixture
def eureka(eureka_server: Eureka) -> Iterator[Eureka]:
    """The Eureka server of the session, empty, without a read-only cache; its deltas still tell of earlier tests."""
    yield eureka_server
    eureka_server.cancel_all()


@pytest.fixture(scope="session")
def cached_eureka_server(testbed: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Eureka]:
    """The Eureka server of the session as it is by default; tests ask for `cached_eureka`."""
    with Eureka(tmp_path_factory.mktemp("cached-eureka"), jar=testbed.eureka, cache=True) as server:
        yield server


@pytest.fixture
def cached_eureka(cached_eureka_server: Eureka) -> Iterator[Eureka]:
    """The Eureka server of the session that answers from a cache up to 30 s old, of earlier tests, too."""
    yield cached_eureka_server
    cached_eureka_server.cancel_all()


@pytest.fixture
def make_eureka(testbed: Binaries, tmp_path: Path) -> Iterator[MakeEureka]:
    """Start Eureka servers that the test may break."""
    with ExitStack() as running:

        def make(
            *,
            cache: bool = False,
            password: str = "",
            tls: bool = False,
            demand_certificate: bool = False,
            heap: str = "256m",
            more: Mapping[str, Value] | None = None,
            **properties: Value,
        ) -> Eureka:
            folder = tmp_path / f"eureka-{next(_numbers)}"
            authority = Authority(folder / "pki") if tls else None
            server = Eureka(
                folder,
                jar=testbed.eureka,
                cache=cache,
                password=password,
                authority=authority,
                demand_certificate=demand_certificate,
                heap=heap,
                more=server_properties(properties) | dict(more or {}),
            )
            running.callback(server.close)
            return server.start()

        yield make


@pytest.fixture
def make_eureka_peers(testbed: Binaries, tmp_path: Path) -> Iterator[MakeEurekaPeers]:
    """Start two Eureka servers that replicate to each other, on 127.0.0.1 and 127.0.0.2."""
    with ExitStack() as running:

        def make(*, cache: bool = False, **properties: Value) -> tuple[Eureka, Eureka]:
            folder = tmp_path / f"eureka-peers-{next(_numbers)}"
            servers = two_peers(folder, cache=cache, jar=testbed.eureka, **properties)
            for server in servers:
                running.callback(server.close)
            start_together(*servers)
            return servers

        yield make


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
