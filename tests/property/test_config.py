"""Whatever a configuration file holds, it is loaded or refused with its problems, and no secret is repeated."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.config import Config, digest, load
from agent.config.fields import PROTOCOLS
from agent.config.settings import RegistrySettings
from hooks.eureka.settings import EurekaSettings
from state.errors import ConfigurationError
from state.limits import Limits

SECRET = "hunter2-hunter2"
Document = dict[str, Any]
Place = tuple[str | int, ...]

names = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,10}[a-z0-9])?", fullmatch=True)
labels = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
words = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=8)
file_names = words.filter(lambda text: not text.startswith("~"))
globs = st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=8).filter(str.isprintable)
seconds = st.floats(0.01, 100_000).map(lambda value: round(value, 3)) | st.integers(1, 100_000)
durations = seconds | st.builds("{}{}".format, st.integers(1, 700), st.sampled_from(["ms", "s", "m", "h"]))


def _some(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries({}, optional=optional)


@st.composite
def eurekas(draw: st.DrawFn) -> Document:
    urls = st.builds("{}://{}:{}/eureka".format, st.sampled_from(["http", "https"]), labels, st.integers(1, 65535))
    found: Document = {"type": "eureka", "urls": draw(st.lists(urls, min_size=1, max_size=3, unique=True))}
    found |= draw(
        _some(
            poll=durations,
            ca_file=file_names,
            tls_server_name=words,
            services=st.lists(globs, min_size=1, max_size=2),
            address=st.sampled_from(["ip", "hostname"]),
            region=labels,
        )
    )
    if draw(st.booleans()):
        found |= {"username": draw(words), "password_file": draw(file_names)}
    return found


@st.composite
def consuls(draw: st.DrawFn) -> Document:
    scheme, host, port = draw(st.sampled_from(["http", "https"])), draw(labels), draw(st.integers(1, 65535))
    found: Document = {"type": "consul", "url": f"{scheme}://{host}:{port}"}
    found |= draw(
        _some(
            datacenter=words,
            token_file=file_names,
            ca_file=file_names,
            tls_server_name=words,
            address=words,
            region=labels,
            metadata_prefix=st.sampled_from(["", "mesh-"]),
        )
    )
    if draw(st.booleans()):
        found |= {"cert_file": draw(file_names), "key_file": draw(file_names)}
    if draw(st.booleans()):
        found |= {"services": [f"{draw(labels)}*", "probe"], "probe": "probe"}
    return found


@st.composite
def clusters(draw: st.DrawFn, name: str) -> Document:
    common = {"namespace": draw(labels)} | draw(_some(policy=st.sampled_from(["sync", "upsert-only", "paused"])))
    kinds: list[Document] = [
        {"kubeconfig": f"{name}.kubeconfig"} | draw(_some(context=words)),
        {"server": f"https://{name}/k8s", "ca_file": draw(file_names), "token_file": draw(file_names)},
        {"directory": name},
    ]
    return common | draw(st.sampled_from(kinds))


@st.composite
def rules(draw: st.DrawFn, targets: list[str]) -> Document:
    match = _some(
        registry=globs, service=globs, tag=globs, metadata=st.dictionaries(words, st.text(max_size=5), max_size=2)
    )
    found = draw(
        _some(
            match=match,
            host=st.sampled_from(["{service}.{domain}", "{service}.shop.internal", "fixed.example"]),
            namespace=labels,
            labels=st.dictionaries(labels, labels, min_size=1, max_size=2),
            port=st.integers(1, 65535) | st.just("instance"),
            protocol=st.sampled_from(PROTOCOLS).flatmap(lambda word: st.sampled_from([word, word.lower()])),
            clusters=st.lists(st.sampled_from(targets), min_size=1, max_size=2, unique=True),
            warning=st.sampled_from(["include", "exclude"]),
            aliases=st.lists(st.sampled_from(["{service}.service.consul", "fixed.example"]), max_size=2),
            secure=st.booleans(),
            export_to=st.lists(labels | st.sampled_from([".", "*"]), min_size=1, max_size=2),
            identity=st.fixed_dictionaries(
                {"service_account": labels}, optional={"tls": st.sampled_from(["istio", "disabled"])}
            ),
        )
    )
    if "identity" in found:
        found["match"] = {**found.get("match", {}), "service": "orders*"}
    return found if found.keys() - {"match"} else found | {"skip": draw(st.booleans())}


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Return a valid configuration as plain values."""
    given_names = draw(st.lists(names, min_size=2, max_size=6, unique=True))
    parts = draw(st.integers(1, len(given_names) - 1))
    targets = given_names[parts:]
    single = {field.name: durations for field in fields(Limits) if isinstance(field.default, float)}
    several = {
        field.name: st.lists(durations, min_size=1, max_size=3)
        for field in fields(Limits)
        if isinstance(field.default, tuple)
    }
    return {
        "owner": draw(names),
        "registries": {name: draw(consuls() | eurekas()) for name in given_names[:parts]},
        "clusters": {name: draw(clusters(name)) for name in targets},
    } | draw(
        _some(
            state=file_names,
            control=file_names,
            domain=st.sampled_from(["mesh.internal", "a", "xn--a.b-c"]),
            rules=st.lists(rules(targets), max_size=3),
            limits=_some(**single, **several),
        )
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "isthmus.yaml"


def loaded(path: Path, document: Document, **style: Any) -> Config:
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, **style), encoding="utf-8")
    return load(path)


def problems(path: Path, content: bytes) -> list[str]:
    """Load what may be wrong; return its problems, which are told in order and with their lines."""
    path.write_bytes(content)
    found: list[str] = []
    try:
        assert SECRET not in repr(load(path))
    except ConfigurationError as error:
        found = error.problems or ["no problem at all"]
    assert all(problem.startswith(f"{path}:") and problem.isprintable() for problem in found)
    numbers = [problem.removeprefix(f"{path}:").partition(":")[0] for problem in found]
    if len(numbers) > 1:
        assert numbers == sorted(numbers, key=int)
        assert 1 <= int(numbers[0]) <= int(numbers[-1]) <= len(content.splitlines())
    return found


def mappings(value: object, place: Place = ()) -> Iterator[Place]:
    """Yield where the mappings are whose keys are known."""
    if isinstance(value, dict):
        if place not in (("registries",), ("clusters",)) and place[-1:] not in (("labels",), ("metadata",)):
            yield place
        for key, part in value.items():
            yield from mappings(part, (*place, key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from mappings(part, (*place, number))


def at(value: Any, place: Place) -> Any:
    for step in place:
        value = value[step]
    return value


def _urls(registry: RegistrySettings) -> list[str]:
    return list(registry.urls) if isinstance(registry, EurekaSettings) else [registry.url]


@given(documents())
def test_a_valid_configuration_is_loaded(path: Path, document: Document) -> None:
    config = loaded(path, document)
    assert config.owner == document["owner"]
    assert list(config.registries) == [registry.name for registry in config.registries.values()]
    assert list(config.registries) == list(document["registries"])
    assert list(config.clusters) == [cluster.name for cluster in config.clusters.values()]
    assert list(config.clusters) == list(document["clusters"])
    assert [_urls(registry) for registry in config.registries.values()] == [
        registry.get("urls", [registry.get("url")]) for registry in document["registries"].values()
    ]
    assert [cluster.namespace for cluster in config.clusters.values()] == [
        cluster["namespace"] for cluster in document["clusters"].values()
    ]
    assert [rule.host for rule in config.rules] == [rule.get("host") for rule in document.get("rules", [])]
    assert [rule.number for rule in config.rules] == list(range(len(document.get("rules", []))))


@given(documents())
def test_the_style_of_the_file_does_not_matter(path: Path, document: Document) -> None:
    block, flow = (loaded(path, document, default_flow_style=style) for style in (False, True))
    assert block == flow
    assert [digest(block, name) for name in block.clusters] == [digest(flow, name) for name in flow.clusters]


pieces = st.binary(max_size=4) | st.sampled_from(
    [
        *(b"\t", b"\n", b" ", b": ", b"- ", b"{", b"}", b"[", b"]", b"'", b'"', b"? ", b"|\n", b"#", b"---\n"),
        *(b"&a ", b"*a", b"<<: *a\n", b"!!set ", b"!x ", b"%YAML 1.2\n"),
        *(b"~", b"012", b"1:30", b"no", b"\x00", b"\xff", b"\xc2\x85", b"\xe2\x80\xae"),
    ]
)


class Plain(yaml.SafeDumper):
    """Writes no anchors: which values are one object differs from run to run."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


@given(documents(), st.data())
def test_a_damaged_file_is_loaded_or_refused(path: Path, document: Document, data: st.DataObject) -> None:
    style = data.draw(st.sampled_from([True, False, None]))
    content = yaml.dump(document, Dumper=Plain, sort_keys=False, default_flow_style=style)
    damaged = content.encode()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged)))
        end = data.draw(st.integers(start, min(len(damaged), start + 10)))
        damaged = damaged[:start] + data.draw(pieces) + damaged[end:]
    problems(path, damaged)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.binary(max_size=3),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), parts, max_size=3),
    max_leaves=5,
)


@given(documents(), st.data())
def test_any_value_in_any_place_is_loaded_or_refused(path: Path, document: Document, data: st.DataObject) -> None:
    changed = deepcopy(document)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(list(mappings(changed))))
        mapping = at(changed, place)
        mapping[data.draw(st.sampled_from([*mapping, "new"]))] = data.draw(anything)
    problems(path, yaml.safe_dump(changed, sort_keys=False).encode())


@given(documents(), st.data())
def test_one_misspelt_key_is_one_problem_at_its_line(path: Path, document: Document, data: st.DataObject) -> None:
    changed = deepcopy(document)
    place = data.draw(st.sampled_from([place for place in mappings(changed) if at(changed, place)]))
    mapping = at(changed, place)
    key = data.draw(st.sampled_from(list(mapping)))
    cut = data.draw(st.integers(1, len(key) - 1))
    misspelt = key[:cut] + key[cut + 1 :]
    items = [(misspelt if name == key else name, value) for name, value in mapping.items()]
    mapping.clear()
    mapping.update(items)
    found = problems(path, yaml.safe_dump(changed, sort_keys=False).encode())
    assert len(found) == 1, found
    line = int(found[0].removeprefix(f"{path}:").split(":")[0])
    assert path.read_text().splitlines()[line - 1].strip().removeprefix("- ").startswith(f"{misspelt}:")
    assert found[0].endswith(f"{misspelt}: is no known key; did you mean {key}?")


secret_values = st.sampled_from(
    [SECRET, [SECRET], {SECRET[:3]: SECRET}, {"a": [SECRET]}, f"{SECRET}\n{SECRET}", f" {SECRET}"]
)
secret_keys = st.sampled_from(
    ["token", "password", "Token", "acl_token", "acl-token", "client_secret", "passwd", "tokn"]
)


@given(documents(), st.data())
def test_a_secret_is_never_repeated(path: Path, document: Document, data: st.DataObject) -> None:
    changed = deepcopy(document)
    places = [*mappings(changed), ("registries",), ("clusters",)]
    mapping = at(changed, data.draw(st.sampled_from(places)))
    mapping[data.draw(secret_keys)] = data.draw(secret_values)
    registry = next(iter(changed["registries"].values()))
    if isinstance(registry, dict):
        registry["url"] = data.draw(
            st.sampled_from([f"http://a:{SECRET}@b", f"{SECRET}@b", f"http://a/?token={SECRET}"])
        )
        registry["token_file"] = data.draw(st.sampled_from([f"{SECRET}\n", [SECRET], {"a": SECRET}]))
    found = problems(path, yaml.safe_dump(changed, sort_keys=False).encode())
    assert found
    assert SECRET not in "\n".join(found)
