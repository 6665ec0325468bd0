"""One cluster is away for a while: the other does not notice, and it catches up with just what changed meanwhile."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from tests.integration.agents import RunningAgent, configuration, served_by
from tests.integration.history import RULES
from tests.integration.stage import Stage, witnesses_of
from tests.testbed.apiserver import ApiServer, MakeApiServer
from tests.testbed.consul import Consul

SEED = 20260731
IN_FLIGHT = 8
MOVES = 8  # while the second cluster is away
LIMITS = {
    "empty_grace": "300ms",
    "service_entry_grace": "500ms",
    "busy_spacing": "100ms",
    "pass_spacing": "200ms",
    "connect_timeout": "1s",
    "read_timeout": "1s",
    "write_timeout": "1s",
    "backoff": ["200ms", "500ms", "1s"],
}


@contextmanager
def away(
    stage: Stage, leave: Callable[[], None], come_back: Callable[[], None], *, frozen: bool = False
) -> Iterator[None]:
    """Let the second cluster be away; it catches up afterwards, and no object that needs no change is touched."""
    before, events = stage.wanted["west"], len(stage.witnesses[1].events)
    leave()
    stage.away = {"west"}
    yield
    stage.away = set()
    come_back()
    stage.settle(30)
    changed = {
        key for key in before.keys() | stage.wanted["west"].keys() if before.get(key) != stage.wanted["west"].get(key)
    }
    written = Counter((event.kind, event.name) for event in stage.witnesses[1].events[events:])
    if not frozen:
        assert written == Counter(changed), stage.where
        return
    # What was in flight when the server froze is carried out when it thaws, whatever has become of it meanwhile.
    assert written.keys() >= changed, stage.where
    assert sum((written - Counter(changed)).values()) <= IN_FLIGHT, stage.where


def test_a_cluster_that_is_away_holds_nobody_up_and_catches_up_with_the_net_changes(
    api_server: ApiServer, make_api_server: MakeApiServer, namespace: str, consul: Consul, tmp_path: Path
) -> None:
    servers = {"east": api_server, "west": make_api_server()}
    west = servers["west"]
    west.create_namespace(namespace)
    west.grant(namespace)
    clusters = {name: served_by(server, namespace) for name, server in servers.items()}
    config = configuration(consul, clusters, rules=RULES, limits=LIMITS)
    west.stop()  # down before the agent has ever seen it
    with witnesses_of(servers, namespace) as witnesses, RunningAgent(tmp_path / "agent", config) as agent:
        stage = Stage(consul, SEED, witnesses)
        stage.wanted["west"] = {}
        with away(stage, lambda: None, west.start):
            stage.settle(20)
            play(stage)
        with away(stage, west.kill, west.start):
            play(stage)
        with away(stage, west.pause, west.resume, frozen=True):
            play(stage)
        agent.look_again(consul)
        stage.settle(0)
        assert agent.status_command()["clusters"]["east"]["error"] == ""
        west.pause()
        stage.away = {"west"}
        play(stage)
        agent.stop()  # also with writes that nobody answers
        agent.start()  # also when nobody answers the first read
        play(stage)
        west.resume()
        stage.away = set()
        stage.settle(30)
    assert median(stage.lags[True]) < 0.3
    assert max(stage.lags[True]) < 3.0
    assert median(stage.lags[False]) < 1.5


def play(stage: Stage) -> None:
    """Make some moves, each of which must be in the first cluster at once."""
    for _ in range(MOVES):
        stage.move_and_settle()
