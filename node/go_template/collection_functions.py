"""Sprig's functions on lists, maps, defaults and numbers (pure).

Numbers are Go's 64-bit ones and wrap around; texts are read as numbers where sprig does. Differences: ``keys`` and
``values`` are in key order, where Go has none; ``rest`` of nothing is an empty list, not nil; there is one whole number
type, where sprig's arithmetic gives ``int64``, which only ``kindOf`` and complaints of ``printf`` would show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from localai.node.go_template.comparing import deep_equal
from localai.node.go_template.errors import Problem
from localai.node.go_template.functions import Function, Wants
from localai.node.go_template.limits import MAX_STEPS, Budget
from localai.node.go_template.literals import MIN_INT, read_int
from localai.node.go_template.text_functions import shown
from localai.node.go_template.values import Value, is_true, kind_of, type_name


def to_int(value: Value) -> int:
    """The whole number in ``value``: floats are cut, texts read (``0x10``, ``010`` is 8, ``5.0``), all else is 0."""
    if isinstance(value, (bool, int)):
        return wrapped(int(value))
    if isinstance(value, float):
        return int(value) if abs(value) < 1 << 63 else MIN_INT
    if isinstance(value, str):
        whole, point, zeros = value.rpartition(".")
        return read_int(whole if point and zeros and not zeros.strip("0") else value) or 0
    return 0


def wrapped(number: int) -> int:
    """``number`` in 64 bits, as Go's arithmetic leaves it."""
    return (number - MIN_INT) % (1 << 64) + MIN_INT


def _items(value: Value, name: str) -> list[Value]:
    if isinstance(value, (list, tuple)):
        return list(value)
    raise Problem(f"{name} needs a list, not {type_name(value)}")


def _on_list(name: str, run: Callable[[list[Value]], Value]) -> Function:
    return Function(lambda _budget, value: run(_items(value, name)), (Wants.ANY,))


def _without(budget: Budget, value: Value, *unwanted: Value) -> Value:
    items = _items(value, "without")
    return [item for item in items if not any(deep_equal(item, other, budget) for other in unwanted)]


def _uniq(budget: Budget, value: Value) -> Value:
    seen: list[Value] = []
    for item in _items(value, "uniq"):
        if not any(deep_equal(item, other, budget) for other in seen):
            seen.append(item)
    return seen


def _has(budget: Budget, needle: Value, value: Value) -> Value:
    return value is not None and any(deep_equal(needle, item, budget) for item in _items(value, "has"))


def _concat(_budget: Budget, *values: Value) -> Value:
    return [item for value in values for item in _items(value, "concat")]


def _slice(_budget: Budget, value: Value, *bounds: Value) -> Value:
    items = _items(value, "slice")
    if not items:
        return None
    start = to_int(bounds[0]) if bounds else 0
    end = to_int(bounds[1]) if len(bounds) > 1 else len(items)
    if not 0 <= start <= end <= len(items):
        raise Problem(f"slice from {start} to {end} is outside of the {len(items)} elements")
    return items[start:end]


def _until(budget: Budget, count: int) -> Value:
    budget.spend(min(abs(count), MAX_STEPS))
    return list(range(count)) if count >= 0 else list(range(0, count, -1))


def _dict(budget: Budget, *values: Value) -> Value:
    padded = [*values, ""]  # a last key without a value gets an empty text
    return {shown(padded[at], budget): padded[at + 1] for at in range(0, len(values), 2)}


def _get(_budget: Budget, mapping: Mapping[str, Value], key: str) -> Value:
    return mapping.get(key, "")


def _keys(_budget: Budget, *mappings: Mapping[str, Value]) -> Value:
    return [key for mapping in mappings for key in sorted(mapping)]


def _values(_budget: Budget, mapping: Mapping[str, Value]) -> Value:
    return [mapping[key] for key in sorted(mapping)]


def _default(_budget: Budget, fallback: Value, *given: Value) -> Value:
    return given[0] if given and is_true(given[0]) else fallback


def _coalesce(_budget: Budget, *values: Value) -> Value:
    return next((value for value in values if is_true(value)), None)


def _ternary(_budget: Budget, yes: Value, no: Value, condition: bool) -> Value:
    return yes if condition else no


def _product(_budget: Budget, *values: Value) -> Value:
    result = 1
    for value in values:
        result = wrapped(result * to_int(value))
    return result


def _quotient(name: str, pick: Callable[[int, int], int]) -> Function:
    def run(_budget: Budget, left: Value, right: Value) -> Value:
        divisor = to_int(right)
        if divisor == 0:
            raise Problem(f"{name} cannot divide by 0")
        return wrapped(pick(to_int(left), divisor))

    return Function(run, _TWO)


def _div(left: int, right: int) -> int:
    """Towards zero."""
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


_ANY = Wants.ANY
_ONE = (_ANY,)
_TWO = (_ANY, _ANY)
_PUSH = Function(lambda _budget, value, item: [*_items(value, "append"), item], _TWO)
_TO_INT = Function(lambda _budget, value: to_int(value), _ONE)

COLLECTION_FUNCTIONS: Mapping[str, Function] = {
    "list": Function(lambda _budget, *values: list(values), rest=_ANY),
    "first": _on_list("first", lambda items: items[0] if items else None),
    "last": _on_list("last", lambda items: items[-1] if items else None),
    "rest": _on_list("rest", lambda items: items[1:]),
    "initial": _on_list("initial", lambda items: items[:-1]),
    "reverse": _on_list("reverse", lambda items: items[::-1]),
    "compact": _on_list("compact", lambda items: [item for item in items if is_true(item)]),
    "uniq": Function(_uniq, _ONE),
    "without": Function(_without, _ONE, _ANY),
    "has": Function(_has, _TWO),
    "append": _PUSH,
    "push": _PUSH,
    "prepend": Function(lambda _budget, value, item: [item, *_items(value, "prepend")], _TWO),
    "concat": Function(_concat, rest=_ANY),
    "slice": Function(_slice, _ONE, _ANY),
    "until": Function(_until, (Wants.INT,)),
    "dict": Function(_dict, rest=_ANY),
    "get": Function(_get, (Wants.MAP, Wants.TEXT)),
    "hasKey": Function(lambda _budget, mapping, key: key in mapping, (Wants.MAP, Wants.TEXT)),
    "keys": Function(_keys, rest=Wants.MAP),
    "values": Function(_values, (Wants.MAP,)),
    "default": Function(_default, _ONE, _ANY),
    "empty": Function(lambda _budget, value: not is_true(value), _ONE),
    "coalesce": Function(_coalesce, rest=_ANY),
    "ternary": Function(_ternary, (_ANY, _ANY, Wants.BOOL)),
    "all": Function(lambda _budget, *values: all(map(is_true, values)), rest=_ANY),
    "any": Function(lambda _budget, *values: any(map(is_true, values)), rest=_ANY),
    "kindOf": Function(lambda _budget, value: kind_of(value).value, _ONE),
    "kindIs": Function(lambda _budget, kind, value: kind == kind_of(value).value, (Wants.TEXT, _ANY)),
    "int": _TO_INT,
    "int64": _TO_INT,
    "add": Function(lambda _budget, *values: wrapped(sum(map(to_int, values))), rest=_ANY),
    "add1": Function(lambda _budget, value: wrapped(to_int(value) + 1), _ONE),
    "sub": Function(lambda _budget, left, right: wrapped(to_int(left) - to_int(right)), _TWO),
    "mul": Function(_product, _ONE, _ANY),
    "div": _quotient("div", _div),
    "mod": _quotient("mod", lambda left, right: left - right * _div(left, right)),
    "max": Function(lambda _budget, *values: max(map(to_int, values)), _ONE, _ANY),
    "min": Function(lambda _budget, *values: min(map(to_int, values)), _ONE, _ANY),
}
