"""What systemd is told of the service, against what the service does."""

from pathlib import Path

from agent.cli import VERBS
from agent.cli.exits import CONFIGURATION
from agent.cli.options import CONFIGURATION as FILE
from agent.notify import BEATS
from state.limits import Limits

TEXT = (Path(__file__).parents[2] / "agent.service").read_text()


def sections() -> dict[str, dict[str, list[str]]]:
    """Return what is set in each section, in order; a line that systemd would not understand fails."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in TEXT.splitlines():
        if line.startswith("["):
            assert line.endswith("]")
            section = found.setdefault(line[1:-1], {})
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals == "="
            assert key.isalpha(), line
            section.setdefault(key, []).append(value)
    return found


UNIT = sections()
SERVICE = UNIT["Service"]
MANY = {"ExecReload", "Environment", "SystemCallFilter"}


def seconds(value: str) -> float:
    """Return a span of time as systemd writes it."""
    return float(value[:-3]) * 60 if value.endswith("min") else float(value.removesuffix("s"))


def test_it_has_three_sections_and_sets_nothing_twice() -> None:
    assert list(UNIT) == ["Unit", "Service", "Install"]
    for section in UNIT.values():
        assert {key for key, values in section.items() if len(values) > 1} <= MANY


def test_it_runs_the_agent_on_the_default_configuration() -> None:
    (start,) = SERVICE["ExecStart"]
    _, verb = start.split()
    assert verb in VERBS
    assert SERVICE["Type"] == ["notify"]
    assert Path("/etc") / SERVICE["ConfigurationDirectory"][0] == FILE.parent


def test_a_reload_checks_before_it_tells() -> None:
    check, tell = SERVICE["ExecReload"]
    assert check.endswith(f" exec {SERVICE['ExecStart'][0].split()[0]} check --config-only'")
    assert tell == "/bin/sh -c 'kill -HUP $MAINPID'"


def test_a_wrong_configuration_is_final() -> None:
    assert SERVICE["Restart"] == ["always"]
    assert UNIT["Unit"]["StartLimitIntervalSec"] == ["0"]  # nothing else is final
    assert SERVICE["RestartPreventExitStatus"] == [str(CONFIGURATION)]
    # Nor does a call that waits in the socket start it again.
    assert SERVICE["ExecStopPost"] == [
        f"+/bin/sh -c 'test \"$EXIT_STATUS\" != {CONFIGURATION} || systemctl stop isthmus.socket'"
    ]


def test_there_is_time_for_a_reload_between_two_beats_and_for_writes_at_the_end() -> None:
    (watchdog,) = SERVICE["WatchdogSec"]
    assert seconds(watchdog) * (BEATS - 1) / BEATS > 2 * Limits().stop
    assert seconds(SERVICE["TimeoutStopSec"][0]) > 2 * Limits().stop


def test_it_has_its_folders_and_no_right_that_it_does_not_need() -> None:
    for key in ("StateDirectory", "ConfigurationDirectory", "User", "Group"):
        assert SERVICE[key] == ["isthmus"]
    # The folder of the sockets is root's: systemd gives hook.sock away by its name, whatever that leads to.
    assert "RuntimeDirectory" not in SERVICE
    assert SERVICE["ReadWritePaths"] == ["-/run/isthmus"]
    assert SERVICE["CapabilityBoundingSet"] == SERVICE["AmbientCapabilities"] == [""]
    assert SERVICE["ProtectSystem"] == ["strict"]
    assert SERVICE["NoNewPrivileges"] == SERVICE["MemoryDenyWriteExecute"] == ["yes"]
