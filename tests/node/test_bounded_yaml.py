"""The YAML border: LocalAI's typing, and nothing that blows up."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import InvalidRequest
from localai.node.bounded_yaml import MAX_DEPTH, MAX_VALUES, MAX_YAML_BYTES, load_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("a:", {"a": None}),
        ("flash_attention: on", {"flash_attention": "on"}),
        ("[yes, no, y, off]", ["yes", "no", "y", "off"]),
        ("[true, False]", [True, False]),
        ("[1e3, .5, 2., -1.5E-2]", [1000.0, 0.5, 2.0, -0.015]),
        ("[1, -2, 007, 0o17, 0x1F]", [1, -2, 7, 15, 31]),
        ("[12:30, 2001-01-01, 1_000]", ["12:30", "2001-01-01", "1_000"]),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("- &x 1\n- *x", [1, 1]),
        ("- &x [1, 2]\n- *x", [[1, 2], [1, 2]]),
    ],
)
def test_values_follow_the_core_rules(text: str, value: object) -> None:
    assert load_yaml(text, "x.yaml") == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "is not valid YAML"),
        ("a: b: c", "line 1, column 5"),
        ("- 1\n---\n- 2", "is not valid YAML"),
        ("{[1]: 2}", "is not valid YAML"),
        ("!!python/object:os.system {}", "is not valid YAML"),
        ("\x00", "is not valid YAML"),
        ("x: " + "9" * 5000, "is not valid YAML"),
        ("x: \ud800", "is not valid YAML"),
        ("- *a\n- &a 1", "before the anchor it names is complete"),
        ("&a [*a]", "before the anchor it names is complete"),
        ("[" * 100_000, f"deeper than {MAX_DEPTH} levels"),
        ("- 1\n" * (MAX_VALUES + 1), f"more than {MAX_VALUES} values"),
        ("#" * (MAX_YAML_BYTES + 1), "larger than 1 MiB"),
        ("é" * (MAX_YAML_BYTES // 2 + 1), "larger than 1 MiB"),
    ],
)
def test_what_it_refuses_is_said_with_the_file_name(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^x\.yaml .*Correct the file\.$") as caught:
        load_yaml(text, "x.yaml")
    assert problem in caught.value.message


def test_an_alias_bomb_is_refused_before_it_is_built() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(InvalidRequest, match="more than"):
        load_yaml("\n".join(levels), "bomb.yaml")


@given(st.text(max_size=200))
def test_any_text_gives_a_value_or_our_error(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        load_yaml(text, "x.yaml")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(_VALUES)
def test_what_is_written_comes_back(value: object) -> None:
    assert load_yaml(write_yaml(value), "x.yaml") == value
