"""Write down what the payload consists of: the bill of materials and the licences of everything in it.

Reads the wheels' metadata in the tree and the sources in the lock; reduces that metadata to what stays true: names and
versions, and the entry points, without records of files that are not there. A wheel of which nothing is left in the
tree is not in the bill either. https://cyclonedx.org/docs/1.5/json/
"""

import argparse
import hashlib
import json
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.parser import HeaderParser
from os import environ
from pathlib import Path
from typing import Any

Component = dict[str, Any]
# What a wheel's own bill does not tell of. A test asks the compiled module.
LINKED: dict[str, tuple[str, str, str]] = {"pyyaml": ("libyaml", "0.2.6", "MIT")}
TEXTS = ("licen", "copying", "notice", "authors")
# The namespace of this application's identifiers, of which the bill's own is one.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:isthmus:sbom")


def normalised(name: str) -> str:
    """Return the one spelling of a project's name.

    https://packaging.python.org/en/latest/specifications/name-normalization/
    """
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed wheel by its folder of metadata."""

    folder: Path
    headers: Message

    @property
    def name(self) -> str:
        """The project's normalised name."""
        return normalised(str(self.headers["Name"]))

    @property
    def version(self) -> str:
        """The project's version."""
        return str(self.headers["Version"])

    @property
    def licence(self) -> str:
        """How the project itself calls its licence."""
        stated = self.headers["License-Expression"] or self.headers["License"] or ""
        if stated and "\n" not in stated:
            return str(stated)
        classified = [line for line in self.headers.get_all("Classifier", []) if line.startswith("License ::")]
        return str(classified[0]).rpartition(" :: ")[2] if classified else ""

    def is_there(self) -> bool:
        """Whether any of its own files is left in the tree."""
        names = [line.split(",")[0] for line in (self.folder / "RECORD").read_text().splitlines()]
        site, own = self.folder.parent, self.folder.name
        return any((site / name).is_file() for name in names if not name.startswith((own, "..")))

    def texts(self) -> list[Path]:
        """Return the files with the texts of its licence."""
        inside = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        licences = self.folder / "licenses"
        return [p for p in inside if licences in p.parents or p.name.lower().startswith(TEXTS)]

    def embedded(self) -> Iterator[Component]:
        """Yield what is compiled into it: what its own bill says, and what it forgets."""
        if self.name in LINKED:
            name, version, licence = LINKED[self.name]
            purl = f"pkg:generic/{name}@{version}"
            known: Component = {"name": name, "version": version, "licenses": [{"license": {"id": licence}}]}
            yield {"type": "library", "purl": purl, "bom-ref": purl, **known}
        for bill in sorted(self.folder.glob("sboms/*.json")):
            for found in json.loads(bill.read_text())["components"]:
                kept = {
                    key: found[key] for key in ("type", "name", "version", "purl", "licenses", "hashes") if key in found
                }
                if str(kept.get("purl", "")).startswith("pkg:cargo/") and "download_url" not in kept["purl"]:
                    yield kept | {"bom-ref": kept["purl"]}

    def reduce(self) -> None:
        """Leave the headers of the metadata and the entry points, nothing else."""
        for path in sorted(self.folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in ("METADATA", "entry_points.txt"):
                path.unlink()
        metadata = self.folder / "METADATA"
        metadata.write_text(metadata.read_text().partition("\n\n")[0] + "\n")


def distributions(site: Path) -> list[Distribution]:
    """Return what is installed, by name."""
    found = [
        Distribution(folder, HeaderParser().parsestr((folder / "METADATA").read_text()))
        for folder in site.glob("*.dist-info")
    ]
    return sorted(found, key=lambda distribution: distribution.name)


def wheel_hashes(wheels: Path) -> dict[tuple[str, str], str]:
    """Return the SHA-256 of every wheel by its project's normalised name and version."""
    hashes = {}
    for wheel in wheels.glob("*.whl"):
        name, version = wheel.name.split("-")[:2]
        hashes[normalised(name), version] = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return hashes


def sources(lock: Path, licences: Path) -> Iterator[tuple[Component, list[Path]]]:
    """Yield what the interpreter consists of, with the licence of each."""
    files: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for line in lock.read_text().splitlines():
        if line.startswith("source "):
            _, name, version, file, sha256 = line.split()
            files.setdefault((name, version), []).append((file, sha256))
    for (name, version), pairs in files.items():
        component = {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:deb/debian/{name}@{version}?arch=source",
            "bom-ref": f"pkg:deb/debian/{name}@{version}?arch=source",
            "hashes": [{"alg": "SHA-256", "content": pairs[0][1]}],
            "properties": [{"name": f"isthmus:source:{file}", "value": sha256} for file, sha256 in pairs],
        }
        yield component, [licences / name]


def component_of(distribution: Distribution, sha256: str) -> Component:
    """Return a wheel as a component of the bill."""
    purl = f"pkg:pypi/{distribution.name}@{distribution.version}"
    component: Component = {
        "type": "library",
        "name": distribution.name,
        "version": distribution.version,
        "purl": purl,
        "bom-ref": purl,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    }
    if distribution.licence:
        component["licenses"] = [{"license": {"name": distribution.licence}}]
    embedded = list(distribution.embedded())
    return component | ({"components": embedded} if embedded else {})


def write_licence(file: Path, title: str, texts: list[Path]) -> None:
    """Write all texts of one component into one file; SystemExit when there is none."""
    if not texts:
        sys.exit(f"sbom: {title} brings no text of its licence")
    body = "\n\n".join(path.read_text(errors="replace").strip() for path in texts)
    file.write_text(f"{title}\n\n{body}\n")


def bill(components: list[Component], version: str, arch: str) -> Component:
    """Return the bill of materials."""
    names = [component["bom-ref"] for component in components]
    serial = uuid.uuid5(NAMESPACE, " ".join([version, arch, *names]))
    written = datetime.fromtimestamp(int(environ["SOURCE_DATE_EPOCH"]), UTC)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": written.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "name": "isthmus",
                "version": version,
                "bom-ref": "isthmus",
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "properties": [{"name": "isthmus:architecture", "value": arch}],
            },
        },
        "components": components,
        "dependencies": [{"ref": "isthmus", "dependsOn": names}],
    }


def main() -> None:
    """Write the bill and the licences below OUT, and reduce the metadata in SITE."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--lock", "--wheels", "--licences"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--arch", required=True)
    parser.add_argument("site", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    folder = asked.out / "licences"
    folder.mkdir(parents=True)
    components = []
    for component, texts in sources(asked.lock, asked.licences):
        write_licence(folder / f"{component['name']}.txt", f"{component['name']} {component['version']}", texts)
        components.append(component)
    hashes = wheel_hashes(asked.wheels)
    for distribution in distributions(asked.site):
        if not distribution.is_there():
            shutil.rmtree(distribution.folder)
            continue
        if distribution.name != "isthmus":
            title = f"{distribution.name} {distribution.version}"
            write_licence(folder / f"{distribution.name}.txt", title, distribution.texts())
            components.append(component_of(distribution, hashes[distribution.name, distribution.version]))
        distribution.reduce()
    text = json.dumps(bill(components, asked.version, asked.arch), indent=1, sort_keys=True)
    (asked.out / "isthmus.cdx.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
