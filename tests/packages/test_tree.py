import hashlib
import importlib.util
import json
import lzma
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.cli import VERBS
from tests.integration.agents import RunningAgent, configuration
from tests.packages import tree as trees
from tests.testbed.apiserver import ApiServer
from tests.testbed.consul import Consul
from tests.testbed.eureka import Eureka
from tests.testbed.processes import wait_until

FLOOR = (2, 17)
# All that a wheel for manylinux2014 may need, without the C++ library: some hosts have none.
NEEDED = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libgcc_s.so.1"}
NEEDED |= {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
# https://peps.python.org/pep-0552/
UNCHECKED_HASH = 0b01
# What libraries import only if something is there that was never among the locked wheels, or starts processes.
OPTIONAL = {f"httpcore.{half}.{part}" for half in ("_async", "_sync") for part in ("http2", "socks_proxy")}
OPTIONAL |= {"httpcore._backends.trio", "urllib3.http2.connection", "werkzeug.middleware.profiler"}
OPTIONAL |= {f"multiprocessing.{part}" for part in ("forkserver", "popen_forkserver", "resource_tracker")}
Bill = dict[str, Any]


@pytest.fixture(scope="module")
def tree() -> Path:
    return trees.make_tree()


@pytest.fixture(scope="module")
def bill(tree: Path) -> Bill:
    bill: Bill = json.loads((tree / "usr/share/doc/isthmus/isthmus.cdx.json").read_text())
    return bill


def content(tree: Path) -> dict[str, str]:
    """Return what is in a tree: a hash of each file's bytes, mode and time by its path."""
    found = {}
    for path in sorted(tree.rglob("*")):
        stat = path.lstat()
        body = path.read_bytes() if path.is_file() else b""
        told = f"{stat.st_mode:o} {int(stat.st_mtime)}".encode()
        found[path.relative_to(tree).as_posix()] = hashlib.sha256(told + body).hexdigest()
    return found


def test_the_runtime_is_the_one_that_the_lock_names() -> None:
    with lzma.open(trees.runtime()) as archive:
        digest = hashlib.file_digest(archive, "sha256").hexdigest()
    assert f" {digest}\n" in (trees.PACKAGING / "runtime.lock").read_text()


def test_a_second_tree_has_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    assert content(trees.make_tree(tmp_path / "in another folder")) == content(tree)


def test_nothing_needs_a_newer_glibc_than_2_17(tree: Path) -> None:
    found = trees.binaries(tree)
    assert {path.name for path in found} >= {"python3.11"}
    for path in found:
        told = subprocess.run(
            ("readelf", "--dyn-syms", "-d", "-W", path), capture_output=True, text=True, check=True
        ).stdout
        versions = {tuple(map(int, version.split("."))) for version in re.findall(r"@GLIBC_([\d.]+)", told)}
        assert max(versions, default=FLOOR) <= FLOOR, path
        assert set(re.findall(r"\(NEEDED\).*\[(.*)]", told)) <= NEEDED, path
        assert not re.findall(r"\((?:RPATH|RUNPATH)\)", told), path


def test_it_runs_with_glibc_2_17_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    def old(*command: str) -> str:
        return trees.run(trees.on_an_old_system(tree, tmp_path, *command)).stdout

    assert old("-c", "import os; print(os.confstr('CS_GNU_LIBC_VERSION'))") == "glibc 2.17\n"
    assert old("-c", "from agent.cli import main; main(prog_name='isthmus')", "--version").startswith("isthmus ")
    assert "_pydantic_core" in old("-c", trees.IMPORT_ALL)


def test_no_file_names_a_folder_of_the_machine_that_built_it(tree: Path) -> None:
    names = trees.build_paths()
    for path in trees.files(tree):
        body = path.read_bytes()
        assert [name for name in names if name in body] == [], path


def test_every_module_is_there_and_compiled_and_comes_from_the_tree(tree: Path) -> None:
    imported = trees.run(trees.installed(tree, f"/{trees.PYTHON}", "-I", "-B", "-c", trees.IMPORT_ALL)).stdout.split(
        "\n"
    )
    assert len(imported) > 500
    assert [file for file in imported if file and not file.startswith("/usr/lib/isthmus/python/")] == []
    for name in filter(None, imported):
        file = tree / name[1:]
        if file.suffix == ".py":
            compiled = Path(importlib.util.cache_from_source(str(file))).read_bytes()
            assert int.from_bytes(compiled[4:8], "little") == UNCHECKED_HASH, file
            assert compiled[8:16] == importlib.util.source_hash(file.read_bytes()), file
            assert name.encode() in compiled, file


def test_whatever_is_left_finds_what_it_imports(tree: Path) -> None:
    told = trees.run(trees.installed(tree, f"/{trees.PYTHON}", "-I", "-B", "-c", trees.SWEEP)).stdout
    assert set(told.split()) == OPTIONAL


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_command_has_its_help(tree: Path, verb: str) -> None:
    told = trees.run(trees.installed(tree, trees.COMMAND, *filter(None, [verb]), "--help")).stdout
    assert told.startswith(f"Usage: isthmus {verb}".rstrip())


def test_it_says_its_version(tree: Path) -> None:
    setup = (trees.ROOT / "setup.cfg").read_text()
    version = re.findall(r"^version = (.*)$", setup, re.MULTILINE)[0]
    assert trees.run(trees.installed(tree, trees.COMMAND, "--version")).stdout == f"isthmus {version}\n"


def test_the_demo_plays(tree: Path, tmp_path: Path) -> None:
    before = content(tree)
    demo = ("demo", "--seconds", "10", "--out", str(tmp_path / "demo"))
    told = trees.run(trees.installed(tree, trees.COMMAND, *demo)).stdout
    assert "Checked" in told
    assert content(tree) == before, "a run wrote into the tree"


def test_it_runs_between_real_servers(
    tree: Path, tmp_path: Path, consul: Consul, eureka: Eureka, api_server: ApiServer, namespace: str
) -> None:
    kubernetes = {"kubeconfig": str(api_server.kubeconfig()), "namespace": namespace}
    clusters = {"mesh": kubernetes, "files": {"directory": str(tmp_path / "files"), "namespace": namespace}}
    told = configuration(consul, clusters)
    told["registries"]["eureka-dc1"] = {"type": "eureka", "urls": [eureka.url]}
    agent = RunningAgent(tmp_path, told)
    consul.register("web", address="10.0.0.1", port=8080)
    eureka.register("SHOP", "shop-1", "10.0.0.2")
    for command in ("check", "once"):
        trees.run(trees.installed(tree, trees.COMMAND, command, "--config", str(agent.config_file)))
    assert held(api_server, namespace) == {"10.0.0.1", "10.0.0.2"}
    agent.process.command = tuple(trees.installed(tree, trees.COMMAND, "run", "--config", str(agent.config_file)))
    with agent:
        consul.register("web", "web-2", address="10.0.0.3", port=8080)
        wait_until(lambda: len(held(api_server, namespace)) == 3, "the mesh holds the new endpoint")
        wait_until(lambda: "10.0.0.3" in texts(tmp_path / "files"), "the directory as well")
        assert agent.status()["version"]
        agent.stop()


def held(api_server: ApiServer, namespace: str) -> set[str]:
    return {str(entry["spec"]["address"]) for entry in api_server.objects("WorkloadEntry", namespace)}


def texts(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*.yaml"))


def test_a_call_of_a_watch_needs_no_site_packages(tree: Path, tmp_path: Path) -> None:
    hook = trees.installed(tree, "/usr/lib/isthmus/bin/isthmus-hook")
    assert trees.run([*hook, "--help"]).stdout.startswith("usage: isthmus-hook ")
    nobody = str(tmp_path / "hook.sock")
    assert "not delivered" in trees.run([*hook, "--socket", nobody, "dc1", "services"], code=1).stderr


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_the_host_s_authorities_are_trusted_unless_the_environment_names_others(tree: Path, name: str) -> None:
    launcher = (tree / trees.PLACE / "bin/isthmus").read_text().replace("exec ", "env #")
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    script = ["sh", "-c", launcher]
    assert Path(bundle).is_file()
    assert f"{name}={bundle}" in trees.run(script).stdout.splitlines()
    assert f"{name}=/mine.pem" in trees.run(script, {name: "/mine.pem"}).stdout.splitlines()


def test_the_environment_of_the_caller_does_not_reach_its_python(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('the wrong click')")
    trees.run(trees.installed(tree, trees.COMMAND, "--version"), {"PYTHONPATH": str(tmp_path)})
    trees.run(["env", "-C", str(tmp_path), *trees.installed(tree, trees.COMMAND, "--version")])


def test_the_bill_names_everything_with_the_locked_version_and_hash(tree: Path, bill: Bill) -> None:
    locked = (trees.ROOT / "requirements/runtime.txt").read_text()
    sources = (trees.PACKAGING / "runtime.lock").read_text()
    named = {str(component["name"]): component for component in bill["components"]}
    for name, component in named.items():
        pins = locked if str(component["purl"]).startswith("pkg:pypi/") else sources
        assert re.search(
            rf"^(?:source )?{re.escape(name)}(?:==| ){re.escape(str(component['version']))}\b", pins, re.MULTILINE
        )
        assert [part["content"] for part in component["hashes"] if part["content"] not in pins] == []
    wheels = {path.name.partition("-")[0].lower().replace("_", "-") for path in (tree / trees.SITE).glob("*.dist-info")}
    assert wheels - named.keys() == {"isthmus"}
    assert named.keys() - wheels == {"python3.11", "openssl", "sqlite3", "zlib"}


def test_the_bill_tells_of_the_library_that_is_compiled_into_pyyaml(tree: Path, bill: Bill) -> None:
    ask = "import yaml._yaml; print(yaml._yaml.get_version_string())"
    version = trees.run(trees.installed(tree, f"/{trees.PYTHON}", "-I", "-B", "-c", ask)).stdout.strip()
    (pyyaml,) = (component for component in bill["components"] if component["name"] == "pyyaml")
    assert {(part["name"], part["version"]) for part in pyyaml["components"]} == {("libyaml", version)}


def test_everything_in_the_bill_has_the_text_of_its_licence(tree: Path, bill: Bill) -> None:
    for component in bill["components"]:
        text = (tree / f"usr/share/doc/isthmus/licences/{component['name']}.txt").read_text()
        assert len(text) > 400, component["name"]
        assert str(component["version"]) in text.splitlines()[0]


def test_what_is_installed_belongs_to_a_wheel_in_the_bill(tree: Path) -> None:
    wheels = {path.name.partition("-")[0].lower().replace("_", "-") for path in (tree / trees.SITE).glob("*.dist-info")}
    other_names = {"dateutil": "python-dateutil", "yaml": "pyyaml", "consul": "python-consul2"}
    other_names |= {"_yaml": "pyyaml"} | dict.fromkeys(("agent", "hooks", "state"), "isthmus")
    tops = {path.name.removesuffix(".py") for path in (tree / trees.SITE).iterdir() if path.suffix != ".dist-info"}
    owners = {other_names.get(top, top.lower().replace("_", "-")) for top in tops - {"__pycache__"}}
    assert owners == wheels


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library/there.py").touch()
    (tmp_path / "pruned.txt").write_text("# why\nthere.py\ngone.py\n")
    prune = (sys.executable, str(trees.PACKAGING / "prune.py"), str(tmp_path / "pruned.txt"), str(tmp_path / "library"))
    assert "gone.py matches nothing" in trees.run(prune, code=1).stderr
    assert not (tmp_path / "library/there.py").exists()
