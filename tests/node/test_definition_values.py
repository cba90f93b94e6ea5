"""Single values: what each kind of key takes, and how what it does not take is named."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest
from localai.node.definition_keys import BLOCKS, TOP_LEVEL, Kind
from localai.node.definition_values import (
    Fields,
    block_at,
    check_values,
    read_block,
    read_flag,
    read_number,
    read_patterns,
    read_text,
    read_texts,
)

TAKEN: dict[Kind, list[Any]] = {
    Kind.TEXT: ["", "a"],
    Kind.WORD: ["auto", 1, 0.5, True],
    Kind.FLAG: [True, False, "yes", "No", "on", "OFF", "y"],
    Kind.WHOLE: [0, -1, 7],
    Kind.NUMBER: [0, 0.5, -2],
    Kind.COUNT: [True, 3],
    Kind.TEXTS: [[], ["a", ""]],
    Kind.NUMBERS: [[], [1, 0.5]],
    Kind.MAPPINGS: [[], [{}, {"a": 1}]],
    Kind.MAPPING: [{}, {"a": [1]}],
    Kind.TEXT_MAPPING: [{}, {"a": "b"}],
    Kind.FLAG_MAPPING: [{}, {"a": True, "b": "no"}],
    Kind.WHOLE_MAPPING: [{}, {"a": 1}],
    Kind.ANYTHING: ["a", 1, [1], {"a": {}}],
}
REFUSED: dict[Kind, list[Any]] = {
    Kind.TEXT: [1, True, [], {}],
    Kind.WORD: [[], {}],
    Kind.FLAG: [1, "maybe", []],
    Kind.WHOLE: [1.5, "1", True],
    Kind.NUMBER: ["1", False, [1]],
    Kind.COUNT: [0.5, "true"],
    Kind.TEXTS: ["a", [1], {}],
    Kind.NUMBERS: [1, ["1"], [True]],
    Kind.MAPPINGS: [{}, ["a"]],
    Kind.MAPPING: [[], "a", 1],
    Kind.TEXT_MAPPING: [[], {"a": 1}],
    Kind.FLAG_MAPPING: [{"a": "maybe"}, True],
    Kind.WHOLE_MAPPING: [{"a": 0.5}, 1],
    Kind.ANYTHING: [],
}
KEYS = [(key, kind) for key, kind in TOP_LEVEL.items()] + [
    (f"{path}.{key}", kind) for path, keys in BLOCKS.items() for key, kind in keys.items()
]


def _entry(path: str, value: Any) -> dict[str, Any]:
    """A definition with one value at a dotted path."""
    for key in reversed(path.split(".")):
        value = {key: value}
    entry: dict[str, Any] = value
    return entry


@pytest.mark.parametrize(("path", "kind"), KEYS, ids=[path for path, _ in KEYS])
def test_every_key_takes_its_kind_and_nothing_else(path: str, kind: Kind) -> None:
    for value in [None, *TAKEN[kind]]:
        if not (isinstance(value, dict) and path in BLOCKS):
            check_values(_entry(path, value), "x.yaml")
    for value in REFUSED[kind]:
        with pytest.raises(InvalidRequest) as caught:
            check_values(_entry(path, value), "x.yaml")
        assert caught.value.code == "invalid_definition"
        assert caught.value.message.startswith(f"x.yaml needs {kind.value} in '{path}', ")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": 5}, "x needs text in 'name', not a number: put it in quotes."),
        ({"usage": False}, "x needs text in 'usage', not true or false: put it in quotes."),
        ({"usage": []}, "x needs text in 'usage', not a list."),
        ({"threads": "5"}, "x needs a whole number in 'threads', not text."),
        ({"stopwords": [1]}, "x needs a list of texts in 'stopwords', and one of its values is not."),
        ({"roles": {"user": 1}}, "x needs a mapping to texts in 'roles', and one of its values is not."),
        ({"template": b"a"}, "x needs a mapping in 'template', not bytes."),
    ],
)
def test_messages_say_what_is_there(entry: Fields, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_values(entry, "x")
    assert caught.value.message == message


def test_reading_what_is_there_and_what_is_not() -> None:
    fields: Fields = {"a": "t", "b": ["x", "", "y"], "c": "yes", "d": True, "e": {"f": {"g": 1}}, "n": 0.5, "z": None}
    assert (read_text(fields, "a"), read_text(fields, "z"), read_text(fields, "?")) == ("t", "", "")
    assert (read_texts(fields, "b"), read_texts(fields, "z")) == (("x", "y"), ())
    assert [read_flag(fields, key) for key in ("c", "d", "z")] == [True, True, False]
    assert (read_block(fields, "e"), read_block(fields, "z")) == ({"f": {"g": 1}}, {})
    assert (block_at(fields, "e.f"), block_at(fields, "e.x.y")) == ({"g": 1}, {})
    assert (read_number(fields, "n", (0, 1), "x"), read_number(fields, "z", (0, 1), "x")) == (0.5, None)


@pytest.mark.parametrize("bounds", [(0.6, 1), (0, 0.4)])
def test_a_number_out_of_bounds(bounds: tuple[float, float]) -> None:
    with pytest.raises(InvalidRequest, match=r"x needs a number from \S+ to \S+ in 'p\.n', not 0\.5"):
        read_number({"n": 0.5}, "n", bounds, "x", prefix="p.")


def test_patterns() -> None:
    assert read_patterns({"p": ["a+", ""]}, "p", "x") == ("a+",)
    for pattern, problem in (
        ("[", "'\\[' is none"),
        ("a" * 2001, "more than 2000 characters"),
        ("a{99999999999}", "is none"),
    ):
        with pytest.raises(InvalidRequest, match=problem):
            read_patterns({"p": [pattern]}, "p", "x")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*TOP_LEVEL, "other"]), _VALUES, max_size=6))
def test_any_values_are_taken_or_refused(entry: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidRequest):
        check_values(entry, "x")
