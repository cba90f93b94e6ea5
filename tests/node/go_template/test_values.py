from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.node.go_template.errors import Problem
from localai.node.go_template.values import (
    MISSING,
    Field,
    Kind,
    Record,
    Value,
    clean_text,
    is_true,
    kind_of,
    raw_bytes,
    text_from_bytes,
    type_name,
)


@pytest.mark.parametrize(
    ("value", "kind", "name", "truth"),
    [
        (None, Kind.NIL, "<nil>", False),
        (MISSING, Kind.NIL, "<nil>", False),
        (True, Kind.BOOL, "bool", True),
        (False, Kind.BOOL, "bool", False),
        (0, Kind.INT, "int", False),
        (-1, Kind.INT, "int", True),
        (0.0, Kind.FLOAT, "float64", False),
        (0.5, Kind.FLOAT, "float64", True),
        ("", Kind.TEXT, "string", False),
        (" ", Kind.TEXT, "string", True),
        ([], Kind.LIST, "[]interface {}", False),
        ((0,), Kind.LIST, "[]interface {}", True),
        ({}, Kind.MAP, "map[string]interface {}", False),
        (MappingProxyType({"a": 1}), Kind.MAP, "map[string]interface {}", True),
        (Record(()), Kind.RECORD, "struct", True),
    ],
)
def test_kinds_and_truth(value: Value, kind: Kind, name: str, truth: bool) -> None:
    assert (kind_of(value), type_name(value), is_true(value)) == (kind, name, truth)


@pytest.mark.parametrize("value", [b"x", {1}, object(), 1 << 65])
def test_what_templates_cannot_hold(value: object) -> None:
    with pytest.raises(Problem, match="cannot use"):
        kind_of(value)  # type: ignore[arg-type]  # what a caller must not do


def test_a_record_has_its_fields_and_no_others() -> None:
    record = Record((Field("A", 1), Field("B", "x")))
    assert record.get("B") == "x"
    with pytest.raises(Problem, match=r"no field \.C, only \.A, \.B"):
        record.get("C")


@given(st.binary())
def test_any_bytes_survive_as_text(data: bytes) -> None:
    assert raw_bytes(text_from_bytes(data)) == data


@given(st.text(st.characters()))
def test_a_clean_text_can_be_sent(text: str) -> None:
    assert clean_text(text).encode() or not text


def test_two_halves_make_a_character_and_one_does_not() -> None:
    first, second = text_from_bytes(b"\xc3"), text_from_bytes(b"\xa9")
    assert clean_text(first + second) == "é"
    assert clean_text(first) == "\ufffd"
    assert clean_text("\ud800") == "\ufffd"
    assert clean_text("plain") == "plain"
