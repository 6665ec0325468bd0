"""What is beside isthmus on this machine: what its package brought, or what its sources hold."""

import grp
import sys
from pathlib import Path

HOOK = Path("/usr/bin/isthmus-hook")
HOOK_SOCKET = Path("/run/isthmus/hook.sock")  # isthmus.socket listens there
EXAMPLE = Path("/usr/share/isthmus/examples/isthmus.yaml")


def is_packaged() -> bool:
    """Tell whether this is the Python that the package brings, whose place an upgrade may change."""
    return (Path(sys.prefix).parent / "bin" / HOOK.name).exists()


def manual() -> str:
    """Return what describes every key of the configuration."""
    return "`man isthmus.yaml`" if is_packaged() else "docs/configuration.md"


def allowed(path: Path) -> str:
    """Return who may use a file of the service, for somebody who may not."""
    for one in (path, path.parent):  # of the folder, where not even that can be asked of the file
        try:
            group = one.stat().st_gid
        except OSError:
            continue
        return "only root may" if group == 0 else f"only root and the group {group_name(group)} may"
    return "only root may"


def group_name(group: int) -> str:
    """Return the name of a group, or its number where it has none."""
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)
