"""The functions of Go's templates, except ``and`` and ``or``, which do not run all their arguments (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from localai.node.go_template.comparing import equal, less
from localai.node.go_template.errors import Problem
from localai.node.go_template.formatting import NO_VALUE, print_format, print_line, print_values
from localai.node.go_template.functions import Function, Wants
from localai.node.go_template.limits import Budget
from localai.node.go_template.quoting import escape_html, escape_js, escape_query
from localai.node.go_template.values import MISSING, Kind, Value, is_true, kind_of, raw_bytes, type_name


def _eq(_budget: Budget, left: Value, *right: Value) -> Value:
    if not right:
        raise Problem("eq takes at least 2 arguments, not 1")
    return any(equal(left, value) for value in right)


def _len(_budget: Budget, value: Value) -> Value:
    if isinstance(value, str):
        return len(raw_bytes(value))
    if isinstance(value, (list, tuple, Mapping)):
        return len(value)
    raise Problem(f"len needs a text, a list or a map, not {type_name(value)}")


def _index(_budget: Budget, value: Value, *keys: Value) -> Value:
    if kind_of(value) is Kind.NIL:
        raise Problem("index needs a text, a list or a map, not nil")
    for key in keys:
        value = _element(value, key)
    return value


def _element(value: Value, key: Value) -> Value:
    if isinstance(value, Mapping):
        if not isinstance(key, str):
            raise Problem(f"index needs a text as the key of a map, not {type_name(key)}")
        return value.get(key, MISSING)
    if not isinstance(value, (str, list, tuple)):
        raise Problem(f"index needs a text, a list or a map, not {type_name(value)}")
    if kind_of(key) is not Kind.INT:
        raise Problem(f"index needs a whole number for a list or a text, not {type_name(key)}")
    elements = raw_bytes(value) if isinstance(value, str) else value
    position = cast("int", key)
    if not 0 <= position < len(elements):
        raise Problem(f"index {position} is outside of the {len(elements)} elements")
    return elements[position]


def _escaper(escape: Callable[[str], str]) -> Function:
    def run(budget: Budget, *values: Value) -> Value:
        shown = [NO_VALUE if value is None else value for value in values]
        return escape(print_values(shown, budget))

    return Function(run, rest=Wants.ANY)


_ANY = Wants.ANY
_TWO = (_ANY, _ANY)

BUILTINS: Mapping[str, Function] = {
    "eq": Function(_eq, (_ANY,), _ANY),
    "ne": Function(lambda _budget, left, right: not equal(left, right), _TWO),
    "lt": Function(lambda _budget, left, right: less(left, right), _TWO),
    "le": Function(lambda _budget, left, right: less(left, right) or equal(left, right), _TWO),
    "gt": Function(lambda _budget, left, right: not less(left, right) and not equal(left, right), _TWO),
    "ge": Function(lambda _budget, left, right: not less(left, right), _TWO),
    "not": Function(lambda _budget, value: not is_true(value), (_ANY,)),
    "len": Function(_len, (_ANY,)),
    "index": Function(_index, (_ANY,), _ANY),
    "print": Function(lambda budget, *values: print_values(values, budget), rest=_ANY),
    "println": Function(lambda budget, *values: print_line(values, budget), rest=_ANY),
    "printf": Function(lambda budget, pattern, *values: print_format(pattern, values, budget), (Wants.TEXT,), _ANY),
    "html": _escaper(escape_html),
    "js": _escaper(escape_js),
    "urlquery": _escaper(escape_query),
}
