"""Texts made safe for somewhere else, character for character as Go does it (pure)."""

from __future__ import annotations

import re
from urllib.parse import quote_plus

from localai.node.go_template.values import raw_bytes

_SHORT_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}
_HTML = str.maketrans({"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"})
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}
_SPECIAL_IN_JS = re.compile(r"[\\'\"<>&=\x00-\x1f]|[^\x00-\x7f]")


def quote_text(text: str, *, ascii_only: bool = False) -> str:
    """``text`` in double quotes, as a Go literal."""
    return f'"{"".join(_quoted(character, chr(34), ascii_only=ascii_only) for character in text)}"'


def quote_character(code: int) -> str:
    """The character with that code in single quotes; U+FFFD if there is none."""
    character = character_of(code)
    return f"'{_quoted(character, chr(39), ascii_only=False)}'"


def character_of(code: int) -> str:
    """The character with that code; U+FFFD if there is none."""
    return chr(code) if 0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else "\ufffd"


def escape_html(text: str) -> str:
    """``text`` for HTML: ``&lt;`` and so on."""
    return text.translate(_HTML)


def escape_js(text: str) -> str:
    """``text`` for the inside of a JavaScript text."""
    return _SPECIAL_IN_JS.sub(lambda match: _escaped_in_js(match[0]), text)


def escape_query(text: str) -> str:
    """``text`` for one value in a URL's query, with ``+`` for blanks."""
    return quote_plus(raw_bytes(text))


def _quoted(character: str, quote: str, *, ascii_only: bool) -> str:
    if character == quote:
        return f"\\{quote}"
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    code = ord(character)
    if character.isprintable() and (code < 0x80 or not ascii_only):
        return character
    if code < 0x80 or 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code & 0xFF:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped_in_js(character: str) -> str:
    if character in _JS:
        return _JS[character]
    code = ord(character)
    return character if character.isprintable() or 0xDC80 <= code <= 0xDCFF else f"\\u{code:04X}"
