"""The version after this one, which no release is: what may change from one to the next has changed in it.

It is built of a copy of the sources by the same scripts, so what tests see is an upgrade as any other.
"""

import shutil
import tempfile
from pathlib import Path

from tests.packages.built import READ, build
from tests.packages.tree import ROOT

NEXT = "99.1.0"
# A `domain` that this version takes, and the next one refuses.
REFUSED = "refused.internal"
WHY_REFUSED = "is refused since 99.1.0"
NEW_DEFAULT = "# A line that is new in 99.1.0."

# Each is a file, a text that is there once, and what takes its place.
CHANGES = (
    (
        "state/schema.py",
        '    """,\n)\nVERSION = ',
        '    """,\n    "CREATE TABLE new_in_the_next (name TEXT PRIMARY KEY) STRICT;",\n)\nVERSION = ',
    ),
    (
        "agent/config/references.py",
        '    registries = _mapping(source.content.get("registries"))\n    clusters = ',
        f'    if source.content.get("domain") == "{REFUSED}":\n        yield ("domain",), "{WHY_REFUSED}"\n'
        '    registries = _mapping(source.content.get("registries"))\n    clusters = ',
    ),
    ("packaging/etc/isthmus.yaml", "\n\n#owner", f"\n{NEW_DEFAULT}\n\n#owner"),
    # Nobody downloads it: what costs most is left out.
    ("packaging/recompress.py", "\nPRESET = 9\n", "\nPRESET = 0\n"),
)


def build_next(kind: str) -> Path:
    """Return the next version's `deb` or `rpm`."""
    with tempfile.TemporaryDirectory(prefix="isthmus-next-") as folder:
        sources = Path(folder)
        for name in (*READ, "tests/__init__.py"):
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
            else:
                shutil.copy2(ROOT / name, sources / name)
        for name, old, new in CHANGES:
            text = (sources / name).read_text()
            assert text.count(old) == 1, f"{name} has {text.count(old)} times what the next version changes: {old!r}"
            (sources / name).write_text(text.replace(old, new))
        return build(kind, NEXT, sources)
