"""The payload tree as tests use it: made once, and laid over /usr/lib for those that run it as if it were installed."""

import functools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.testbed.build import cache

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
PLACE = Path("usr/lib/isthmus")
LIBRARY = PLACE / "python/lib/python3.11"
SITE = LIBRARY / "site-packages"
PYTHON = PLACE / "python/bin/python3.11"
COMMAND = "/usr/lib/isthmus/bin/isthmus"
# A fixed time: a commit alone makes no other tree and package, and what is tested need be no git checkout.
EPOCH = "1767225600"
# A mount that only the command and its children see.
OVERLAID = 'mount -t overlay overlay -o lowerdir="$0/usr/lib:/usr/lib" /usr/lib && exec "$@"'
# A root of a system with nothing but an old glibc, the tree and devices, where the kernel starts the program: this
# loader, when it is called by name with a program that may lie at any address (PIE), leaves that without its stdout.
OLD_SYSTEM = """
mkdir -p "$0/lower/dev" "$0/lower/lib" "$0/lower/lib64" "$0/root"
cp "$0"/tools/floor/* "$0/lower/lib64"
cp "$0"/tools/floor/ld-* "$0/lower/lib"
mount -t overlay overlay -o lowerdir="$1:$0/lower" "$0/root"
mount --rbind /dev "$0/root/dev"
shift
exec env LD_LIBRARY_PATH=/lib64 chroot "$0/root" "$@"
"""
# Every module of isthmus, and with it whatever it imports.
IMPORT_ALL = """
import importlib, pkgutil, sys
for top in ("agent", "hooks", "state"):
    for module in pkgutil.walk_packages(importlib.import_module(top).__path__, top + "."):
        importlib.import_module(module.name)
print(*sorted({getattr(module, "__file__", None) or "" for module in sys.modules.values()}), sep="\\n")
"""
# Every module that is there; those that cannot be imported are printed.
SWEEP = """
import contextlib, importlib, os, pathlib, sys, warnings
warnings.simplefilter("ignore")
library = pathlib.Path(os.__file__).parent
for root in (library / "site-packages", library):
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        if parts[0] != "site-packages" and parts[-1] != "__main__":
            name = ".".join(part for part in parts if part != "__init__")
            try:
                with contextlib.redirect_stdout(None):
                    importlib.import_module(name)
            except ImportError:
                print(name)
"""


def make_tree(out: Path | None = None) -> Path:
    """Make the tree, or one more of it, with this project's own script; return its folder."""
    return Path(output(PACKAGING / "tree.sh", *([out] if out else [])).splitlines()[-1])


@functools.cache
def runtime() -> Path:
    """Return the archive of the runtime, which is built if it is not in the cache."""
    return Path(output(PACKAGING / "runtime.sh").splitlines()[-1])


def output(*command: str | Path, **given: str) -> str:
    """Run one of the scripts with what it is given, at the fixed time, and return what it prints."""
    environment = os.environ | {"PYTHON": sys.executable, "SOURCE_DATE_EPOCH": EPOCH, **given}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def installed(tree: Path, *command: str) -> list[str]:
    """Return a command line that runs a command as if the tree were installed on this machine."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", OVERLAID, str(tree), *command]


def on_an_old_system(tree: Path, folder: Path, *command: str) -> list[str]:
    """Return a command line that runs a command of the tree with glibc 2.17, in a root that has nothing else."""
    subprocess.run(("tar", "-xf", runtime(), "-C", folder, "tools"), check=True)
    unshare = ("unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", OLD_SYSTEM)
    return [*unshare, str(folder), str(tree), f"/{PYTHON}", "-I", "-B", *command]


def run(
    command: Sequence[str], environment: dict[str, str] | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command without any variable but the given ones, and see that it ends with the code."""
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"]} | (environment or {}), capture_output=True, text=True, check=False
    )
    assert done.returncode == code, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


def files(tree: Path) -> Iterator[Path]:
    """Yield every regular file of the tree."""
    yield from (path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink())


def binaries(tree: Path) -> list[Path]:
    """Return the programs and libraries of the tree."""
    found = []
    for path in files(tree):
        with path.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                found.append(path)
    return found


def build_paths() -> list[bytes]:
    """Return the folders of this machine that a build could have written down."""
    return [os.fsencode(path) for path in (ROOT, cache())] + [b"runtime.unfinished", b"tree.unfinished"]
