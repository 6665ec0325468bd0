import re
from dataclasses import fields

from agent.config import schema
from state.limits import Limits
from tests.reference import REFERENCE, TITLES, reference


def test_the_reference_of_the_configuration_is_what_the_schema_says() -> None:
    assert REFERENCE.read_text() == reference(), "run `make docs`"


def test_every_key_is_described() -> None:
    whole = schema()
    shapes = [whole, *(part for name, part in whole["$defs"].items() if name != "LimitsPart")]
    undescribed = [
        key for shape in shapes for key, value in shape["properties"].items() if not value.get("description")
    ]
    assert undescribed == []


def test_every_part_has_a_section() -> None:
    assert schema()["$defs"].keys() == {*TITLES, "LimitsPart"}


def test_every_limit_is_described() -> None:
    described = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| \S[^|]* \|$", reference().partition("## `limits`")[2], re.MULTILINE
    )
    assert described == [field.name for field in fields(Limits)]
