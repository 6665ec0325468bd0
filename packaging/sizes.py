"""Print how large the payload is and what dominates it, and the packages beside it: ``sizes.py TREE``."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SITE = "usr/lib/isthmus/python/lib/python3.11/site-packages/"
LIBRARY = "usr/lib/isthmus/python/lib/python3.11/"
ROWS = 14


def files(tree: Path) -> Iterator[tuple[str, int]]:
    """Yield every file's path in the tree and its size in bytes."""
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(tree).as_posix(), path.stat().st_size


def part(name: str) -> str:
    """Return which part of the payload a file belongs to."""
    if name.startswith(SITE):
        top = name.removeprefix(SITE).split("/")[0]
        return "isthmus" if top in ("agent", "hooks", "state") else top.removesuffix(".py")
    if name.startswith(LIBRARY):
        return "Python's library"
    return "the interpreter, with OpenSSL and SQLite" if "/python/bin/" in name else "documents and launchers"


def kind(name: str) -> str:
    """Return what a file is."""
    return {".py": "source", ".pyc": "compiled", ".so": "binary"}.get(Path(name).suffix, "other")


def main() -> None:
    """Print the table, the largest part first."""
    tree = Path(sys.argv[1])
    found = list(files(tree))
    parts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for name, size in found:
        parts[part(name)] += size
        kinds[kind(name)] += size
    print(f"installed {sum(parts.values()) / 1e6:6.1f} MB in {len(found)} files")
    for name, size in kinds.most_common():
        print(f"  of it   {size / 1e6:6.1f} MB {name}")
    for name, size in parts.most_common(ROWS):
        print(f"  part    {size / 1e6:6.1f} MB {name}")
    for package in sorted([*tree.parent.glob("*.deb"), *tree.parent.glob("*.rpm")]):
        print(f"package   {package.stat().st_size / 1e6:6.1f} MB {package.name}")


if __name__ == "__main__":
    main()
