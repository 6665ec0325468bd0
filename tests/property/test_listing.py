"""A list that is read object by object is what it would be when read as a whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clusters.listing import split

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
pages = st.dictionaries(st.text(max_size=8) | st.just("metadata"), values, max_size=4).flatmap(
    lambda fields: st.tuples(st.just(fields), st.lists(values, max_size=4), st.integers(0, len(fields)))
)
forms = st.sampled_from([(None, (",", ":")), (2, (",", ": ")), (None, (" , ", " : ")), ("\t", (",\r\n", ":"))])


def written(fields: dict[str, Any], items: list[Any], place: int, form: Any, *, escaped: bool) -> str:
    pairs = [pair for pair in fields.items() if pair[0] != "items"]
    pairs.insert(place, ("items", items))
    indent, separators = form
    return json.dumps(dict(pairs), indent=indent, separators=separators, ensure_ascii=escaped)


@given(pages, forms, st.booleans())
def test_wherever_the_list_stands_and_whatever_the_form(
    page: tuple[dict[str, Any], list[Any], int], form: Any, escaped: bool
) -> None:
    fields, items, place = page
    text = written(fields, items, place, form, escaped=escaped)
    taken: list[Any] = []
    others = split(f" \n{text}\t ", "items", taken.append)
    whole = json.loads(text)
    assert taken == whole.pop("items")
    assert others == whole


@given(pages, forms, st.data())
def test_a_page_that_was_cut_is_an_error(page: tuple[dict[str, Any], list[Any], int], form: Any, data: Any) -> None:
    text = written(*page, form, escaped=True)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(ValueError, match=r"."):
        split(cut, "items", lambda _: None)


@given(st.text(max_size=12) | values.map(json.dumps))
def test_any_other_text_is_an_error(text: str) -> None:
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("items"), list):
        return
    with pytest.raises(ValueError, match=r"."):
        split(text, "items", lambda _: None)


@pytest.mark.parametrize(
    "text", ['{"items": []} {}', '{"items": [1,]}', '{"items": [1 2]}', '{"items": [], }', '{"items" []}', '{"a": 1}']
)
def test_what_is_no_json_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"character|items|value|name"):
        split(text, "items", lambda _: None)
