"""Remove from the tree what isthmus never imports: ``prune.py PRUNED LIBRARY``.

PRUNED lists patterns below LIBRARY (``lib/python3.11``), a line each, under comments that say why; a pattern that
matches nothing is an error, so that the list stays true when a library changes.
"""

import shutil
import sys
from pathlib import Path


def patterns(file: Path) -> list[str]:
    """Return the patterns of the list, without its comments."""
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line]


def prune(library: Path, pattern: str) -> bool:
    """Remove what matches; return whether anything did."""
    matches = sorted(library.glob(pattern))
    for path in matches:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return bool(matches)


def main() -> int:
    """Remove everything that the list names; 1 when a pattern matches nothing."""
    listed, library = Path(sys.argv[1]), Path(sys.argv[2])
    idle = [pattern for pattern in patterns(listed) if not prune(library, pattern)]
    for pattern in idle:
        print(f"{listed}: {pattern} matches nothing below {library}", file=sys.stderr)
    return 1 if idle else 0


if __name__ == "__main__":
    sys.exit(main())
