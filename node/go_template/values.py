"""The values a template works on, and what Go thinks of them (pure).

Texts are Python texts; a byte that is not UTF-8, as ``"\\xff"`` in a template makes one, is a lone surrogate
(``surrogateescape``). Whole numbers are Go's ``int`` of 64 bits, others ``float64``. Numbers that came out of JSON are
``float64`` in Go, so they should be floats here too: Go prints 1000000 out of JSON as ``1e+06``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from localai.node.go_template.errors import Problem


class Missing(Enum):
    """The type of :data:`MISSING`."""

    MISSING = "<no value>"


MISSING: Final = Missing.MISSING
"""What a key that a map does not have gives: like nil, but its own fields are missing too instead of an error."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a :class:`Record`. ``json_name`` is its name in JSON; empty leaves it out there."""

    name: str
    value: Value
    json_name: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A Go struct: unlike a map it knows its fields, so a mistyped one is an error."""

    fields: tuple[Field, ...]

    def get(self, name: str) -> Value:
        """The field's value.

        Raises:
            Problem: there is no such field.
        """
        for field in self.fields:
            if field.name == name:
                return field.value
        raise Problem(f"there is no field .{name}, only {', '.join(f'.{field.name}' for field in self.fields)}")


Value: TypeAlias = "bool | int | float | str | Sequence[Value] | Mapping[str, Value] | Record | Missing | None"


class Kind(Enum):
    """Go's kinds, as far as they occur; the value is the word in messages and the one ``kindOf`` gives."""

    NIL = "invalid"
    BOOL = "bool"
    INT = "int"
    FLOAT = "float64"
    TEXT = "string"
    LIST = "slice"
    MAP = "map"
    RECORD = "struct"


_TYPE_NAMES = {
    Kind.NIL: "<nil>",
    Kind.LIST: "[]interface {}",
    Kind.MAP: "map[string]interface {}",
}
_NOT_A_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def kind_of(value: Value) -> Kind:
    """The kind of ``value``.

    Raises:
        Problem: it is nothing that a template can hold.
    """
    match value:
        case None | Missing.MISSING:
            return Kind.NIL
        case bool():
            return Kind.BOOL
        case int() if value.bit_length() <= 64:
            return Kind.INT
        case float():
            return Kind.FLOAT
        case str():
            return Kind.TEXT
        case list() | tuple():
            return Kind.LIST
        case Mapping():
            return Kind.MAP
        case Record():
            return Kind.RECORD
        case _:
            raise Problem(f"it holds a value that templates cannot use ({type(value).__name__})")


def type_name(value: Value) -> str:
    """Go's name of the type of ``value``."""
    kind = kind_of(value)
    return _TYPE_NAMES.get(kind, kind.value)


def is_true(value: Value) -> bool:
    """Go's truth: false, 0, nil and whatever is empty are false; a struct is true."""
    if isinstance(value, (Record, Missing)):
        return isinstance(value, Record)
    return bool(value)


def raw_bytes(text: str) -> bytes:
    """The bytes that Go would hold for ``text``."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, which Go's texts never hold
        return _NOT_A_BYTE.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def text_from_bytes(data: bytes) -> str:
    """The text that stands for ``data``; :func:`raw_bytes` gives them back."""
    return data.decode("utf-8", "surrogateescape")


def clean_text(text: str) -> str:
    """``text`` as a reader sees it: whatever is not UTF-8 becomes U+FFFD."""
    return text if text.isascii() else raw_bytes(text).decode("utf-8", "replace")
