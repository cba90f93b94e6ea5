"""Values as Go prints them: ``%v``, ``print``, ``println``, ``printf`` (pure).

``printf`` knows the flags ``+ - blank 0``, width and precision as numbers, and the verbs ``v s q d b o O x X c U t``
``e E f F g G T %``. Its complaints, such as ``%!d(string=x)``, are part of the output, as in Go. What it does not know,
``*``, ``#``, argument numbers and ``%x`` of floats, is an error here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from localai.node.go_template.errors import Problem
from localai.node.go_template.limits import Budget, check_nesting, check_text_size
from localai.node.go_template.quoting import character_of, quote_character, quote_text
from localai.node.go_template.values import Kind, Record, Value, kind_of, raw_bytes, type_name

NO_VALUE = "<no value>"
"""What ``{{.}}`` prints for nil and for what is missing; functions print :data:`NIL`."""
NIL = "<nil>"

_DIRECTIVE = re.compile(r"%([-+ 0]*)([0-9]*)(?:\.([0-9]*))?(.?)", re.DOTALL)
_UNKNOWN_FLAGS = frozenset("#*[")
_MAX_PLAIN_EXPONENT = 6
_INT_FORMATS = {"v": "d", "d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_FLOAT_VERBS = frozenset("veEfFgG")
_TEXT_VERBS = frozenset("vsqxX")


@dataclass(frozen=True, slots=True)
class _Spec:
    """One directive of printf."""

    verb: str = "v"
    flags: str = ""
    width: int = 0
    precision: int | None = None


_PLAIN = _Spec()


def format_value(value: Value, budget: Budget) -> str:
    """``value`` as ``%v``: ``[a b]``, ``map[k:v]``, ``{a b}``, ``<nil>``.

    Raises:
        OverLimit: nested too deep, or too large.
    """
    return _formatted(value, _PLAIN, budget, 0)


def print_values(values: Sequence[Value], budget: Budget) -> str:
    """``print``: a blank only between two values of which neither is a text.

    Raises:
        OverLimit: as above.
    """
    parts: list[str] = []
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            parts.append(" ")
        parts.append(format_value(value, budget))
    return "".join(parts)


def print_line(values: Sequence[Value], budget: Budget) -> str:
    """``println``: blanks between all of them and a newline.

    Raises:
        OverLimit: as above.
    """
    return " ".join(format_value(value, budget) for value in values) + "\n"


def print_format(pattern: str, values: Sequence[Value], budget: Budget) -> str:
    """``printf``.

    Raises:
        Problem: a directive that is not supported.
        OverLimit: as above.
    """
    parts: list[str] = []
    size = used = position = 0
    for match in _DIRECTIVE.finditer(pattern):
        spec = _spec(match)
        if spec.verb in ("%", ""):
            piece = "%" if spec.verb else "%!(NOVERB)"
        elif used < len(values):
            piece = _formatted(values[used], spec, budget, 0)
            used += 1
        else:
            piece = f"%!{spec.verb}(MISSING)"
        parts += (pattern[position : match.start()], piece)
        position = match.end()
        size += len(piece)
        check_text_size(size)
    parts.append(pattern[position:])
    if used < len(values):
        extra = ", ".join(_with_type(value, _PLAIN, budget) for value in values[used:])
        parts.append(f"%!(EXTRA {extra})")
    return "".join(parts)


def _spec(match: re.Match[str]) -> _Spec:
    flags, width, precision, verb = match.groups()
    if verb in _UNKNOWN_FLAGS:
        raise Problem(f"printf with {verb} is not supported")
    if len(width) > 7 or len(precision or "") > 7:
        raise Problem("printf has a width or precision of more than 7 digits")
    check_text_size(int(width or 0))
    check_text_size(int(precision or 0))
    if verb == "v":
        flags = flags.replace("+", "")  # of structs it would show the field names
    return _Spec(verb, flags, int(width or 0), None if precision is None else int(precision or 0))


def _formatted(value: Value, spec: _Spec, budget: Budget, depth: int) -> str:
    budget.spend()
    check_nesting(depth)
    if spec.verb == "T" and depth == 0:
        return _padded(type_name(value), spec)
    match kind_of(value):
        case Kind.NIL:
            plain = spec.verb == "v" or depth > 0
            return (NIL if depth else _padded(NIL, spec)) if plain else f"%!{spec.verb}({NIL})"
        case Kind.LIST:
            items = cast("Sequence[Value]", value)
            return f"[{_joined(items, spec, budget, depth)}]"
        case Kind.RECORD:
            fields = [field.value for field in cast("Record", value).fields]
            return f"{{{_joined(fields, spec, budget, depth)}}}"
        case Kind.MAP:
            return _map(cast("Mapping[str, Value]", value), spec, budget, depth)
        case _:
            text = _scalar(value, spec)
            check_text_size(len(text or ""))
            return f"%!{spec.verb}({_with_type(value, spec, budget)})" if text is None else text


def _joined(items: Sequence[Value], spec: _Spec, budget: Budget, depth: int) -> str:
    parts: list[str] = []
    size = 0
    for item in items:
        parts.append(_formatted(item, spec, budget, depth + 1))
        size += len(parts[-1]) + 1
        check_text_size(size)
    return " ".join(parts)


def _map(items: Mapping[str, Value], spec: _Spec, budget: Budget, depth: int) -> str:
    parts: list[str] = []
    size = 0
    for key in sorted(items):
        shown = _formatted(key, spec, budget, depth + 1)
        parts.append(f"{shown}:{_formatted(items[key], spec, budget, depth + 1)}")
        size += len(parts[-1]) + 1
        check_text_size(size)
    return f"map[{' '.join(parts)}]"


def _with_type(value: Value, spec: _Spec, budget: Budget) -> str:
    """``int=1``, as printf shows an argument that it cannot use."""
    if kind_of(value) is Kind.NIL:
        return NIL
    shown = _Spec("v", spec.flags, spec.width, spec.precision)
    return f"{type_name(value)}={_formatted(value, shown, budget, 0)}"


def _scalar(value: Value, spec: _Spec) -> str | None:
    """A bool, number or text; None when the verb does not fit it."""
    if isinstance(value, bool):
        return _padded("true" if value else "false", spec) if spec.verb in "vt" else None
    if isinstance(value, int):
        return _int(value, spec)
    if isinstance(value, float):
        return _float(value, spec)
    return _text(cast("str", value), spec)


def _int(value: int, spec: _Spec) -> str | None:
    match spec.verb:
        case "c":
            return _padded(character_of(value), spec)
        case "q":
            return _padded(quote_character(value), spec)
        case "U":
            return _padded(f"U+{value & (1 << 64) - 1:04X}", spec)
        case verb if verb in _INT_FORMATS:
            digits = format(abs(value), _INT_FORMATS[verb])
        case _:
            return None
    if spec.precision is not None:
        digits = digits.zfill(spec.precision) if spec.precision or value else ""
        spec = _Spec(spec.verb, spec.flags.replace("0", ""), spec.width)
    return _signed(digits, spec, negative=value < 0, prefix="0o" if spec.verb == "O" else "")


def _float(value: float, spec: _Spec) -> str | None:
    if spec.verb in "xXb":
        raise Problem(f"printf %{spec.verb} is not supported for float64")
    if spec.verb not in _FLOAT_VERBS:
        return None
    if not math.isfinite(value):
        plain = _Spec(spec.verb, spec.flags.replace("0", ""), spec.width)
        if math.isinf(value):
            return _padded("-Inf" if value < 0 else "+Inf", plain)
        return _signed("NaN", plain, negative=False)
    magnitude = abs(value)
    verb = "g" if spec.verb == "v" else spec.verb
    if spec.precision is None and verb in "gG":
        text = shortest(magnitude)
        text = text.upper() if verb == "G" else text
    else:
        text = format(magnitude, f".{6 if spec.precision is None else spec.precision}{verb}")
    return _signed(text, spec, negative=math.copysign(1, value) < 0)


def shortest(value: float) -> str:
    """The fewest digits that stand for ``value`` (at least 0), as ``%v`` shows them: 100000, 1e+06, 0.0001, 1e-05."""
    _, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    point = len(digits) + int(exponent) - 1
    if -4 <= point < _MAX_PLAIN_EXPONENT:
        return positional(value)
    mantissa = "".join(map(str, digits))
    fraction = f".{mantissa[1:]}" if len(mantissa) > 1 else ""
    return f"{mantissa[0]}{fraction}e{'-' if point < 0 else '+'}{abs(point):02}"


def positional(value: float) -> str:
    """The fewest digits that stand for ``value``, without an exponent."""
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").removesuffix(".") if "." in text else text


def _text(value: str, spec: _Spec) -> str | None:
    if spec.verb not in _TEXT_VERBS:
        return None
    if spec.verb in "xX":
        return _padded(_hex(value, spec), spec)
    if spec.precision is not None:
        value = value[: spec.precision]
    return _padded(quote_text(value, ascii_only="+" in spec.flags) if spec.verb == "q" else value, spec)


def _hex(value: str, spec: _Spec) -> str:
    data = raw_bytes(value)[: spec.precision]
    text = data.hex(" ") if " " in spec.flags else data.hex()
    return text.upper() if spec.verb == "X" else text


def _signed(digits: str, spec: _Spec, *, negative: bool, prefix: str = "") -> str:
    sign = "-" if negative else "+" if "+" in spec.flags else " " if " " in spec.flags else ""
    if "0" in spec.flags and "-" not in spec.flags:
        digits = digits.zfill(spec.width - len(sign))
    return _padded(f"{sign}{prefix}{digits}", spec)


def _padded(text: str, spec: _Spec) -> str:
    if "-" in spec.flags:
        return text.ljust(spec.width)
    return text.rjust(spec.width, "0" if "0" in spec.flags else " ")
