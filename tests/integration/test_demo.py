"""The demo plays its story to the end, checks itself, and leaves nothing running."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config import load
from agent.demo import stage
from agent.demo.estate import NAMESPACE
from agent.demo.eureka import EmbeddedEureka
from agent.demo.folder import prepare
from agent.demo.play import CLUSTERS, INTERRUPTED, perform
from agent.demo.registry import EmbeddedRegistry
from agent.demo.scene import DirectoryPlace, Scene
from agent.demo.story import CHAPTERS
from tests.integration.agents import COMMAND
from tests.testbed.processes import Process, wait_until

ROOT = Path(__file__).parents[2]
PATIENCE = 400.0  # seconds, on a machine that is very busy
WRITE = re.compile(r" *[0-9.]+ s  (east|west) +([+~-]) (\S.*\S) +([0-9.]+) ms  (\S+)")


def told(command: list[str], folder: Path) -> str:
    """Play a demo to its end, which must be a good one, and return what it said."""
    done = subprocess.run(
        [*command, "--out", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def assert_whole(text: str) -> list[tuple[str, ...]]:
    """Compare what was said with the story; return the writes."""
    for number, (title, _, _) in enumerate(CHAPTERS, start=1):
        assert f"\n{number}. {title}\n" in text
    assert "\x1b" not in text
    assert "holds 67 removals" in text
    # A real Consul that was just started again may not be readable yet, which the sentence then says first.
    assert "only `isthmus accept consul-dc1` removes it" in " ".join(text.split()).lower()
    assert "every instance was seen again: 0 writes" in text
    assert "each holds 20 hosts and 65 endpoints" in text
    assert "No healthy endpoint was ever missing" in text
    writes = [match.groups() for line in text.splitlines() if (match := WRITE.fullmatch(line))]
    for name in CLUSTERS:
        assert [sign for cluster, sign, *_ in writes if cluster == name].count("+") == 12
        assert [sign for cluster, sign, *_ in writes if cluster == name].count("~") == 1 + 2 * 3
        assert [sign for cluster, sign, *_ in writes if cluster == name].count("-") == 12
    return writes


def test_the_demo_tells_its_story_and_leaves_two_directories(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    text = told([COMMAND, "demo", "--seconds", "10"], folder)
    assert "no Consul is running" in " ".join(text.split())
    for *_, place in assert_whole(text):
        assert (folder / place).is_file() or place.endswith("reports.mesh.internal.yaml")
    documents = [
        content
        for name in CLUSTERS
        for path in (folder / name).glob("*/*.yaml")
        for content in yaml.safe_load_all(path.read_text())
    ]
    assert len(documents) == 2 * (20 + 65)
    assert load(folder / "isthmus.yaml").owner == "demo"
    assert sorted(path.name for path in folder.iterdir()) == [
        "east",
        "isthmus.yaml",
        "state.db",
        "state.db-lock",
        "west",
    ]
    lines = [line for line in text.splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= 110


@pytest.mark.usefixtures("testbed")
def test_the_same_story_is_told_on_a_real_consul_and_two_real_api_servers(tmp_path: Path) -> None:
    text = told([sys.executable, "-m", "tests.testbed.demo", "--seconds", "8"], tmp_path / "demo")
    assert "A real Consul" in text
    places = {place for *_, place in assert_whole(text)}
    assert "legacy/reports.mesh.internal" in places


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    folder, log = tmp_path / "demo", tmp_path / "log"
    demo = Process("demo", (COMMAND, "demo", "--seconds", "300", "--out", str(folder)), log)
    try:
        demo.start(lambda: "endpoints, the first after" in (log.read_text() if log.exists() else ""), 120)
        assert (folder / "control.sock").exists()
        demo.signal(number)
        wait_until(lambda: not demo.is_alive(), "the demo has ended", 60)
        assert demo.exit_code == INTERRUPTED
        assert log.read_text().endswith("Interrupted. Nothing is left running.\n")
        assert not (folder / "control.sock").exists()
    finally:
        demo.kill()


class Forgetful(EmbeddedRegistry):
    """Loses a healthy instance when it is told of another one's health."""

    def set_status(self, node: str, id_: str, status: str, output: str = "") -> float:
        """Do more than was asked for."""
        if status == "critical":
            self.deregister("node-a4", "pricing-1")
        return super().set_status(node, id_, status, output)


class Blind(DirectoryPlace):
    """Does not see one host."""

    def objects(self) -> Iterable[Mapping[str, Any]]:
        """Leave out what it does not see."""
        return [one for one in super().objects() if one["metadata"]["name"] != "fraud.mesh.internal"]


def performed(folder: Path, registry: EmbeddedRegistry, place: type[DirectoryPlace]) -> int:
    prepare(folder, CLUSTERS)
    with registry, EmbeddedEureka() as eureka:
        clusters = [place(name, folder / name, Path(name), NAMESPACE) for name in CLUSTERS]
        scene = Scene(
            registry=registry,
            registry_words="A",
            eureka=eureka,
            eureka_words="B",
            clusters=clusters,
            clusters_words="C",
            lag_words="D",
        )
        return perform(folder, 1, scene)


def test_a_healthy_endpoint_that_goes_missing_fails_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage, "PATIENCE", 15.0)
    assert performed(tmp_path, Forgetful(), DirectoryPlace) == 1
    said = capsys.readouterr().out
    assert "After 15 s it is still not so that every cluster holds what the data centre runs." in said
    assert "east: shop pricing.shop.internal 10.20.1.14:8050 was deleted while it was healthy" in said
    assert "west lacks shop/pricing.shop.internal 10.20.1.14:8050" in said


def test_a_cluster_that_is_not_as_the_agent_says_fails_the_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert performed(tmp_path, EmbeddedRegistry(), Blind) == 1
    assert "east lacks legacy/fraud.mesh.internal itself (port 80 GRPC)" in capsys.readouterr().out
