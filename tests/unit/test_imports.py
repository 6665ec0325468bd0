"""What a running agent has in memory: not what only people, or other verbs, need."""

import json
import subprocess
import sys

LOADED = "import json, sys; import agent.cli.running; print(json.dumps(sorted(sys.modules)))"
NEEDLESS = (
    "rich",  # for terminals
    "kubernetes.client.models.",  # eight hundred of them: objects travel as they are
    "kubernetes.client.api.",
    "sqlite_utils.cli",
    "httpx",
    "aiohttp",
    "hypothesis",
    "pytest",
)


def test_run_imports_nothing_that_it_does_not_need() -> None:
    done = subprocess.run((sys.executable, "-c", LOADED), capture_output=True, text=True, timeout=60, check=True)
    loaded = json.loads(done.stdout)
    assert "agent.cli.running" in loaded
    assert [name for name in loaded if name.startswith(NEEDLESS)] == []
