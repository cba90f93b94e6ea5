"""What a function of a template is, and how its arguments are checked (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from localai.node.go_template.errors import Problem
from localai.node.go_template.limits import MAX_TEXT_CHARS, Budget, check_text_size
from localai.node.go_template.values import MISSING, Kind, Value, kind_of, type_name


class Wants(Enum):
    """What a parameter takes. The value is how messages call it."""

    ANY = "a value"
    TEXT = "a text"
    INT = "a whole number"
    BOOL = "true or false"
    MAP = "a map"


_KINDS = {Wants.TEXT: Kind.TEXT, Wants.INT: Kind.INT, Wants.BOOL: Kind.BOOL, Wants.MAP: Kind.MAP}


@dataclass(frozen=True, slots=True)
class Function:
    """``run`` gets the budget and the checked arguments."""

    run: Callable[..., Value]
    wants: tuple[Wants, ...] = ()
    rest: Wants | None = None
    """What any number of further arguments must be; None allows none."""


def call(function: Function, name: str, arguments: Sequence[Value], budget: Budget) -> Value:
    """The function's value.

    Raises:
        Problem: wrong arguments, or the function refuses them.
        OverLimit: it would do too much.
    """
    _check_count(function, name, len(arguments))
    given: list[Value] = []
    for position, value in enumerate(arguments):
        wants = function.wants[position] if position < len(function.wants) else function.rest
        given.append(_checked(value, wants or Wants.ANY, name, position))
        budget.handle(value)
    result = function.run(budget, *given)
    budget.handle(result)
    if isinstance(result, str) and len(result) > MAX_TEXT_CHARS:
        check_text_size(len(result))
    return result


def _check_count(function: Function, name: str, count: int) -> None:
    least = len(function.wants)
    if count < least or (count > least and function.rest is None):
        wanted = f"at least {least}" if function.rest else str(least)
        raise Problem(f"{name} takes {wanted} argument{'' if least == 1 else 's'}, not {count}")


def _checked(value: Value, wants: Wants, name: str, position: int) -> Value:
    if wants is Wants.ANY:
        return None if value is MISSING else value
    if wants is Wants.MAP and value is MISSING:
        return {}  # Go passes a nil map, which has no keys
    if wants is Wants.INT and isinstance(value, float) and value.is_integer() and abs(value) < 1 << 63:
        return int(value)  # in Go only a number written in the template, such as 3.0
    if kind_of(value) is not _KINDS[wants]:
        raise Problem(f"{name} needs {wants.value} as argument {position + 1}, not {type_name(value)}")
    return value
