from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.go_template.literals import MAX_INT, MIN_INT, read_character, read_int, read_number, read_text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-0", 0),
        ("+12", 12),
        ("1_000", 1000),
        ("017", 15),
        ("0_7", 7),
        ("0o17", 15),
        ("0O17", 15),
        ("0b11", 3),
        ("-0x_fF", -255),
        ("9223372036854775807", MAX_INT),
        ("-9223372036854775808", MIN_INT),
        ("1.0", 1.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-1_0.5E-1_0", -10.5e-10),
        ("0x1p4", 16.0),
        ("0x1.8p1", 3.0),
        ("0x.8p1", 1.0),
    ],
)
def test_numbers_that_go_knows(text: str, number: float) -> None:
    assert read_number(text) == number
    assert type(read_number(text)) is type(number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "08",
        "1_",
        "_1",
        "1__0",
        "0x",
        "0b2",
        "1e",
        "1e+",
        ".",
        "1.2.3",
        "0x1.",
        "0x1p",
        "1e400",
        "0x1p99999",
        "9223372036854775808",
        "-9223372036854775809",
        "1" * 5000,
        "1" * 200 + ".5",
        "١",
    ],
)
def test_numbers_that_go_does_not_know(text: str) -> None:
    assert read_number(text) is None


@given(st.integers(MIN_INT, MAX_INT))
def test_every_whole_number_can_be_read_in_every_base(number: int) -> None:
    for text in (str(number), hex(number), oct(number), bin(number)):
        assert read_int(text) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_can_be_read(number: float) -> None:
    assert read_number(repr(number)) == number


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", ""),
        ("plain é", "plain é"),
        (r"\a\b\f\n\r\t\v\\\"", '\a\b\f\n\r\t\v\\"'),
        (r"\x41\101\u00e9\U0001F600", "AAé😀"),
        (r"\xc3\xa9", "é"),
        (r"\xff", "\udcff"),
        (r"\q", None),
        (r"\'", None),
        (r"\x4", None),
        (r"\400", None),
        (r"\u12", None),
        (r"\ud800", None),
        (r"\U00110000", None),
        ("\\", None),
    ],
)
def test_quoted_texts(body: str, text: str | None) -> None:
    assert read_text(body) == text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("a", 97),
        ("☺", 9786),
        (r"\n", 10),
        (r"\'", 39),
        (r"\377", 255),
        (r"\u00e9", 233),
        ("", None),
        ("ab", None),
        (r"\"", None),
        (r"\400", None),
    ],
)
def test_characters(body: str, code: int | None) -> None:
    assert read_character(body) == code
