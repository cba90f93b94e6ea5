"""JSON as Go's ``json.Marshal`` writes it, and reads it (pure).

Written: maps in key order, ``<``, ``>`` and ``&`` as ``\\u003c`` and so on, numbers with the fewest digits. Read: every
number is a float, as in Go, and nothing that Go refuses (NaN, too large numbers).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, cast

from localai.node.go_template.errors import OverLimit, Problem
from localai.node.go_template.formatting import positional, shortest
from localai.node.go_template.limits import Budget, check_nesting, check_text_size
from localai.node.go_template.values import Kind, Record, Value, kind_of

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SPECIAL = re.compile('["\\\\\x00-\x1f\u2028\u2029\ud800-\udfff]')
_SPECIAL_OR_HTML = re.compile('["\\\\\x00-\x1f\u2028\u2029\ud800-\udfff<>&]')
_SURROGATE = re.compile("[\ud800-\udfff]")


def json_text(value: Value, budget: Budget, *, escape_html: bool = True, indent: str = "") -> str:
    """``value`` in JSON; ``indent`` is what one level of a text over several lines is indented by.

    Raises:
        Problem: a number that is not finite.
        OverLimit: nested too deep, or too large.
    """
    writer = _Writer(budget, _SPECIAL_OR_HTML if escape_html else _SPECIAL, indent)
    writer.write(value, 0)
    return "".join(writer.parts)


def value_from_json(text: str) -> Value:
    """The value in ``text``.

    Raises:
        Problem: it is not JSON.
        OverLimit: nested too deep.
    """
    try:
        value: Any = json.loads(
            text, parse_int=_finite, parse_float=_finite, parse_constant=_refuse, object_pairs_hook=_mapping
        )
    except RecursionError as error:
        raise OverLimit("it reads JSON that is nested too deep") from error
    except ValueError as error:
        raise Problem("the text is not JSON") from error
    return _whole_text(value) if isinstance(value, str) else cast("Value", value)


class _Writer:
    def __init__(self, budget: Budget, special: re.Pattern[str], indent: str) -> None:
        self.parts: list[str] = []
        self._size = 0
        self._budget = budget
        self._special = special
        self._indent = indent

    def write(self, value: Value, depth: int) -> None:
        self._budget.spend()
        check_nesting(depth)
        match kind_of(value):
            case Kind.LIST:
                self._collection("[]", (("", item) for item in cast("Sequence[Value]", value)), depth)
            case Kind.MAP:
                mapping = cast("Mapping[str, Value]", value)
                self._collection("{}", ((key, mapping[key]) for key in sorted(mapping)), depth)
            case Kind.RECORD:
                fields = cast("Record", value).fields
                named = ((field.json_name, field.value) for field in fields if field.json_name)
                self._collection("{}", named, depth)
            case Kind.NIL:
                self._add("null")
            case _:
                self._add(self._scalar(cast("bool | int | float | str", value)))

    def _collection(self, brackets: str, items: Iterable[tuple[str, Value]], depth: int) -> None:
        newline = f"\n{self._indent * depth}" if self._indent else ""
        separator = brackets[0]
        for key, value in items:
            self._add(f"{separator}{newline}{self._indent}")
            if brackets == "{}":
                self._add(f"{self._quoted(key)}: " if self._indent else f"{self._quoted(key)}:")
            self.write(value, depth + 1)
            separator = ","
        self._add(f"{newline}{brackets[1]}" if separator == "," else brackets)

    def _scalar(self, value: bool | int | float | str) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return self._quoted(value)
        return str(value) if isinstance(value, int) else _number(value)

    def _quoted(self, text: str) -> str:
        return f'"{self._special.sub(lambda match: _escaped(match[0]), text)}"'

    def _add(self, text: str) -> None:
        self._size += len(text)
        check_text_size(self._size)
        self.parts.append(text)


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    return "\\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise Problem("JSON has no number for infinity")
    sign = "-" if math.copysign(1, value) < 0 else ""
    magnitude = abs(value)
    if magnitude and not 1e-6 <= magnitude < 1e21:
        return sign + shortest(magnitude).replace("e-0", "e-")
    return sign + positional(magnitude)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {_whole_text(key): value for key, value in pairs}


def _whole_text(text: str) -> str:
    """Half a surrogate pair, written as an escape, stands for nothing."""
    return _SURROGATE.sub("\ufffd", text)
