"""Reading single values of a model definition: the right kind, or an error that names file, key and need (pure).

Every function takes ``where``, which begins the message: the file, and the number of the definition in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from localai.mesh.errors import InvalidRequest
from localai.node.definition_keys import BLOCKS, TOP_LEVEL, Kind

Fields = Mapping[str, Any]
MAX_PATTERN_CHARS = 2000

_FLAGS = {"yes": True, "y": True, "on": True, "no": False, "n": False, "off": False}
"""YAML 1.1's words, which LocalAI takes where a flag is expected."""
_WORDS = (str, int, float)


def check_values(entry: Fields, where: str) -> None:
    """Make sure that every known key has a value of its kind, or none.

    Raises:
        InvalidRequest: the first that has not.
    """
    _check_mapping(entry, TOP_LEVEL, "", where)
    for path, keys in BLOCKS.items():
        if inner := block_at(entry, path):
            _check_mapping(inner, keys, f"{path}.", where)


def read_text(fields: Fields, key: str) -> str:
    """A checked text; empty when it is not there."""
    return str(fields.get(key) or "")


def read_texts(fields: Fields, key: str) -> tuple[str, ...]:
    """A checked list of texts, without empty ones."""
    return tuple(text for text in fields.get(key) or () if text)


def read_flag(fields: Fields, key: str) -> bool:
    """A checked flag; false when it is not there."""
    value = fields.get(key)
    return _FLAGS[value.lower()] if isinstance(value, str) else bool(value)


def read_block(fields: Fields, key: str) -> Fields:
    """A checked mapping; empty when it is not there."""
    return fields.get(key) or {}


def block_at(entry: Fields, path: str) -> Fields:
    """The checked mapping at a dotted path of keys; empty when it is not there."""
    for key in path.split("."):
        entry = read_block(entry, key)
    return entry


def read_number(fields: Fields, key: str, bounds: tuple[float, float], where: str, *, prefix: str = "") -> float | None:
    """A checked number; None when it is not there.

    Raises:
        InvalidRequest: it is less than the first or more than the second of ``bounds``.
    """
    value: float | None = fields.get(key)
    if value is not None and not bounds[0] <= value <= bounds[1]:
        raise invalid(where, f"needs a number from {bounds[0]} to {bounds[1]} in '{prefix}{key}', not {value}")
    return value


def read_patterns(fields: Fields, key: str, where: str) -> tuple[str, ...]:
    """A checked list of regular expressions.

    Raises:
        InvalidRequest: one is not valid, or longer than :data:`MAX_PATTERN_CHARS`.
    """
    patterns = read_texts(fields, key)
    for pattern in patterns:
        if len(pattern) > MAX_PATTERN_CHARS:
            raise invalid(where, f"has a pattern of more than {MAX_PATTERN_CHARS} characters in '{key}': shorten it")
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise invalid(
                where, f"needs valid regular expressions in '{key}': {pattern[:60]!r} is none ({error})"
            ) from error
    return patterns


def invalid(where: str, problem: str) -> InvalidRequest:
    """The error for a definition that cannot be used. ``problem`` is a predicate without full stop."""
    return InvalidRequest(f"{where} {problem}.", code="invalid_definition")


def _check_mapping(fields: Fields, keys: Mapping[str, Kind], prefix: str, where: str) -> None:
    for key, kind in keys.items():
        value = fields.get(key)
        if value is None or _fits(value, kind):
            continue
        quotes = ": put it in quotes" if kind is Kind.TEXT and isinstance(value, _WORDS) else ""
        found = "and one of its values is not" if _is_right_outside(value, kind) else f"not {_kind(value)}"
        raise invalid(where, f"needs {kind.value} in '{prefix}{key}', {found}{quotes}")


def _is_right_outside(value: object, kind: Kind) -> bool:
    return (isinstance(value, list) and kind in _ELEMENTS_OF_LISTS) or (
        isinstance(value, dict) and kind in _ELEMENTS_OF_MAPPINGS
    )


def _fits(value: object, kind: Kind) -> bool:
    if isinstance(value, list) and kind in _ELEMENTS_OF_LISTS:
        return all(_ELEMENTS_OF_LISTS[kind](element) for element in value)
    if isinstance(value, dict) and kind in _ELEMENTS_OF_MAPPINGS:
        return all(_ELEMENTS_OF_MAPPINGS[kind](element) for element in value.values())
    return kind in _SINGLE and _SINGLE[kind](value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in _FLAGS)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or _is_whole(value)


def _is_anything(_value: object) -> bool:
    return True


_Check = Callable[[object], bool]
_SINGLE: Mapping[Kind, _Check] = {
    Kind.TEXT: _is_text,
    Kind.WORD: lambda value: isinstance(value, _WORDS),
    Kind.FLAG: _is_flag,
    Kind.WHOLE: _is_whole,
    Kind.NUMBER: _is_number,
    Kind.COUNT: lambda value: isinstance(value, int),
    Kind.ANYTHING: _is_anything,
}
_ELEMENTS_OF_LISTS: Mapping[Kind, _Check] = {
    Kind.TEXTS: _is_text,
    Kind.NUMBERS: _is_number,
    Kind.MAPPINGS: lambda value: isinstance(value, dict),
}
_ELEMENTS_OF_MAPPINGS: Mapping[Kind, _Check] = {
    Kind.MAPPING: _is_anything,
    Kind.TEXT_MAPPING: _is_text,
    Kind.FLAG_MAPPING: _is_flag,
    Kind.WHOLE_MAPPING: _is_whole,
}


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    names: dict[type, str] = {list: "a list", dict: "a mapping", str: "text"}
    return names.get(type(value), type(value).__name__)
