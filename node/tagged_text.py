"""Splits what a model writes into answer, reasoning and tool calls, by the tags it puts around them (pure).

Many models write ``<think>...</think>`` before the answer and ``<tool_call>{"name": ..., "arguments": {...}}
</tool_call>`` around calls. Text arrives in pieces; only what may be the beginning of a tag is held back, blank text
that may stand before a call, and a call until it is complete. Each piece costs what its own length costs.

    state   ends with                                               next
    start   <think> as the first text that is not blank             think
            any other text                                          text
    think   </think>                                                text
    text    <tool_call>                                             call
    call    </tool_call> outside of a JSON string, or its length    text
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

import msgspec

THINK, END_THINK = "<think>", "</think>"
CALL, END_CALL = "<tool_call>", "</tool_call>"
MAX_CALL_CHARS = 1 << 20
"""A call that is longer is taken for text."""
_IN_STRING = re.compile(r'"|\\.', re.DOTALL)
_OUTSIDE = re.compile(f'"|{END_CALL}')


@dataclass(frozen=True, slots=True)
class Said:
    """Text for the reader, or of its reasoning. Never empty."""

    kind: Literal["text", "reasoning"]
    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A complete call. ``arguments`` is JSON text of an object."""

    name: str
    arguments: str


Piece: TypeAlias = Said | Called
_State: TypeAlias = Literal["start", "think", "text", "call"]


class TagSplitter:
    """The state of one choice. Without ``with_tools``, calls are text like any other.

    With ``thinking`` the prompt has opened the reasoning already.
    """

    def __init__(self, *, with_tools: bool, thinking: bool = False) -> None:
        self._with_tools = with_tools
        self._state: _State = "think" if thinking else "start"
        self._held = ""
        self._blank: list[str] = []
        """Blank text since the last tag, while nothing else has come."""
        self._has_text = False
        """There has been more than blank text since the last tag."""
        self._closed = ""
        """The last tag."""
        self._call: list[str] = []
        self._call_chars = 0
        self._in_string = False
        """The open call stands inside a JSON string."""

    def feed(self, text: str) -> list[Piece]:
        """What is certain after the next piece of text."""
        text, self._held = self._held + text, ""
        pieces: list[Piece] = []
        place = 0
        while place < len(text):
            place = self._step(text, place, pieces)
        return pieces

    def finish(self) -> list[Piece]:
        """The rest, when no more text comes. A call that was not closed counts if it can be read."""
        pieces: list[Piece] = []
        held, self._held = self._held, ""
        match self._state:
            case "call":
                self._call.append(held)
                self._end_call(pieces, "")
            case "think":
                pieces += [Said("reasoning", held)] if held else []
            case "start" | "text":
                self._say(pieces, held)
            case _:
                assert_never(self._state)
        if self._blank and not self._closed:
            pieces.append(Said("text", "".join(self._blank)))
        self._blank = []
        return pieces

    def _step(self, text: str, place: int, pieces: list[Piece]) -> int:
        """Handle the text from a place on. Gives the place to go on from; what waits for more text is held."""
        match self._state:
            case "start":
                return self._start(text, place)
            case "think":
                return self._think(text, place, pieces)
            case "text":
                return self._talk(text, place, pieces)
            case "call":
                return self._close_call(text, place, pieces)
            case _:
                assert_never(self._state)

    def _start(self, text: str, place: int) -> int:
        rest = text[place:].lstrip()
        first = len(text) - len(rest)
        if rest.startswith(THINK):
            self._blank = []
            self._state = "think"
            return first + len(THINK)
        if THINK.startswith(rest):
            self._blank += [text[place:first]] if first > place else []
            self._held = rest
            return len(text)
        self._state = "text"
        return place

    def _think(self, text: str, place: int, pieces: list[Piece]) -> int:
        end, after = self._find(text, place, END_THINK)
        if end > place:
            pieces.append(Said("reasoning", text[place:end]))
        if after > end:
            self._close(END_THINK)
        return after or len(text)

    def _talk(self, text: str, place: int, pieces: list[Piece]) -> int:
        if not self._with_tools:
            self._say(pieces, text[place:])
            return len(text)
        end, after = self._find(text, place, CALL)
        self._say(pieces, text[place:end])
        if after > end:
            self._state = "call"
        return after or len(text)

    def _close_call(self, text: str, place: int, pieces: list[Piece]) -> int:
        end, is_closed = self._call_end(text, place)
        chars = self._call_chars + end - place
        if chars > MAX_CALL_CHARS:
            end -= chars - MAX_CALL_CHARS
            self._say(pieces, CALL + "".join(self._call) + text[place:end])
            self._leave_call()
            return end
        self._call.append(text[place:end])
        self._call_chars = chars
        if not is_closed:
            self._held = text[end:]
            return len(text)
        self._end_call(pieces, END_CALL)
        return end + len(END_CALL)

    def _call_end(self, text: str, place: int) -> tuple[int, bool]:
        """Where the open call ends and True, or up to where it surely goes on and False."""
        while mark := (_IN_STRING if self._in_string else _OUTSIDE).search(text, place):
            if mark[0] == END_CALL:
                return mark.start(), True
            place = mark.end()
            if mark[0] == '"':
                self._in_string = not self._in_string
        rest = text[place:]
        return len(text) - (rest.endswith("\\") if self._in_string else _overlap(rest, END_CALL)), False

    def _end_call(self, pieces: list[Piece], end_tag: str) -> None:
        body = "".join(self._call)
        self._leave_call()
        if (called := _read_call(body)) is None:
            self._say(pieces, CALL + body + end_tag)
            return
        self._close(END_CALL)
        pieces.append(called)

    def _leave_call(self) -> None:
        self._call, self._call_chars, self._in_string = [], 0, False
        self._state = "text"

    def _close(self, tag: str) -> None:
        self._blank, self._has_text, self._closed = [], False, tag
        self._state = "text"

    def _find(self, text: str, place: int, tag: str) -> tuple[int, int]:
        """Where the tag begins and ends. Without one, where it may begin, and 0; the rest is held back then."""
        begin = text.find(tag, place)
        if begin >= 0:
            return begin, begin + len(tag)
        begin = len(text) - _overlap(text[max(place, len(text) - len(tag)) :], tag)
        self._held = text[begin:]
        return begin, 0

    def _say(self, pieces: list[Piece], text: str) -> None:
        """Text for the reader; blank text waits, since next to a call or before nothing it is layout."""
        if not self._has_text:
            if not text.strip():
                self._blank += [text] if text else []
                return
            text = "".join([*self._blank, text])
            if self._closed == END_THINK:
                indent = len(text) - len(text.lstrip())  # of the first line; it belongs to the answer
                text = text[text.rfind("\n", 0, indent) + 1 :]
            self._blank, self._has_text = [], True
        if text:
            pieces.append(Said("text", text))


def _read_call(body: str) -> Called | None:
    """The call in a body; None when it is none."""
    try:
        document = msgspec.json.decode(body)
        if not isinstance(document, dict) or not isinstance(name := document.get("name"), str) or not name:
            return None
        arguments = document.get("arguments", document.get("parameters"))
        if isinstance(arguments, str):
            arguments = msgspec.json.decode(arguments) if arguments.strip() else None
        if arguments is None:
            arguments = {}
        return Called(name, json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None
    except (ValueError, RecursionError):
        return None


def _overlap(text: str, tag: str) -> int:
    """Length of the longest end of ``text`` that begins ``tag``."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-size:])), 0)
