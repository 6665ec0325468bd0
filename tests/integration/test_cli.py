"""The real command in processes of its own, beside the embedded registry and directories."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.demo.registry import EmbeddedRegistry, Trouble
from agent.holds import deletions_name
from tests.dc import LIMITS, REGISTRY, configuration, empty, fill, objects
from tests.testbed.processes import Process, wait_until

COMMAND = (sys.executable, "-W", "error", str(Path(sys.executable).with_name("isthmus")))
OBJECTS = 15  # 12 WorkloadEntries, and a ServiceEntry for each of 3 services


class Site:
    """A folder with a configuration, in which the command is run."""

    def __init__(self, folder: Path, registry: EmbeddedRegistry) -> None:
        self.folder = folder
        self.registry = registry
        self.configure()

    def configure(self, **changes: Any) -> None:
        content = configuration(self.registry.url, **changes)
        (self.folder / "isthmus.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command, which must end with a code; what it prints never shows a traceback."""
        done = subprocess.run(
            [*COMMAND, *arguments, "--config", "isthmus.yaml"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "-o", "json", code=code).stdout)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Process]:
        """Run an agent that has caught up; it must end with 0 on SIGTERM."""
        process = Process(
            "isthmus",
            [*COMMAND, "--config", str(self.folder / "isthmus.yaml"), "run", *arguments],
            self.folder / "isthmus.log",
        )
        caught_up = self.log.count("caught up") + 2
        process.start(lambda: self.log.count("caught up") >= caught_up)
        try:
            yield process
            if process.is_alive():
                process.signal(signal.SIGTERM)
                wait_until(lambda: not process.is_alive(), "the agent has ended", 15)
            assert process.exit_code == 0, process.last_words()
        finally:
            process.kill()

    @property
    def log(self) -> str:
        file = self.folder / "isthmus.log"
        return file.read_text() if file.exists() else ""

    def wipe(self) -> None:
        self.registry.wipe()
        empty(self.registry)

    def wait_for_holds(self, number: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.json("holds")["holds"]) == number, f"{number} removals wait")
        found: list[dict[str, Any]] = self.json("holds")["holds"]
        return found


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    with EmbeddedRegistry() as registry:
        fill(registry)
        yield registry


@pytest.fixture
def site(tmp_path: Path, registry: EmbeddedRegistry) -> Site:
    return Site(tmp_path, registry)


# once and plan


def test_once_brings_every_cluster_up_to_date_and_then_has_nothing_to_do(site: Site) -> None:
    assert site("once").stdout == "east: 15 objects, 15 writes\nwest: 15 objects, 15 writes\n"
    assert len(objects(site.folder / "east")) == OBJECTS
    assert objects(site.folder / "east") == objects(site.folder / "west")
    assert site("once").stdout == "east: 15 objects, 0 writes\nwest: 15 objects, 0 writes\n"
    answer = site.json("once")
    assert (answer["failures"], answer["held"]) == ([], 0)
    assert answer["clusters"]["east"]["objects"] == OBJECTS


def test_plan_shows_what_once_would_do_and_writes_nothing(site: Site) -> None:
    before = sorted(site.folder.iterdir())
    lines = site("plan").stdout.splitlines()
    assert sorted(site.folder.iterdir()) == before
    assert "+ east ServiceEntry legacy/orders.mesh.internal  (new host)" in lines
    assert len([line for line in lines if line.startswith("+ west WorkloadEntry legacy/web-10.2.0.")]) == 6
    assert lines[-3:] == [
        "east: 15 to create, 0 to update, 0 to delete",
        "west: 15 to create, 0 to update, 0 to delete",
        "30 to create, 0 to update, 0 to delete",
    ]
    site("plan", "--detailed-exitcode", code=3)
    site("once")
    assert site("plan", "--detailed-exitcode").stdout.splitlines()[-1] == "0 to create, 0 to update, 0 to delete"


def test_plan_tells_a_program_what_would_change_and_why(site: Site) -> None:
    site("once")
    site.registry.deregister("node-2", "web-1")
    site.registry.register("orders", "orders-1", "node-2", 8080, address="10.1.0.1", meta={"version": "v2"})
    answer = site.json("plan", "--detailed-exitcode", code=3)
    assert answer["totals"] == {"create": 0, "update": 2, "delete": 2}
    east = [change for change in answer["changes"] if change["cluster"] == "east"]
    assert [(change["action"], change["kind"], change["namespace"]) for change in east] == [
        ("update", "WorkloadEntry", "legacy"),
        ("delete", "WorkloadEntry", "legacy"),
    ]
    assert "label service.istio.io/canonical-revision: none -> v2" in east[0]["why"]
    assert (answer["held"], answer["failures"]) == ([], [])
    text = site("plan").stdout
    assert "~ east WorkloadEntry legacy/orders-10.1.0.1-8080-" in text
    assert "- west WorkloadEntry legacy/web-10.2.0.1-8080-" in text


def test_a_registry_that_cannot_be_read_ends_with_1_and_removes_nothing(site: Site) -> None:
    site("once")
    site.registry.trouble("*", Trouble.ERROR)
    for verb in ("once", "plan"):
        assert "registry consul-dc1: /v1/" in site(verb, code=1).stderr
        assert site.json(verb, code=1)["failures"]
    assert len(objects(site.folder / "east")) == OBJECTS


def test_a_cluster_that_cannot_be_read_ends_with_1_and_stops_no_other(site: Site) -> None:
    (site.folder / "east").write_text("no folder")
    assert "cluster east" in site("plan", code=1).stderr
    done = site("once", code=1)
    assert done.stdout == "east: could not be read\nwest: 15 objects, 15 writes\n"
    assert "cluster east" in done.stderr


# holds and accept without an agent


def test_what_the_guard_holds_ends_with_12_and_is_kept_until_accepted(site: Site) -> None:
    site("once")
    site.wipe()
    assert "consul-dc1: 12 removals held" in site("plan", code=12).stdout
    done = site("once", code=12)
    assert done.stdout == "east: 15 objects, 0 writes\nwest: 15 objects, 0 writes\n"
    assert done.stderr == "12 removals held: see `isthmus holds`\n"
    rows = site.json("holds")["holds"]
    assert {row["reason"] for row in rows} == {"hold"}
    text = site("holds").stdout
    assert "This is what" in text
    assert rows[0]["hold"] in text
    assert "Only `isthmus accept consul-dc1` removes it" in text

    done = site("accept", REGISTRY, code=2)
    assert rows[0]["hold"] in done.stdout
    assert "Nobody can be asked: standard input is no terminal." in done.stderr
    assert len(objects(site.folder / "east")) == OBJECTS
    done = site("accept", REGISTRY, "12345678", "--yes", code=2)
    assert rows[0]["hold"] in done.stderr
    site("accept", REGISTRY, rows[0]["hold"], "--yes", code=12)
    assert len(site.json("holds")["holds"]) == 11
    assert len(objects(site.folder / "east")) == OBJECTS - 1
    site("accept", REGISTRY, "--yes", "-o", "json")
    wait_until(lambda: not site.json("once")["held"] and len(objects(site.folder / "east")) == 3, "grace is over")
    assert site("accept", REGISTRY).stdout == "Nothing of consul-dc1 is held.\n"
    assert site.json("accept", "east", "12345678") == {"accepted": 0, "still_held": 0}


def test_a_change_of_configuration_withholds_deletions_of_what_is_listed(site: Site) -> None:
    site("once")
    site.configure(domain="other.internal")
    hold = deletions_name("east")
    text = site("plan", code=12).stdout
    assert f"east: 12 deletions withheld (hold {hold})" in text
    done = site("once", code=12)
    assert "east: 30 objects, 15 writes, 12 deletions withheld" in done.stdout
    assert "WorkloadEntry legacy/orders-10.1.0.1-8080-" in site("accept", "east", code=2).stdout
    site("accept", "east", "wrong", "--yes", code=2)
    done = site("accept", "east", "--yes", code=12)  # west still withholds
    assert "east: 18 objects, 12 writes" in done.stdout
    site("accept", "west", deletions_name("west"), "--yes")
    site("once")


# export


def test_export_prints_what_once_writes(site: Site) -> None:
    site("once")
    documents = list(yaml.safe_load_all(site("export", "west").stdout))
    there = objects(site.folder / "west")
    assert {(d["kind"], d["metadata"]["name"]): d for d in documents} == there
    assert len(documents) == OBJECTS
    assert site.json("export", "west")["items"] == documents


def test_export_needs_no_cluster_and_leaves_nothing_behind(site: Site) -> None:
    site.configure(clusters={"east": {"kubeconfig": "nowhere", "namespace": "legacy"}})
    before = sorted(site.folder.iterdir())
    assert len(list(yaml.safe_load_all(site("export").stdout))) == OBJECTS
    assert sorted(site.folder.iterdir()) == before


def test_export_prints_all_or_nothing_when_a_registry_cannot_be_read(site: Site) -> None:
    site.registry.trouble("*", Trouble.ERROR)
    assert site("export", "east", code=1).stdout == ""
    site.registry.mend()
    site("once")
    site.registry.trouble("*", Trouble.ERROR)
    assert len(list(yaml.safe_load_all(site("export", "east", code=1).stdout))) == OBJECTS


def test_export_marks_what_is_only_kept(site: Site) -> None:
    site("once")
    site.wipe()
    done = site("export", "east", code=12)
    assert done.stdout.count("# Kept where it is: its removal waits.\n") == 14  # and two hosts
    assert len(list(yaml.safe_load_all(done.stdout))) == 14
    assert done.stderr == "12 removals held: see `isthmus plan`\n"


# run, and the verbs that ask it


def test_a_running_agent_is_asked_for_its_status(site: Site) -> None:
    with site.running():
        report = site.json("status")
        assert (report["running"], report["registries"][REGISTRY]["state"]) == (True, "ok")
        assert report["clusters"]["east"]["objects"] == OBJECTS
        text = site("status").stdout
        assert "owner dc1" in text
        assert "lost/node-1/lost-1: " in text
        assert site("holds").stdout == "Nothing waits.\n"
    assert not (site.folder / "control.sock").exists()
    text = site("status").stdout
    assert "No such file or directory. This is what" in text
    assert "not running" in text


def test_a_running_agent_accepts_what_it_holds(site: Site) -> None:
    with site.running():
        site.wipe()
        rows = site.wait_for_holds(12)
        assert "12 removals held" in site("holds").stdout
        done = site("accept", REGISTRY, code=2)
        assert rows[0]["hold"] in done.stdout
        site("accept", REGISTRY, "12345678", "--yes", code=2)
        done = site("accept", REGISTRY, rows[0]["hold"], "--yes")
        assert done.stdout.endswith("consul-dc1: 1 removal accepted.\n")
        assert site.json("accept", REGISTRY, "--yes") == {"accepted": 11, "still_held": 0}
        assert site("accept", REGISTRY, "--yes").stdout == "Nothing of consul-dc1 is held.\n"
        wait_until(lambda: len(objects(site.folder / "west")) == 3, "the accepted ones are gone")


def test_a_running_agent_pauses_a_cluster_and_goes_on_with_it(site: Site) -> None:
    with site.running():
        assert site.json("pause", "east") == {"paused": True, "pending": 0, "writing": 0, "running": True}
        site.registry.register("orders", "orders-9", "node-1", 8080, address="10.1.0.9")
        wait_until(lambda: len(objects(site.folder / "west")) == OBJECTS + 1, "west has it")
        wait_until(lambda: site.json("status")["clusters"]["east"]["pending"] == 1, "it waits for east")
        text = site("pause", "east").stdout
        assert text == "east is paused: nothing is written to it until `isthmus resume east`, 1 change waiting.\n"
        assert site.json("status")["clusters"]["east"]["state"] == "paused"
        assert len(objects(site.folder / "east")) == OBJECTS
        assert site("resume", "east").stdout.startswith("east is resumed")
        wait_until(lambda: len(objects(site.folder / "east")) == OBJECTS + 1, "east has it, too")
    assert site.json("resume", "east") == {"paused": False, "running": False}


def test_without_an_agent_a_pause_is_remembered_for_the_next(site: Site) -> None:
    text = site("pause", "east").stdout
    assert text == (
        "east is paused: no agent runs, and the next one writes nothing to it until `isthmus resume east`.\n"
    )
    done = site("plan")
    assert "east: 0 to create" in done.stdout
    assert done.stderr == "east is paused: 15 changes would wait.\n"
    assert site.json("plan")["paused"] == {"east": 15}
    assert site("once").stdout == "east: 0 objects, 0 writes, paused, 15 waiting\nwest: 15 objects, 15 writes\n"
    assert site.json("status")["clusters"]["east"]["paused"] is True
    with site.running():
        assert site.json("status")["clusters"]["east"]["pending"] == OBJECTS
    assert site("resume", "east").stdout == "east is resumed: the next agent writes to it.\n"
    assert site("once").stdout == "east: 15 objects, 15 writes\nwest: 15 objects, 0 writes\n"


def test_a_pause_that_cannot_be_had_is_told_why(site: Site) -> None:
    assert "There is no cluster 'north'. Known are: east, west" in site("pause", "north", code=2).stderr
    with site.running():
        site.configure(control="elsewhere.sock")
        done = site("pause", "east", code=11)
        assert "no agent answers at" in done.stderr
        assert "another isthmus is using it" in done.stderr
        site.configure(clusters={"north": {"directory": "north", "namespace": "legacy"}})
        assert "there is no cluster 'north'; known are: east, west" in site("pause", "north", code=2).stderr
        assert site.json("status")["clusters"].keys() == {"east", "west"}
    site.configure(owner="dc2")
    assert "isthmus adopt CLUSTER --owner dc1" in site("pause", "east", code=10).stderr


def test_a_cluster_that_the_configuration_pauses_stays_so(site: Site) -> None:
    east, west = ({"directory": name, "namespace": "legacy"} for name in ("east", "west"))
    site.configure(clusters={"east": {**east, "policy": "paused"}, "west": west})
    with site.running():
        assert "its policy in the configuration is paused" in site("resume", "east").stdout
        assert site.json("status")["clusters"]["east"]["pending"] == OBJECTS
    assert not (site.folder / "east").exists()


def test_a_directory_is_purged_and_adopted_like_any_cluster(site: Site) -> None:
    site("once")
    site.configure(owner="dc2")
    assert "15 objects of dc1 taken over. The state file stays dc1's until west" in (
        site("adopt", "east", "--owner", "dc1", "--yes").stdout
    )
    assert site.json("adopt", "west", "--owner", "dc1", "--yes")["objects"] == OBJECTS
    assert site("once").stdout == "east: 15 objects, 0 writes\nwest: 15 objects, 0 writes\n"
    site.configure(owner="dc1", state="another.db", control="another.sock")
    assert site.json("purge", "west", "--owner", "dc2", "--yes")["objects"] == OBJECTS
    assert objects(site.folder / "west") == {}
    assert len(objects(site.folder / "east")) == OBJECTS


def test_a_cluster_that_left_the_configuration_is_not_touched_and_the_log_names_what_cleans_it(site: Site) -> None:
    site("once")
    site.configure(clusters={"east": {"directory": "east", "namespace": "legacy"}}, domain="other.internal")
    agent = Process("isthmus", [*COMMAND, "--config", str(site.folder / "isthmus.yaml"), "run"], site.folder / "log")
    agent.start(lambda: "caught up" in agent.last_words())
    assert "cluster west is not in the configuration any more: what was written to it stays" in agent.last_words()
    assert "`isthmus purge west --owner dc1`" in agent.last_words()
    agent.kill()
    assert len(objects(site.folder / "west")) == OBJECTS
    site.configure()
    site("pause", "west")
    assert site.json("purge", "west", "--owner", "dc1", "--yes")["objects"] == OBJECTS


def test_a_running_agent_carries_out_deletions_that_are_accepted(site: Site) -> None:
    site("once")
    site.configure(domain="other.internal")
    with site.running():
        site.wait_for_holds(2)
        assert site.json("accept", "west", deletions_name("west"), "--yes") == {"accepted": 12, "still_held": 0}
        wait_until(lambda: len(objects(site.folder / "west")) == 18, "west has let go")
        assert len(objects(site.folder / "east")) == 30


def test_beside_a_running_agent_once_is_refused_and_plan_is_not(site: Site) -> None:
    with site.running():
        assert site("once", code=11).stderr == (f"state file {site.folder / 'state.db'}: another isthmus is using it\n")
        assert site("plan").stdout.splitlines()[-1] == "0 to create, 0 to update, 0 to delete"
        assert "another isthmus is using it" in site("run", code=11).stderr
        site.configure(control="elsewhere.sock")
        done = site("accept", REGISTRY, "--yes", code=11)
        assert "no agent answers at" in done.stderr
        assert "another isthmus is using it" in done.stderr
        assert site.json("status")["running"] is False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_agent_cleanly(site: Site, number: signal.Signals) -> None:
    with site.running() as process:
        process.signal(number)
        wait_until(lambda: not process.is_alive(), "the agent has ended", 15)
        assert process.exit_code == 0
    assert site.log.splitlines()[-1].endswith("INFO stopping")
    assert "Traceback" not in site.log


def test_an_agent_logs_json_and_as_much_as_is_asked_for(site: Site) -> None:
    with site.running("--log-format", "json", "--log-level", "debug"):
        pass
    records = [json.loads(line) for line in site.log.splitlines()]
    assert {record["level"] for record in records} <= {"debug", "info"}
    messages = [record["message"] for record in records]
    assert "cluster east: caught up: 15 objects, 15 writes" in messages
    assert any(message.startswith("cluster west: + WorkloadEntry legacy/web-10.2.0.1-8080-") for message in messages)


def test_a_second_agent_does_not_take_the_control_socket(site: Site, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    other = Site(tmp_path / "two", site.registry)
    with site.running():
        other.configure(control=str(site.folder / "control.sock"), owner="dc2")
        with other.running():
            assert "another agent answers there" in other.log
            report = other.json("status")
            assert (report["owner"], report["running"]) == ("dc2", False)
            assert "is another one: its owner is dc1" in other("status").stdout
        assert site.json("status")["running"] is True


# What a person sees


def on_a_terminal(site: Site, *arguments: str, typed: str = "") -> str:
    """Run the command on a terminal of 100 columns and return what it shows."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=site.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": "100", "LINES": "40", "TERM": "dumb", "NO_COLOR": "1"},
    ) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the terminal is closed
                break
        assert process.wait(30) == 0, shown.decode()
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def test_tables_fit_a_terminal_and_a_person_is_asked(site: Site) -> None:
    site("once")
    with site.running():
        site.wipe()
        site.wait_for_holds(12)
        arguments = ("--config", "isthmus.yaml")
        status = on_a_terminal(site, "status", *arguments)
        holds = on_a_terminal(site, "holds", *arguments)
        assert "REGISTRY" in status
        assert "CLUSTER" in status
        assert "PROOFS" in holds
        assert max(len(line.rstrip()) for line in (status + holds).splitlines()) <= 100
        refused = on_a_terminal(site, "accept", REGISTRY, *arguments, typed="n\n")
        assert "Let this go? [y/N]: " in refused
        assert "Everything stays as it is." in refused
        assert len(site.json("holds")["holds"]) == 12
        assert "12 removals accepted." in on_a_terminal(site, "accept", *arguments, REGISTRY, typed="y\n")


def test_names_from_a_registry_reach_no_terminal_unescaped(site: Site) -> None:
    site.registry.register("x\x1b[31m", "x", "node-1", 80, address="300.1.1.1")
    site("once")
    for verb in (("plan",), ("status",), ("export", "east"), ("once",)):
        assert "\x1b" not in site(*verb).stdout


def test_no_answer_shows_a_secret(site: Site) -> None:
    site.registry.token = "s3cr3t-t0ken"
    (site.folder / "token").write_text("wr0ng-t0ken\n")
    registries = {REGISTRY: {"type": "consul", "url": site.registry.url, "token_file": "token"}}
    site.configure(registries=registries)
    shown = [site(verb, code=1) for verb in ("plan", "once")] + [site("status")]
    assert "403" in shown[0].stderr
    assert not any("t0ken" in done.stdout + done.stderr for done in shown)
    (site.folder / "token").write_text("s3cr3t-t0ken\n")
    site("once")


# What is wrong


def test_wrong_usage_ends_with_2_and_a_sentence(site: Site) -> None:
    assert "No such option '--nonsense'" in site("once", "--nonsense", code=2).stderr
    assert "There are several clusters. Choose one: east, west" in site("export", code=2).stderr


def test_a_wrong_configuration_ends_with_10_and_every_problem_on_a_line(site: Site) -> None:
    site.configure(owner="a b", surprise=True, limits={**LIMITS, "sweep": "soon"})
    lines = site("run", code=10).stderr.splitlines()
    assert sorted(line.split(": ")[1] for line in lines) == ["limits.sweep", "owner", "surprise"]


def test_a_configuration_that_is_not_there_ends_with_10(site: Site) -> None:
    (site.folder / "isthmus.yaml").unlink()
    assert site("once", code=10).stderr == "isthmus.yaml: cannot be read: No such file or directory\n"


def test_the_state_of_another_owner_ends_with_10_and_advice(site: Site) -> None:
    site("once")
    site.configure(owner="dc2")
    for verb in ("run", "once", "plan", "status", "holds"):
        told = site(verb, code=10).stderr
        assert "name that owner again, or" in told
        assert "`isthmus adopt CLUSTER --owner dc1`, or move the state file aside" in told


def test_a_state_file_that_cannot_be_had_ends_with_11(site: Site) -> None:
    for verb in ("status", "holds"):
        stderr = site(verb, code=11).stderr
        assert "no agent answers at" in stderr
        assert "there is no state file" in stderr
        assert "Start an agent with `isthmus run`" in stderr
    site.configure(state="isthmus.yaml/state.db")
    for verb in ("run", "once", "status", "holds"):
        assert str(site.folder / "isthmus.yaml/state.db") in site(verb, code=11).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave what another user cannot write")
def test_reading_leaves_no_file_beside_the_state_file(site: Site) -> None:
    site("once")
    before = sorted(site.folder.iterdir())
    for verb in ("status", "holds", "plan"):
        site(verb)
    assert sorted(site.folder.iterdir()) == before
