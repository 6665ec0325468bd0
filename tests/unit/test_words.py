import pytest

from agent.words import count, plain, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (-1, "0 ms"),
        (0.0423, "42 ms"),
        (1, "1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_a_duration_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_one_and_many_are_counted_apart() -> None:
    assert [count(1, "pass", "passes"), count(2, "pass", "passes"), count(0, "object")] == [
        "1 pass",
        "2 passes",
        "0 objects",
    ]


def test_what_a_terminal_might_obey_is_escaped_and_the_rest_is_not() -> None:
    assert plain("grün [red]") == "grün [red]"
    assert plain("a\x1b[31m\r\nb\ud800") == "a\\x1b[31m\\r\\nb\\ud800"
