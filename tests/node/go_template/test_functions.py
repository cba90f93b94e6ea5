from __future__ import annotations

import pytest

from localai.node.go_template.errors import OverLimit, Problem
from localai.node.go_template.functions import Function, Wants, call
from localai.node.go_template.limits import MAX_TEXT_CHARS, Budget
from localai.node.go_template.values import MISSING, Value

ECHO = Function(lambda _budget, *values: list(values), rest=Wants.ANY)


def one(wants: Wants, value: Value) -> Value:
    return call(Function(lambda _budget, given: given, (wants,)), "f", [value], Budget())


def test_arguments_arrive_as_they_are_but_nothing_is_nil() -> None:
    assert call(ECHO, "f", [1, MISSING, None, "x"], Budget()) == [1, None, None, "x"]
    assert one(Wants.MAP, MISSING) == {}
    assert one(Wants.MAP, {"a": 1}) == {"a": 1}
    assert one(Wants.INT, 3.0) == 3
    assert one(Wants.BOOL, True) is True
    assert one(Wants.TEXT, "a") == "a"


@pytest.mark.parametrize(
    ("wants", "value", "words"),
    [
        (Wants.TEXT, 1, "f needs a text as argument 1, not int"),
        (Wants.TEXT, MISSING, "not <nil>"),
        (Wants.INT, 1.5, "a whole number as argument 1, not float64"),
        (Wants.INT, 1e300, "not float64"),
        (Wants.INT, True, "not bool"),
        (Wants.BOOL, 1, "true or false as argument 1"),
        (Wants.MAP, None, "a map as argument 1, not <nil>"),
        (Wants.MAP, [], r"not \[\]interface {}"),
    ],
)
def test_wrong_arguments_are_refused(wants: Wants, value: Value, words: str) -> None:
    with pytest.raises(Problem, match=words):
        one(wants, value)


@pytest.mark.parametrize(
    ("function", "count", "words"),
    [
        (Function(lambda _budget, value: value, (Wants.ANY,)), 0, "f takes 1 argument, not 0"),
        (Function(lambda _budget, value: value, (Wants.ANY,)), 2, "f takes 1 argument, not 2"),
        (Function(lambda _budget: 1), 1, "f takes 0 arguments, not 1"),
        (Function(lambda _budget, *_: 1, (Wants.ANY,), Wants.ANY), 0, "f takes at least 1 argument, not 0"),
    ],
)
def test_arguments_are_counted(function: Function, count: int, words: str) -> None:
    with pytest.raises(Problem, match=words):
        call(function, "f", [1] * count, Budget())


def test_the_rest_is_checked_too() -> None:
    maps = Function(lambda _budget, *values: len(values), (Wants.TEXT,), Wants.MAP)
    assert call(maps, "f", ["a", {}, {}], Budget()) == 3
    with pytest.raises(Problem, match="a map as argument 3, not string"):
        call(maps, "f", ["a", {}, "b"], Budget())


def test_arguments_and_results_are_paid_for() -> None:
    with pytest.raises(OverLimit, match="steps"):
        call(ECHO, "f", ["x" * 640], Budget(steps=9))
    with pytest.raises(OverLimit, match="steps"):
        call(Function(lambda _budget: [1] * 40), "f", [], Budget(steps=9))
    with pytest.raises(OverLimit, match="1 MiB"):
        call(Function(lambda _budget: "x" * (MAX_TEXT_CHARS + 1)), "f", [], Budget())
