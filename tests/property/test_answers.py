"""However an answer is cut into pieces, it is read the same."""

from hypothesis import given
from hypothesis import strategies as st

from hooks.consul.answers import Answers, WireError

HEADERS = st.dictionaries(
    st.from_regex(r"[A-Za-z][A-Za-z-]{0,20}", fullmatch=True).filter(
        lambda name: name.lower() not in ("content-length", "transfer-encoding")
    ),
    st.from_regex(r"[!-~]{0,30}", fullmatch=True),
    max_size=5,
)
SIZES = st.lists(st.integers(1, 3000), max_size=4)


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, dict[str, str], bytes]:
    code, headers, sizes = draw(st.sampled_from([200, 403, 429, 500])), draw(HEADERS), draw(SIZES)
    lines = [f"HTTP/1.1 {code} So", *(f"{name}: {value}" for name, value in headers.items())]
    if draw(st.booleans()):
        chunks = b"".join(f"{size:x};x=y\r\n".encode() + b"\r" * size + b"\r\n" for size in sizes)
        lines.append("Transfer-Encoding: chunked")
        body = chunks + b"0\r\n" + draw(st.sampled_from([b"", b"Trailer: x\r\n"])) + b"\r\n"
    else:
        lines.append(f"content-length:  {sum(sizes)} ")
        body = b"\n" * sum(sizes)
    lowered = {name.lower(): value for name, value in headers.items()}
    return code, lowered, "\r\n".join([*lines, "", ""]).encode() + body


@given(st.lists(answers(), max_size=4), st.data())
def test_answers_in_pieces_are_the_answers(sent: list[tuple[int, dict[str, str], bytes]], data: st.DataObject) -> None:
    octets = b"".join(text for _, _, text in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=12)))
    reader, found = Answers(), []
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        found += reader.feed(octets[start:end])
    assert [head.code for head in found] == [code for code, _, _ in sent]
    for head, (_, headers, _) in zip(found, sent, strict=True):
        assert headers.items() <= head.headers.items()
    assert not reader.is_amid()


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_whatever_comes_is_read_or_refused(pieces: list[bytes]) -> None:
    reader = Answers()
    try:
        for piece in pieces:
            assert reader.feed(piece) == []
    except WireError:
        pass


@given(answers(), st.data())
def test_what_is_not_whole_does_not_count(answer: tuple[int, dict[str, str], bytes], data: st.DataObject) -> None:
    code, _, octets = answer
    reader = Answers()
    part = octets[: data.draw(st.integers(1, len(octets) - 1))]
    assert [head.code for head in reader.feed(part)] in ([], [code] if code != 200 else [])
    assert reader.is_amid()
