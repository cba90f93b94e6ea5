"""Template text -> tokens (pure).

Text between actions is one token, already trimmed by the ``{{- `` and `` -}}`` beside it; comments leave none. Where Go
has tokens for blanks, ours remember whether one stood before them, for ``.A.B`` and ``.A .B`` are different things.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from localai.node.go_template.errors import Source, syntax_error
from localai.node.go_template.literals import read_character, read_number, read_text
from localai.node.go_template.values import Value

BLANKS = " \t\r\n"
"""What trim markers remove and what separates words."""
KEYWORDS = frozenset(("break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with", "block"))

_WORD = re.compile(r"\w+")  # letters, digits and _ of any script
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F_.]*(?:[pP][+-]?[0-9_]*)?|0[bBoO][0-9_]*|[0-9_.]*(?:[eE][+-]?[0-9_]*)?)")
_AFTER_WORD = frozenset(f"{BLANKS}.,|:()")
_PUNCTUATION = frozenset("|(),=")


class Sort(Enum):
    """What a token is. The value is how messages call it."""

    TEXT = "text"
    OPEN = "the beginning of an action"
    CLOSE = "}}"
    FIELD = "a field"
    VARIABLE = "a variable"
    WORD = "a name"
    KEYWORD = "a keyword"
    VALUE = "a value"
    DOT = "a dot"
    MARK = "a mark"
    """``|``, ``(``, ``)``, ``,``, ``=`` or ``:=``."""
    END = "the end of the template"


@dataclass(frozen=True, slots=True)
class Token:
    """One token. ``text`` is its name or mark, or the text itself; fields are without ``.``, variables with ``$``."""

    sort: Sort
    text: str
    at: int
    """Offset in the template."""
    spaced: bool = False
    """A blank stood before it."""
    value: Value = None
    """Of a literal."""


def tokenize(source: Source) -> list[Token]:
    """The tokens of a template, ending with one of sort END.

    Raises:
        BadTemplate: the text cannot be split; the message says where.
    """
    return _Lexer(source).run()


class _Lexer:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._text = source.text
        self._at = 0
        self._trim = False
        self._tokens: list[Token] = []

    def run(self) -> list[Token]:
        while (start := self._text.find("{{", self._at)) >= 0:
            trimmed = self._text.startswith("{{-", start) and self._peek(start + 3) in BLANKS
            self._add_text(start, trim_end=trimmed)
            self._at = start + (4 if trimmed else 2)
            if self._text.startswith("/*", self._at):
                self._skip_comment()
            else:
                self._tokens.append(Token(Sort.OPEN, "{{", start))
                self._action()
        self._add_text(len(self._text), trim_end=False)
        self._tokens.append(Token(Sort.END, "", len(self._text)))
        return self._tokens

    def _peek(self, at: int) -> str:
        """The character there; at the end one that is none of those asked for."""
        return self._text[at] if at < len(self._text) else "\0"

    def _add_text(self, end: int, *, trim_end: bool) -> None:
        piece = self._text[self._at : end]
        piece = piece.lstrip(BLANKS) if self._trim else piece
        piece = piece.rstrip(BLANKS) if trim_end else piece
        if piece:
            self._tokens.append(Token(Sort.TEXT, piece, self._at))

    def _skip_comment(self) -> None:
        end = self._text.find("*/", self._at + 2)
        if end < 0:
            self._fail(self._at, "a comment does not end", "Close it with */}}")
        end += 2
        self._trim = self._peek(end) in BLANKS and self._text.startswith("-}}", end + 1)
        if not self._trim and not self._text.startswith("}}", end):
            self._fail(end, "something stands between the end of a comment and }}", "A comment must fill its action")
        self._at = end + (4 if self._trim else 2)

    def _action(self) -> None:
        """Read the tokens up to and including the closing braces."""
        while True:
            before = self._at
            while self._peek(self._at) in BLANKS:
                self._at += 1
            spaced = self._at > before
            self._trim = spaced and self._text.startswith("-}}", self._at)
            if self._trim or self._text.startswith("}}", self._at):
                self._tokens.append(Token(Sort.CLOSE, "}}", self._at, spaced))
                self._at += 3 if self._trim else 2
                return
            if self._at >= len(self._text):
                self._fail(self._at, "an action does not end", "Close it with }}")
            self._token(spaced)

    def _token(self, spaced: bool) -> None:
        start = self._at
        first, second = self._peek(start), self._peek(start + 1)
        if first in _PUNCTUATION:
            self._emit(Sort.MARK, start + 1, spaced)
        elif first == ":" and second == "=":
            self._emit(Sort.MARK, start + 2, spaced)
        elif first == '"':
            self._quoted(spaced)
        elif first == "'":
            self._character(spaced)
        elif first == "`":
            self._raw(spaced)
        elif first in "+-" or first.isdecimal() or (first == "." and second.isdecimal()):
            self._number(spaced)
        elif first == ".":
            self._field(spaced)
        elif first == "$" or _WORD.match(first):
            self._word(spaced)
        else:
            self._fail(start, f"{first!r} has no meaning there", "Remove it")

    def _emit(self, sort: Sort, end: int, spaced: bool, value: Value = None) -> None:
        self._tokens.append(Token(sort, self._text[self._at : end], self._at, spaced, value))
        self._at = end

    def _quoted(self, spaced: bool) -> None:
        end = self._closing('"')
        value = read_text(self._text[self._at + 1 : end])
        if value is None:
            self._fail(self._at, "the text in quotes has an unknown escape", "Write a backslash as \\\\")
        self._emit(Sort.VALUE, end + 1, spaced, value)

    def _character(self, spaced: bool) -> None:
        end = self._closing("'")
        value = read_character(self._text[self._at + 1 : end])
        if value is None:
            self._fail(self._at, "single quotes hold one character", "Use double quotes for a text")
        self._emit(Sort.VALUE, end + 1, spaced, value)

    def _closing(self, quote: str) -> int:
        """Offset of the quote that ends the one here."""
        at = self._at + 1
        while (character := self._peek(at)) not in (quote, "\n") and at < len(self._text):
            at += 2 if character == "\\" and self._peek(at + 1) != "\n" else 1
        if character != quote:
            self._fail(self._at, f"the text after {quote} does not end in this line", f"Close it with {quote}")
        return at

    def _raw(self, spaced: bool) -> None:
        end = self._text.find("`", self._at + 1)
        if end < 0:
            self._fail(self._at, "the text after ` does not end", "Close it with `")
        self._emit(Sort.VALUE, end + 1, spaced, self._text[self._at + 1 : end])

    def _number(self, spaced: bool) -> None:
        match = _NUMBER.match(self._text, self._at)
        end = match.end() if match else self._at
        value = read_number(self._text[self._at : end])
        if value is None and self._text.startswith("{{-", self._at - 2):
            self._fail(self._at, "{{- has no blank after it", "Write {{- with a blank, or {{ alone")
        if value is None or _WORD.match(self._peek(end)):
            self._fail(self._at, "a number is not written as Go knows it, or too large", "Correct the number")
        self._emit(Sort.VALUE, end, spaced, value)

    def _field(self, spaced: bool) -> None:
        word = _WORD.match(self._text, self._at + 1)
        if word is None:
            self._emit(Sort.DOT, self._at + 1, spaced)
            return
        self._check_word_end(word.end())
        self._tokens.append(Token(Sort.FIELD, word[0], self._at, spaced))
        self._at = word.end()

    def _word(self, spaced: bool) -> None:
        word = _WORD.match(self._text, self._at + (self._peek(self._at) == "$"))
        end = word.end() if word else self._at + 1
        self._check_word_end(end)
        name = self._text[self._at : end]
        if name in ("true", "false"):
            self._emit(Sort.VALUE, end, spaced, name == "true")
        elif name in KEYWORDS:
            self._emit(Sort.KEYWORD, end, spaced)
        else:
            self._emit(Sort.VARIABLE if name[0] == "$" else Sort.WORD, end, spaced)

    def _check_word_end(self, at: int) -> None:
        character = self._peek(at)
        if at < len(self._text) and character not in _AFTER_WORD and not self._text.startswith("}}", at):
            self._fail(at, f"{character!r} follows a name", "Put a blank between them or remove it")

    def _fail(self, at: int, problem: str, advice: str) -> NoReturn:
        raise syntax_error(self._source, at, problem, advice)
