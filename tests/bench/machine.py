"""On what a bench was run."""

import os
import platform
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import httpx

from agent.daemon import VERSION
from tests.bench.site import Site

ROOT = Path(__file__).parents[2]


def machine() -> dict[str, str]:
    """Return the cores, the processor and the kernel."""
    names = [line.partition(":")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": names[0].strip() if names else platform.machine(),
        "kernel": platform.release(),
    }


def versions(site: Site) -> dict[str, str]:
    """Return the versions of everything that takes part."""
    return {
        "isthmus": f"{VERSION} ({_commit()})",
        "Consul": str(site.consul.request("GET", "/v1/agent/self")["Config"]["Version"]),
        "Eureka of Spring Cloud": _spring_cloud(),
        "kube-apiserver": str(site.server.request("GET", "/version")["gitVersion"]).removeprefix("v"),
        "etcd": str(httpx.get(f"{site.server.etcd.url}/version", trust_env=False).json()["etcdserver"]),
        "Python": platform.python_version(),
        "Linux": platform.release(),
    }


def _spring_cloud() -> str:
    pom = ElementTree.parse(ROOT / "tests/testbed/eureka/pom.xml")
    return pom.findtext(".//{*}spring-cloud.version") or "of no version"


def _commit() -> str:
    command = ("git", "-C", str(ROOT), "describe", "--always", "--dirty=, changed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no commit"
