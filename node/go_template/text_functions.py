"""Sprig's functions on texts and JSON (pure). Go counts in bytes where it cuts texts, and so do they."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from localai.node.go_template.errors import OverLimit, Problem
from localai.node.go_template.formatting import format_value
from localai.node.go_template.functions import Function, Wants
from localai.node.go_template.json_text import json_text, value_from_json
from localai.node.go_template.limits import Budget, check_text_size
from localai.node.go_template.quoting import quote_text
from localai.node.go_template.values import Value, raw_bytes, text_from_bytes

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""What ``trim`` removes: Unicode's white space, without the control characters Python adds."""
_INDENT = "  "
_JSON_CHARS_PER_STEP = 16


def shown(value: Value, budget: Budget) -> str:
    """A text as it is, anything else as ``%v``.

    Raises:
        OverLimit: nested too deep, or too large.
    """
    return value if isinstance(value, str) else format_value(value, budget)


def texts_in(value: Value, budget: Budget, *, keep_nil: bool = False) -> list[str]:
    """The elements of a list as texts, without nil; of anything else, its own text.

    Raises:
        OverLimit: as above.
    """
    if value is None and not keep_nil:
        return []
    items = value if isinstance(value, (list, tuple)) else [value]
    return [shown(item, budget) for item in items if item is not None or items is not value]


def split_text(separator: str, text: str) -> list[str]:
    """Go's ``strings.Split``: an empty separator gives the characters."""
    return text.split(separator) if separator else list(text)


def upper(text: str) -> str:
    """Each character on its own, as Go maps them: ``ß`` stays."""
    return "".join(_single(character, character.upper()) for character in text)


def lower(text: str) -> str:
    """Each character on its own."""
    return "".join("i" if character == "\u0130" else character.lower() for character in text)


def title(text: str) -> str:
    """The first letter of every word in title case, the others as they are."""
    capital = [_single(character, character.title()) for character in text]
    return "".join(capital[:1]) + "".join(
        capital[position] if _separates(before) else character
        for position, (before, character) in enumerate(pairwise(text), start=1)
    )


def _single(character: str, mapped: str) -> str:
    return mapped if len(mapped) == 1 else character


def _separates(character: str) -> bool:
    if character.isascii():
        return not (character.isalnum() or character == "_")
    return character in SPACES


def _repeat(_budget: Budget, count: int, text: str) -> Value:
    if count < 0:
        raise Problem("repeat needs a count of at least 0")
    check_text_size(count * len(text))
    return text * count


def _replace(_budget: Budget, old: str, new: str, text: str) -> Value:
    check_text_size(len(text) + text.count(old) * max(0, len(new) - len(old)))
    return text.replace(old, new)


def _indent(_budget: Budget, width: int, text: str) -> str:
    if width < 0:
        raise Problem("indent needs a width of at least 0")
    check_text_size(len(text) + width * (text.count("\n") + 1))
    pad = " " * width
    return pad + text.replace("\n", f"\n{pad}")


def _quote(budget: Budget, *values: Value) -> Value:
    return " ".join(quote_text(shown(value, budget)) for value in values if value is not None)


def _squote(budget: Budget, *values: Value) -> Value:
    return " ".join(f"'{shown(value, budget)}'" for value in values if value is not None)


def _cat(budget: Budget, *values: Value) -> Value:
    return " ".join(shown(value, budget) for value in values if value is not None)


def _trunc(_budget: Budget, length: int, text: str) -> Value:
    data = raw_bytes(text)
    if length < 0:
        return text_from_bytes(data[length:] if len(data) + length > 0 else data)
    return text_from_bytes(data[:length])


def _substr(_budget: Budget, start: int, end: int, text: str) -> Value:
    data = raw_bytes(text)
    last = end
    if start < 0:
        start = 0
    elif end < 0 or end > len(data):
        last = len(data)
    if not start <= last <= len(data):
        raise Problem(f"substr from {start} to {end} is outside of the {len(data)} bytes")
    return text_from_bytes(data[start:last])


def _split(_budget: Budget, separator: str, text: str) -> Value:
    return {f"_{position}": piece for position, piece in enumerate(split_text(separator, text))}


def _join(budget: Budget, separator: str, value: Value) -> Value:
    pieces = texts_in(value, budget)
    check_text_size(sum(map(len, pieces)) + len(separator) * len(pieces))
    return separator.join(pieces)


def _to_json(budget: Budget, value: Value) -> Value:
    return _json_or_nothing(budget, value, escape_html=True)


def _to_pretty_json(budget: Budget, value: Value) -> Value:
    return _json_or_nothing(budget, value, escape_html=True, indent=_INDENT)


def _to_raw_json(budget: Budget, value: Value) -> Value:
    return _json_or_nothing(budget, value, escape_html=False)


def _json_or_nothing(budget: Budget, value: Value, *, escape_html: bool, indent: str = "") -> Value:
    """Sprig drops the error and gives an empty text."""
    try:
        return json_text(value, budget, escape_html=escape_html, indent=indent)
    except OverLimit:
        raise
    except Problem:
        return ""


def _must_to_json(budget: Budget, value: Value) -> Value:
    return json_text(value, budget)


def _from_json(budget: Budget, text: str) -> Value:
    try:
        return _must_from_json(budget, text)
    except OverLimit:
        raise
    except Problem:
        return None


def _must_from_json(budget: Budget, text: str) -> Value:
    budget.spend(len(text) // _JSON_CHARS_PER_STEP)
    return value_from_json(text)


_TEXT = (Wants.TEXT,)
_TWO_TEXTS = (Wants.TEXT, Wants.TEXT)
_THREE_TEXTS = (Wants.TEXT, Wants.TEXT, Wants.TEXT)
_NUMBER_AND_TEXT = (Wants.INT, Wants.TEXT)
_TRIM_ALL = Function(lambda _budget, characters, text: text.strip(characters) if characters else text, _TWO_TEXTS)

TEXT_FUNCTIONS: Mapping[str, Function] = {
    "trim": Function(lambda _budget, text: text.strip(SPACES), _TEXT),
    "trimAll": _TRIM_ALL,
    "trimall": _TRIM_ALL,
    "trimPrefix": Function(lambda _budget, prefix, text: text.removeprefix(prefix), _TWO_TEXTS),
    "trimSuffix": Function(lambda _budget, suffix, text: text.removesuffix(suffix), _TWO_TEXTS),
    "upper": Function(lambda _budget, text: upper(text), _TEXT),
    "lower": Function(lambda _budget, text: lower(text), _TEXT),
    "title": Function(lambda _budget, text: title(text), _TEXT),
    "contains": Function(lambda _budget, part, text: part in text, _TWO_TEXTS),
    "hasPrefix": Function(lambda _budget, prefix, text: text.startswith(prefix), _TWO_TEXTS),
    "hasSuffix": Function(lambda _budget, suffix, text: text.endswith(suffix), _TWO_TEXTS),
    "replace": Function(_replace, _THREE_TEXTS),
    "repeat": Function(_repeat, _NUMBER_AND_TEXT),
    "indent": Function(_indent, _NUMBER_AND_TEXT),
    "nindent": Function(lambda budget, width, text: "\n" + _indent(budget, width, text), _NUMBER_AND_TEXT),
    "quote": Function(_quote, rest=Wants.ANY),
    "squote": Function(_squote, rest=Wants.ANY),
    "cat": Function(_cat, rest=Wants.ANY),
    "trunc": Function(_trunc, _NUMBER_AND_TEXT),
    "substr": Function(_substr, (Wants.INT, Wants.INT, Wants.TEXT)),
    "split": Function(_split, _TWO_TEXTS),
    "splitList": Function(lambda _budget, separator, text: split_text(separator, text), _TWO_TEXTS),
    "join": Function(_join, (Wants.TEXT, Wants.ANY)),
    "sortAlpha": Function(lambda budget, value: sorted(texts_in(value, budget, keep_nil=True)), (Wants.ANY,)),
    "toString": Function(lambda budget, value: shown(value, budget), (Wants.ANY,)),
    "toJson": Function(_to_json, (Wants.ANY,)),
    "toPrettyJson": Function(_to_pretty_json, (Wants.ANY,)),
    "toRawJson": Function(_to_raw_json, (Wants.ANY,)),
    "mustToJson": Function(_must_to_json, (Wants.ANY,)),
    "fromJson": Function(_from_json, _TEXT),
    "mustFromJson": Function(_must_from_json, _TEXT),
}
