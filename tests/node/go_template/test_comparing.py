from __future__ import annotations

import pytest

from localai.node.go_template.comparing import deep_equal, equal, less
from localai.node.go_template.errors import OverLimit, Problem
from localai.node.go_template.limits import MAX_NESTING, Budget
from localai.node.go_template.values import MISSING, Field, Record, Value


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1, True),
        (1, 2, False),
        ("a", "a", True),
        (1.5, 1.5, True),
        (True, False, False),
        (None, MISSING, True),
        (None, 1, False),
        ([1], None, False),
        (MISSING, "", False),
    ],
)
def test_equal(left: Value, right: Value, same: bool) -> None:
    assert equal(left, right) is same


@pytest.mark.parametrize(
    ("left", "right"), [(1, 1.0), (1, True), ("1", 1), ([1], [1]), ({}, {}), ([1], {}), (Record(()), Record(()))]
)
def test_types_that_do_not_go_together(left: Value, right: Value) -> None:
    with pytest.raises(Problem, match="cannot be compared"):
        equal(left, right)


def test_less() -> None:
    assert less(1, 2)
    assert less("a", "b")
    assert not less(1.5, 1.5)


@pytest.mark.parametrize(("left", "right"), [(1, 1.5), (True, False), (None, 1), ([], []), ("a", 1)])
def test_what_has_no_order(left: Value, right: Value) -> None:
    with pytest.raises(Problem, match="have no order"):
        less(left, right)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, False),
        (None, MISSING, True),
        ([1, ["a"]], [1, ["a"]], True),
        ([1], [2], False),
        ([1], [1, 2], False),
        ({"a": [1]}, {"a": [1]}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"b": 1}, False),
        (Record((Field("A", 1),)), Record((Field("A", 1),)), True),
        (Record((Field("A", 1),)), Record((Field("A", 2),)), False),
        ("x", "x", True),
    ],
)
def test_deep_equal(left: Value, right: Value, same: bool) -> None:
    assert deep_equal(left, right, Budget()) is same


def test_comparing_has_an_end() -> None:
    left: Value = 1
    right: Value = 1
    for _ in range(MAX_NESTING - 1):  # 2^63 comparisons
        left, right = [left, left], [right, right]
    with pytest.raises(OverLimit, match="steps"):
        deep_equal(left, right, Budget())
    with pytest.raises(OverLimit, match="nested"):
        deep_equal([[left]], [[right]], Budget())
