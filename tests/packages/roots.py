"""Root folders of the systems that isthmus is installed on, made once by mmdebstrap, outside the tree.

`python -m tests.packages.roots` makes those that are missing; a test takes one by its name from `ROOTS`, and makes it
if need be. No RPM distribution can be had here from the machine's own package sources, so `el8` is a Debian with rpm
and dnf in which everything of dpkg is gone, and in which a package claims what RHEL 8 provides.
"""

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.build import cache, only_one

HERE = Path(__file__).resolve().parent
EL8 = HERE / "el8" / "el8-shim.spec"
RELEASES = ("bullseye", "bookworm", "trixie")
BASE = ("systemd", "systemd-sysv", "dbus", "ca-certificates")
# A timer of apt's would be news from nowhere in the middle of a test.
QUIET = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer")


class RootError(RuntimeError):
    """A root folder could not be made."""


@dataclass(frozen=True, slots=True)
class Root:
    """An installed system that is only ever read; `hooks` are shell commands for mmdebstrap, whose $1 is the folder."""

    name: str
    release: str
    packages: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The hash of everything that decides what is made, but for what the mirror has that day."""
        told = (self.release, BASE, MACHINE_ID, self.packages, COMMON_HOOKS, self.hooks)
        # Every checkout makes the same.
        return hashlib.sha256(repr(told).replace(str(HERE), "").encode() + EL8.read_bytes()).hexdigest()

    @property
    def folder(self) -> Path:
        """Where the root is, or will be."""
        return cache() / f"root-{self.name}-{self.key[:16]}"

    def make(self) -> Path:
        """Return the folder, and make it if it is not there; a second one that wants it waits for the first."""
        if not self.folder.is_dir():
            with only_one(f"root-{self.name}"):
                if not self.folder.is_dir():
                    self._make()
        return self.folder

    def _make(self) -> None:
        if os.getuid() != 0:
            raise RootError(f"the root folder {self.name} can be made, and booted, only by root")
        unfinished = self.folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        command = ["mmdebstrap", "--quiet", "--mode=root", "--format=tar", "--variant=minbase"]
        command += ["--aptopt=Acquire::Retries 3", f"--include={','.join((*BASE, *self.packages))}"]
        command += [f"--customize-hook={hook}" for hook in (*COMMON_HOOKS, *self.hooks)]
        command = [*ALONE, str(unfinished), *command, self.release, "-", mirror()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
            raise RootError(f"mmdebstrap of {self.release} for {self.name} ended with {done.returncode}:\n{said}")
        # mmdebstrap would empty it again after the last hook.
        (unfinished / "etc/machine-id").write_text(MACHINE_ID + "\n")
        unfinished.rename(self.folder)


# Whatever mmdebstrap mounts, and whatever runs in there, goes with it, also when we are killed half-way: a folder that
# is cleared away afterwards has nobody's /dev in it. It works in memory, for dpkg waits for the disk at each file.
IN_MEMORY = """
set -euo pipefail
folder=$1
shift
exec 3<"$folder"
mount -t tmpfs -o mode=0755 build "$folder"
TMPDIR=$folder "$@" | tar --extract --numeric-owner --directory=/proc/self/fd/3
"""
ALONE = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
    *("bash", "-c", IN_MEMORY, "roots"),
)

# Without one, each boot is the first, which enables every unit there is, and begins a new journal: machine-id(5).
MACHINE_ID = f"{7:032x}"

COMMON_HOOKS = (
    'mkdir -p "$1/var/log/journal"',
    'rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
    'printf "127.0.0.1 localhost\\n::1 localhost\\n" >"$1/etc/hosts"',
    *(f'ln -sf /dev/null "$1/etc/systemd/system/{timer}"' for timer in QUIET),
)

# rpmbuild runs inside, so that nobody needs it outside. What maintainer scripts of a deb could lean on is then removed,
# and the certificates are where RHEL has them.
EL8_HOOKS = (
    f'cp {shlex.quote(str(EL8))} "$1/root/"',
    'chroot "$1" rpmbuild --quiet -bb /root/el8-shim.spec',
    'chroot "$1" sh -c "rpm --install /root/rpmbuild/RPMS/*/*.rpm"',
    'rm -r "$1/root/rpmbuild" "$1/root/el8-shim.spec"',
    'mkdir -p "$1/etc/pki/tls/certs"',
    'mv "$1/etc/ssl/certs/ca-certificates.crt" "$1/etc/pki/tls/certs/ca-bundle.crt"',
    'rm -rf "$1"/etc/ssl/certs/*',
    'rm -f "$1"/usr/bin/dpkg* "$1"/usr/bin/apt* "$1"/usr/bin/deb-systemd-* "$1"/usr/sbin/update-rc.d',
)

ROOTS = {
    root.name: root
    for root in (
        *(Root(name, name) for name in RELEASES),
        # The one release that has a Consul of its own, with its user and its unit.
        Root("bullseye-consul", "bullseye", ("consul",)),
        Root("el8", "bookworm", ("rpm", "dnf"), EL8_HOOKS),
    )
}


def mirror() -> str:
    """Where this machine's apt gets Debian from: apt-get(8), indextargets."""
    wanted = "$(SITE)\t$(ORIGIN)\t$(RELEASE)\t$(COMPONENT)\t$(CREATED_BY)"
    done = subprocess.run(["apt-get", "indextargets", "--format", wanted], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        site, origin, release, component, made_by = line.split("\t")
        # Before the first `apt-get update` nobody knows an origin.
        known = origin in ("Debian", "$(ORIGIN)") and release in (*RELEASES, "stable", "oldstable", "testing", "sid")
        if known and (component, made_by) == ("main", "Packages"):
            return site
    raise RootError("this machine's apt knows of no Debian mirror, which the root folders of tests/packages come from")


def main() -> int:
    """Make the roots that are missing, or those of them that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.packages.roots", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(ROOTS)}")
    names = parser.parse_args().names or list(ROOTS)
    for name in names:
        if name not in ROOTS:
            parser.error(f"there is no root {name!r}, but {', '.join(ROOTS)}")
    try:
        with ThreadPoolExecutor(2) as two:  # one downloads while the other unpacks
            for line in two.map(_make_and_tell, names):
                print(line, flush=True)
    except (OSError, RootError) as error:
        print(f"roots: {error}", file=sys.stderr)
        return 1
    return 0


def _make_and_tell(name: str) -> str:
    root, began = ROOTS[name], time.monotonic()
    what = "is there" if root.folder.is_dir() else "made"
    folder = root.make()
    return f"roots: {name:<16} {what} ({time.monotonic() - began:.1f} s), {folder}"


if __name__ == "__main__":
    sys.exit(main())
