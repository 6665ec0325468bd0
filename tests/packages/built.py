"""The packages as tests use them: made once from the same sources, kept in the cache."""

import functools
import hashlib
import os
import shutil
import time
from pathlib import Path

from tests.packages.tree import ROOT, output
from tests.testbed.build import cache, only_one

# What the scripts that make a package read.
READ = (
    *("agent", "hooks", "state", "packaging", "requirements"),
    *("agent.service", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "setup.cfg", "docs/configuration.md"),
)
KEPT = 7 * 24 * 3600.0  # seconds


@functools.cache
def build(kind: str, version: str = "", sources: Path = ROOT) -> Path:
    """Return the `deb` or the `rpm` of this project, or of a copy of its sources; it is made if it is not there."""
    folder = cache() / f"packages-{_key(version, sources)[:16]}"
    made = folder / kind
    with only_one(f"{folder.name}-{kind}"):
        if not made.is_dir():
            _forget_old()
            tree, unfinished = folder / "tree", folder / f"{kind}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            given = {"VERSION": version} if version else {}
            output(sources / "packaging/tree.sh", tree, **given)
            output(sources / "packaging/package.sh", kind, unfinished, **given, TREE=str(tree))
            unfinished.rename(made)
            if all((folder / one).is_dir() for one in ("deb", "rpm")):
                shutil.rmtree(tree, ignore_errors=True)
        os.utime(folder)
    (package,) = made.glob(f"*.{kind}")
    return package


def _key(version: str, sources: Path) -> str:
    """Return the hash of everything that decides what is built."""
    digest = hashlib.sha256(version.encode())
    for name in READ:
        top = sources / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix != ".pyc" and "_cache" not in str(path.relative_to(sources)):
                content = path.read_bytes()
                digest.update(
                    f"\n{path.relative_to(sources)} {path.stat().st_mode} {len(content)}\n".encode() + content
                )
    return digest.hexdigest()


def _forget_old() -> None:
    """Remove packages that no test has taken for a week: every change of a source makes others."""
    for folder in cache().glob("packages-*"):
        if folder.is_dir() and time.time() - folder.stat().st_mtime > KEPT:
            shutil.rmtree(folder, ignore_errors=True)
