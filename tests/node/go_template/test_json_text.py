"""Expected texts are what Go 1.26's ``encoding/json`` gave."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.go_template.errors import OverLimit, Problem
from localai.node.go_template.json_text import json_text, value_from_json
from localai.node.go_template.limits import MAX_NESTING, MAX_TEXT_CHARS, Budget
from localai.node.go_template.values import MISSING, Field, Record, Value


def written(value: Value) -> str:
    return json_text(value, Budget())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (MISSING, "null"),
        (True, "true"),
        (False, "false"),
        (-12, "-12"),
        (1.0, "1"),
        (-0.0, "-0"),
        (0.1, "0.1"),
        (1000000.5, "1000000.5"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (-1e-7, "-1e-7"),
        (5e-324, "5e-324"),
        ("é<b>&\"'", '"é\\u003cb\\u003e\\u0026\\"\'"'),
        ("\u2028\x01\x7f\n\t/\b\f\r\\", '"\\u2028\\u0001\x7f\\n\\t/\\b\\f\\r\\\\"'),
        ("\udcff", '"\\ufffd"'),
        ([], "[]"),
        ({}, "{}"),
        ([1, [2, {}]], "[1,[2,{}]]"),
        ({"b": 1, "B": 2, "é": 3, "aa": 4, "": 5}, '{"":5,"B":2,"aa":4,"b":1,"é":3}'),
        (Record((Field("B", 1, "b"), Field("Hidden", 2), Field("A", "x", "a"))), '{"b":1,"a":"x"}'),
    ],
)
def test_values_are_written_as_go_does(value: Value, text: str) -> None:
    assert written(value) == text


def test_other_forms() -> None:
    value: Value = {"b": [1, {"<": "&"}], "a": {}, "c": []}
    pretty = '{\n  "a": {},\n  "b": [\n    1,\n    {\n      "\\u003c": "\\u0026"\n    }\n  ],\n  "c": []\n}'
    assert json_text(value, Budget(), indent="  ") == pretty
    assert json_text(value, Budget(), escape_html=False) == '{"a":{},"b":[1,{"<":"&"}],"c":[]}'


@pytest.mark.parametrize("value", [math.inf, [-math.inf], {"a": math.nan}])
def test_what_json_cannot_say(value: Value) -> None:
    with pytest.raises(Problem, match="infinity"):
        written(value)


def test_too_much_is_refused() -> None:
    deep: Value = 1
    for _ in range(MAX_NESTING + 1):
        deep = [deep]
    for value in (deep, ["x" * (MAX_TEXT_CHARS // 2)] * 3, [0] * 200_000):
        with pytest.raises(OverLimit):
            written(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (' {"a": [1, 2.5, "x", null, true]} ', {"a": [1.0, 2.5, "x", None, True]}),
        ('{"a": 1, "a": 2}', {"a": 2.0}),
        ('"\\ud800"', "\ufffd"),
        ('{"\\udfff": 1}', {"\ufffd": 1.0}),
        ("10000000000000000000000", 1e22),
    ],
)
def test_texts_are_read_as_go_does(text: str, value: Value) -> None:
    read = value_from_json(text)
    assert read == value
    assert repr(read) == repr(value)


@pytest.mark.parametrize("text", ["", "nope", "1 2", "NaN", "-Infinity", "1e999", "9" * 5000, "[01]", '{"a":}', "'a'"])
def test_what_is_not_json(text: str) -> None:
    with pytest.raises(Problem, match="not JSON"):
        value_from_json(text)


def test_deep_json_is_refused() -> None:
    with pytest.raises(OverLimit):
        value_from_json("[" * 100_000)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON)
def test_what_is_written_reads_back(value: Value) -> None:
    assert json.loads(written(value), parse_int=float) == value
    assert value_from_json(json_text(value, Budget(), indent="  ")) == value
