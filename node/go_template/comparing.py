"""``eq``, ``lt`` and equality of whole values, as strict about types as Go (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from localai.node.go_template.errors import Problem
from localai.node.go_template.limits import Budget, check_nesting
from localai.node.go_template.values import Kind, Record, Value, kind_of, type_name

_SCALARS = frozenset({Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.TEXT})
_ORDERED = frozenset({Kind.INT, Kind.FLOAT, Kind.TEXT})


def equal(left: Value, right: Value) -> bool:
    """``eq left right``: nil equals only nil, and 1 and 1.0 do not go together.

    Raises:
        Problem: the two types cannot be compared.
    """
    kinds = kind_of(left), kind_of(right)
    if Kind.NIL in kinds:
        return kinds[0] is kinds[1]
    if kinds[0] is not kinds[1] or kinds[0] not in _SCALARS:
        raise Problem(f"{type_name(left)} and {type_name(right)} cannot be compared")
    return left == right


def less(left: Value, right: Value) -> bool:
    """``lt left right``; texts by their characters.

    Raises:
        Problem: the two types have no order.
    """
    kind = kind_of(left)
    if kind is not kind_of(right) or kind not in _ORDERED:
        raise Problem(f"{type_name(left)} and {type_name(right)} have no order")
    return cast("float", left) < cast("float", right)  # or two texts


def deep_equal(left: Value, right: Value, budget: Budget, depth: int = 0) -> bool:
    """Same type and same content, all the way down.

    Raises:
        OverLimit: nested too deep, or too large.
    """
    budget.spend()
    check_nesting(depth)
    kind = kind_of(left)
    if kind is not kind_of(right):
        return False
    match kind:
        case Kind.NIL:
            return True
        case Kind.LIST:
            return _all_equal(cast("Sequence[Value]", left), cast("Sequence[Value]", right), budget, depth)
        case Kind.RECORD:
            sides = [[field.value for field in cast("Record", side).fields] for side in (left, right)]
            return _all_equal(sides[0], sides[1], budget, depth)
        case Kind.MAP:
            one, other = cast("Mapping[str, Value]", left), cast("Mapping[str, Value]", right)
            return one.keys() == other.keys() and all(
                deep_equal(one[key], other[key], budget, depth + 1) for key in one
            )
        case _:
            return left == right


def _all_equal(left: Sequence[Value], right: Sequence[Value], budget: Budget, depth: int) -> bool:
    return len(left) == len(right) and all(
        deep_equal(one, other, budget, depth + 1) for one, other in zip(left, right, strict=True)
    )
