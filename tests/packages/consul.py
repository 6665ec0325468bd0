"""A real Consul on a machine, as its operators install it: a package's user, unit and folders."""

import json
from pathlib import Path

import httpx

from tests.packages.machine import Machine
from tests.testbed.consul_api import ConsulApi
from tests.testbed.processes import wait_until

PORT = 8500
FOLDER = "/etc/consul.d"
# One server that is its own datacenter and loses no second over an election.
SERVER = {
    "bind_addr": "127.0.0.1",
    "bootstrap_expect": 1,
    "datacenter": "dc1",
    "disable_update_check": True,
    "performance": {"raft_multiplier": 1},
    "server": True,
}
# As in HashiCorp's package, with two exceptions: a server that joins nobody never says READY=1, so it is not of type
# notify, and one that is told to end while it starts does not, so its patience is short.
# https://github.com/hashicorp/consul/tree/main/.release/linux/package
UNIT = f"""\
[Unit]
Description=Consul
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User=consul
Group=consul
ExecStart=/usr/bin/consul agent -config-dir={FOLDER} -data-dir=/opt/consul
ExecReload=/bin/sh -c "kill -HUP $MAINPID"
KillMode=process
KillSignal=SIGTERM
TimeoutStopSec=10
Restart=on-failure
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""


def start_consul(machine: Machine, binary: Path) -> ConsulApi:
    """Start a Consul that is there after a reboot, and return its API: the system's own, or else the binary given."""
    if not machine.exists("/usr/bin/consul"):
        _install(machine, binary)
    machine.write(f"{FOLDER}/server.json", json.dumps(SERVER, indent=2) + "\n", mode=0o640, owner="consul:consul")
    machine.run("systemctl", "enable", "consul")
    machine.run("systemctl", "restart", "consul")
    machine.wait_for_unit("consul")
    api = ConsulApi(httpx.Client(base_url=f"http://127.0.0.1:{machine.reach(PORT)}", timeout=10, trust_env=False))
    machine.at_the_end(api.client.close)
    wait_for_consul(api)
    return api


def restart_consul(machine: Machine, api: ConsulApi) -> None:
    """Let Consul's user have the groups that it has got meanwhile, and Consul its new configuration."""
    machine.run("systemctl", "restart", "consul")
    wait_for_consul(api)


def wait_for_consul(api: ConsulApi) -> None:
    """Wait until the server has a leader and knows itself, as after a start or a reboot."""
    wait_until(lambda: _is_ready(api), "Consul has a leader and knows itself")


def _is_ready(api: ConsulApi) -> bool:
    try:
        return "consul" in api.response("GET", "/v1/catalog/services?consistent").json()
    except (httpx.HTTPError, json.JSONDecodeError):
        return False


def _install(machine: Machine, binary: Path) -> None:
    machine.run("useradd", "--system", "--user-group", "--home-dir", FOLDER, "--shell", "/bin/false", "consul")
    machine.run("install", "-d", "-m", "755", "-o", "consul", "-g", "consul", FOLDER, "/opt/consul")
    machine.write("/usr/bin/consul", binary, mode=0o755)
    machine.write("/etc/systemd/system/consul.service", UNIT)
    machine.run("systemctl", "daemon-reload")
