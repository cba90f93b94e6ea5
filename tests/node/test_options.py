from __future__ import annotations

from pathlib import PurePosixPath
from typing import get_args

import pytest

from localai.mesh.errors import SetupError
from localai.mesh.secrets import Secret
from localai.node.option_values import Address, Places
from localai.node.options import Kind, Option, UsageError, Value, is_set, resolve, variable_of, without_effect

PLACES = Places(cwd=PurePosixPath("/base"), home=PurePosixPath("/home/ann"))


def one(option: Option, texts: list[str] | None = None, environ: dict[str, str] | None = None) -> Value:
    given = {} if texts is None else {option.key: texts}
    return resolve([option], given, environ or {}, PLACES)[option.key]


def row(kind: Kind, **more: object) -> Option:
    return Option("--x-y", kind, "Help.", env=("A", "B"), **more)  # type: ignore[arg-type]  # rows are built loosely here


NUMBER = row(Kind.INT, default="7")


def test_first_of_flag_environment_default_wins() -> None:
    assert one(NUMBER) == 7
    assert one(NUMBER, environ={"B": "2"}) == 2
    assert one(NUMBER, environ={"B": "2", "A": "3"}) == 3
    assert one(NUMBER, ["4"], {"B": "2", "A": "3"}) == 4
    assert one(NUMBER, ["4", "5"]) == 5


@pytest.mark.parametrize("kind", [Kind.INT, Kind.FLOAT, Kind.BOOL, Kind.DURATION, Kind.ENUM, Kind.ADDRESS])
def test_empty_variable_is_unset_where_it_means_nothing(kind: Kind) -> None:
    option = row(kind, choices=("0",))
    assert one(option, environ={"A": "", "C": "0"}) is None
    text = ":0" if kind is Kind.ADDRESS else "0"
    assert one(option, environ={"A": "", "B": text}) is not None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (row(Kind.FILE, default="d"), None),
        (row(Kind.STR, default="d"), ""),
        (row(Kind.LIST, default="d"), ()),
        (row(Kind.PATH, default="d"), None),
    ],
)
def test_empty_variable_is_a_value_elsewhere(option: Option, value: Value) -> None:
    assert one(option, environ={"A": "", "B": "later"}) == value


def test_empty_variable_never_blanks_a_secret() -> None:
    keys = row(Kind.LIST, secret=True)
    assert one(keys, environ={"A": "", "B": "k"}) == (Secret("k"),)
    assert one(keys, [""], {"B": "k"}) == ()


def test_values_by_kind() -> None:
    assert one(row(Kind.STR), ["t"]) == "t"
    assert one(row(Kind.STR, secret=True), ["t"]) == Secret("t")
    assert one(row(Kind.INT), ["0x10"]) == 16
    assert one(row(Kind.FLOAT), ["0.5"]) == 0.5
    assert one(row(Kind.BOOL), ["no"]) is False
    assert one(row(Kind.DURATION), ["1m"]) == 60.0
    assert one(row(Kind.PATH), ["m"]) == PurePosixPath("/base/m")
    assert one(row(Kind.FILE), ["-"]) == PurePosixPath("-")
    assert one(row(Kind.ENUM, choices=("a", "b")), ["b"]) == "b"
    assert one(row(Kind.ADDRESS), [":1"]) == Address("", 1)


def test_lists_collect_their_flags_and_replace_the_environment() -> None:
    items = row(Kind.LIST)
    assert one(items) == ()
    assert one(items, ["a,b", r"c\,d"], {"A": "e"}) == ("a", "b", "c,d")
    assert one(row(Kind.LIST, secret=True), ["a,b"]) == (Secret("a"), Secret("b"))
    assert one(row(Kind.LIST, default="p,q")) == ("p", "q")


def test_wrong_flag_value_is_a_usage_error_that_names_the_flag() -> None:
    with pytest.raises(UsageError) as caught:
        one(NUMBER, ["x"])
    assert caught.value.message == '--x-y needs a whole number, not "x"'


def test_wrong_variable_is_named_with_its_value() -> None:
    with pytest.raises(SetupError) as caught:
        one(NUMBER, environ={"B": "x"})
    assert not isinstance(caught.value, UsageError)
    assert caught.value.message == '--x-y needs a whole number, not "x" (from envar B="x")'


def test_wrong_choice_in_the_environment_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r'--x-y must be one of a, not "z" \(from envar A="z"\)'):
        one(row(Kind.ENUM, choices=("a",)), environ={"A": "z"})


def test_error_about_a_secret_does_not_show_it_twice() -> None:
    with pytest.raises(SetupError, match=r'\(from envar A="\*\*\*"\)'):
        one(row(Kind.INT, secret=True), environ={"A": "x"})


def test_minimum_bounds_numbers_from_everywhere() -> None:
    option = row(Kind.INT, minimum=0)
    assert one(option, ["0"]) == 0
    with pytest.raises(UsageError, match="--x-y must be at least 0, not -1"):
        one(option, ["-1"])
    with pytest.raises(SetupError, match="at least 0"):
        one(option, environ={"A": "-1"})


def test_maximum_bounds_numbers_too() -> None:
    option = row(Kind.INT, maximum=9)
    assert one(option, ["9"]) == 9
    with pytest.raises(UsageError, match="--x-y must be at most 9, not 10"):
        one(option, ["10"])


def test_an_option_that_does_nothing_yet_says_so() -> None:
    option = row(Kind.STR, no_effect="nobody reads it")
    assert option.help_line == "Help. No effect yet: nobody reads it. ($A, $B)"
    assert without_effect([option, NUMBER], {"x_y": ["1"]}, {}) == (option,)
    assert without_effect([option, NUMBER], {}, {"B": "1"}) == (option,)
    assert without_effect([option, NUMBER], {}, {"A": "", "C": "1"}) == (option,), "empty is a value of a text"
    assert without_effect([option, NUMBER], {}, {}) == ()


def test_is_set_sees_flags_and_variables() -> None:
    assert not is_set(NUMBER, {}, {})
    assert not is_set(NUMBER, {}, {"A": ""})
    assert is_set(NUMBER, {"x_y": ["1"]}, {})
    assert is_set(NUMBER, {}, {"B": "1"})


def test_the_first_variable_that_is_set_is_named() -> None:
    assert variable_of(NUMBER, {}) is None
    assert variable_of(NUMBER, {"A": "", "B": "2"}) == "B"


@pytest.mark.parametrize("kind", [Kind.STR, Kind.LIST])
def test_a_check_sees_the_text_or_each_item(kind: Kind) -> None:
    def check(text: str) -> None:
        if text == "bad":
            raise ValueError("does not like it")

    option = row(kind, check=check)
    assert one(option, ["good"]) == ("good" if kind is Kind.STR else ("good",))
    assert one(option) == (None if kind is Kind.STR else ())
    with pytest.raises(UsageError, match="--x-y does not like it"):
        one(option, ["good", "bad"])
    with pytest.raises(SetupError, match=r'--x-y does not like it \(from envar A="bad"\)'):
        one(option, environ={"A": "bad"})


def test_every_kind_of_value_is_listed() -> None:
    assert {bool, int, float, str, Address}.issubset(get_args(Value))
