"""Build the real servers that the tests talk to, once, into a cache outside the tree.

`python tests/testbed/build.py` builds what is missing; `binaries()` tells where everything is. Only the standard
library is used, and nothing that the machine does not have but Go, which pip installs when it is missing: Java and
Maven are among packages.txt.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
GO_AT_LEAST = (1, 26)
KUBERNETES = "1.37.2"
JAVA_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
VERSION_PACKAGE = "k8s.io/component-base/version"


class TestbedError(RuntimeError):
    """The test bed could not be built, or is not there."""

    __test__ = False


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the counterparties are."""

    consul: Path
    etcd: Path
    kube_apiserver: Path
    istio_crds: Path
    eureka: Path


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the test bed: what a wrapper module makes, or a file out of a pinned module, or what Maven makes."""

    folder: str
    name: str
    package: str = ""
    stamps: tuple[str, ...] = ()
    module: str = ""
    path: str = ""

    @property
    def is_java(self) -> bool:
        """Whether Maven makes it, not Go."""
        return (HERE / self.folder / "pom.xml").is_file()

    @property
    def key(self) -> str:
        """The hash of everything that decides what is built."""
        digest = hashlib.sha256(repr((self.package, self.stamps, self.module, self.path)).encode())
        for file in sorted((HERE / self.folder).rglob("*")):
            if file.suffix in (".go", ".mod", ".sum", ".xml", ".java"):
                digest.update(f"\n{file.name} {file.stat().st_size}\n".encode() + file.read_bytes())
        return digest.hexdigest()

    @property
    def built(self) -> Path:
        """Where the result is, or will be."""
        return cache() / f"{self.folder}-{self.key[:16]}" / self.name


CONSUL = Part("consul", "consul", "github.com/hashicorp/consul")
ETCD = Part("etcd", "etcd", "go.etcd.io/etcd/server/v3")
API_SERVER = Part(
    "apiserver",
    "kube-apiserver",
    ".",
    (
        f"{VERSION_PACKAGE}.gitVersion=v{KUBERNETES}",
        f"{VERSION_PACKAGE}.gitMajor={KUBERNETES.split('.')[0]}",
        f"{VERSION_PACKAGE}.gitMinor={KUBERNETES.split('.')[1]}",
    ),
)
ISTIO = Part("istio", "crds.yaml", module="istio.io/api", path="kubernetes/customresourcedefinitions.gen.yaml")
# The archive of Java's classes is made last, so the jar beside it is complete when it is there.
EUREKA = Part("eureka", "eureka-server.jsa", stamps=JAVA_OPTIONS)
PARTS = (ISTIO, ETCD, CONSUL, API_SERVER, EUREKA)


def cache() -> Path:
    """The folder that keeps what was built."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ISTHMUS_TESTBED") or Path(home) / "isthmus-testbed").absolute()


def binaries() -> Binaries:
    """Tell where the counterparties are, or raise: a test never runs without them, and is never skipped."""
    missing = [part.name for part in PARTS if not part.built.is_file()]
    if missing:
        raise TestbedError(f"the test bed in {cache()} lacks {', '.join(missing)}: run `make testbed` first")
    return Binaries(CONSUL.built, ETCD.built, API_SERVER.built, ISTIO.built, EUREKA.built.with_suffix(".jar"))


@contextmanager
def only_one(what: str = "testbed") -> Iterator[None]:
    """Let a second build of something wait for the first, and then find everything done."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{what}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{what}: another build holds {cache()}, waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end and return its output, or raise with the end of what it said."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise TestbedError(f"{' '.join(command)} in {folder} ended with {done.returncode}:\n{said}")
    return done.stdout


def go_environment() -> dict[str, str]:
    """The same settings on every machine; its own proxy settings and caches stay in force."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("GOROOT", "GOOS", "GOARCH")}
    return inherited | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def is_new_enough(go: str) -> bool:
    """Whether this Go can build everything."""
    try:
        said = run([go, "env", "GOVERSION"], HERE, go_environment())
    except (OSError, TestbedError):
        return False
    version = re.match(r"go(\d+)\.(\d+)", said)
    return version is not None and (int(version[1]), int(version[2])) >= GO_AT_LEAST


def find_go() -> str:
    """Find a Go that is new enough on this machine, or install the pinned one beside what it builds."""
    for found in (shutil.which("go"), "/usr/local/go/bin/go"):
        if found and is_new_enough(found):
            return found
    pins = HERE / "go.txt"
    root = cache() / f"go-{hashlib.sha256(pins.read_bytes()).hexdigest()[:16]}"
    if not root.is_dir():
        started = time.monotonic()
        unfinished = root.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        run([*pip, "--require-hashes", "--only-binary", ":all:", "--target", str(unfinished), "-r", str(pins)], HERE)
        unfinished.rename(root)
        report("go", "installed", started)
    # What `pip` puts into bin/ is a script that starts this one.
    return str(root / "go" / "bin" / "go")


def make(part: Part, go: str, unfinished: Path) -> None:
    """Make one part as the file `unfinished`."""
    folder = HERE / part.folder
    if part.module:
        module = json.loads(run([go, "mod", "download", "-json", part.module], folder, go_environment()))
        shutil.copyfile(Path(module["Dir"]) / part.path, unfinished)
        return
    flags = " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in part.stamps)])
    run([go, "build", "-ldflags", flags, "-o", str(unfinished), part.package], folder, go_environment())


def make_java(part: Part, unfinished: Path) -> None:
    """Make a jar beside `unfinished`, unpacked, and as `unfinished` what Java loads, which halves its start."""
    jar = part.built.with_suffix(".jar")
    with TemporaryDirectory(dir=cache()) as folder:
        shutil.copytree(HERE / part.folder, folder, dirs_exist_ok=True)
        run(["mvn", "--batch-mode", "--no-transfer-progress", "--quiet", "--strict-checksums", "package"], Path(folder))
        shutil.rmtree(jar.parent)
        # Java takes an archive only for the same jars, under the same paths, with the same times.
        built = Path(folder) / "target" / jar.name
        run(["java", "-Djarmode=tools", "-jar", str(built), "extract", "--destination", str(jar.parent)], Path(folder))
    # In this mode the server ends before it opens a port.
    options = [f"-XX:ArchiveClassesAtExit={unfinished}", "-Xlog:disable", "-Dspring.context.exit=onRefresh"]
    run(["java", *JAVA_OPTIONS, *options, "-jar", str(jar)], jar.parent)
    unfinished.touch()  # a Java that can make no archive starts without one


def report(name: str, what: str, started: float) -> None:
    """Print what was done, and how long it took."""
    print(f"testbed: {name:<14} {what} ({time.monotonic() - started:.1f} s)", flush=True)


def main() -> int:
    """Build whatever is missing, one part after another."""
    started = time.monotonic()
    try:
        with only_one():
            missing = [part for part in PARTS if not part.built.is_file()]
            go = find_go() if any(not part.is_java for part in missing) else ""
            for part in missing:
                began = time.monotonic()
                part.built.parent.mkdir(exist_ok=True)
                unfinished = part.built.with_name(f"{part.name}.unfinished")
                if part.is_java:
                    make_java(part, unfinished)
                else:
                    make(part, go, unfinished)
                unfinished.rename(part.built)
                report(part.name, "built", began)
    except (OSError, TestbedError) as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    report(f"{len(PARTS)} parts", f"ready in {cache()}", started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
