"""Go's literals: numbers, quoted texts, characters (pure)."""

from __future__ import annotations

import math
import re

from localai.node.go_template.values import raw_bytes, text_from_bytes

MIN_INT = -(1 << 63)
MAX_INT = (1 << 63) - 1

_INT = re.compile(
    r"[+-]?(?:(?P<binary>0[bB](?:_?[01])+)|(?P<hex>0[xX](?:_?[0-9a-fA-F])+)|(?P<octal>0[oO]?(?:_?[0-7])+)"
    r"|(?P<decimal>0|[1-9](?:_?[0-9])*))"
)
_DIGITS = r"[0-9](?:_?[0-9])*"
_FLOAT = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?")
_HEX_FLOAT = re.compile(r"[+-]?0[xX](?:[0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+")
_MAX_NUMBER_CHARS = 100
_BASES = {"binary": 2, "hex": 16, "octal": 8, "decimal": 10}
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))|\\")
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def read_int(text: str) -> int | None:
    """The whole number ``text`` stands for: decimal, ``0b``, ``0o`` or a leading 0, ``0x``, with ``_`` between digits.

    None if it is none or needs more than 64 bits.
    """
    match = _INT.fullmatch(text)
    if match is None or len(text) > _MAX_NUMBER_CHARS:
        return None
    digits = text.lstrip("+-").replace("_", "")
    number = int(digits[1:].lstrip("oO") if match["octal"] else digits, _BASES[str(match.lastgroup)])
    number = -number if text[0] == "-" else number
    return number if MIN_INT <= number <= MAX_INT else None


def read_number(text: str) -> int | float | None:
    """The number that ``text`` stands for in a template; None if it is none."""
    whole = read_int(text)
    if whole is not None or len(text) > _MAX_NUMBER_CHARS:
        return whole
    try:
        if _HEX_FLOAT.fullmatch(text):
            return float.fromhex(text)
    except OverflowError:
        return None
    if not _FLOAT.fullmatch(text) or not any(character in ".eE" for character in text):
        return None
    number = float(text.replace("_", ""))
    return number if math.isfinite(number) else None


def read_text(body: str) -> str | None:
    """The text between double quotes, with its escapes read; None if one of them is wrong."""
    return _unescaped(body, "'")


def read_character(body: str) -> int | None:
    """The code of the one character between single quotes; None if it is not one."""
    text = _unescaped(body, '"')
    if text is None or len(text) != 1:
        return None
    code = ord(text)
    return code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code  # '\xff' is the number 255


def _unescaped(body: str, forbidden_quote: str) -> str | None:
    parts: list[str] = []
    position = 0
    for match in _ESCAPE.finditer(body):
        character = _escaped(match, forbidden_quote)
        if character is None:
            return None
        parts += (body[position : match.start()], character)
        position = match.end()
    parts.append(body[position:])
    return text_from_bytes(raw_bytes("".join(parts)))


def _escaped(match: re.Match[str], forbidden_quote: str) -> str | None:
    plain, octal, byte, short, long = match.groups()
    if plain is not None:
        return None if plain == forbidden_quote else _PLAIN.get(plain, plain)
    if octal is not None or byte is not None:
        value = int(octal, 8) if octal is not None else int(byte, 16)
        return text_from_bytes(bytes((value,))) if value < 256 else None
    if short is None and long is None:
        return None
    code = int(short or long, 16)
    return None if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF else chr(code)
