"""Splits what a model writes into answer, reasoning and tool calls, by the tags it puts around them (pure).

Many models write ``<think>...</think>`` around what they think and ``<tool_call>{"name": ..., "arguments": {...}}
</tool_call>`` around calls. Text arrives in pieces; only what may be the beginning of a tag is held back, and a call
until it is complete.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, TypeAlias

THINK, END_THINK = "<think>", "</think>"
CALL, END_CALL = "<tool_call>", "</tool_call>"
MAX_CALL_CHARS = 1 << 20
"""A call that is longer is taken for text."""


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


class TagSplitter:
    """The state of one choice. Without ``with_tools``, calls are text like any other."""

    def __init__(self, *, with_tools: bool) -> None:
        self._openings = {THINK: END_THINK, **({CALL: END_CALL} if with_tools else {})}
        self._held = ""
        self._inside = ""
        """The tag that is open."""

    def feed(self, text: str) -> list[Piece]:
        """What is certain after the next piece of text."""
        self._held += text
        pieces: list[Piece] = []
        while self._step(pieces):
            pass
        return pieces

    def finish(self) -> list[Piece]:
        """The rest, when no more text comes. A call that was not closed counts if it can be read."""
        held, inside, self._held, self._inside = self._held, self._inside, "", ""
        if inside == CALL:
            return [_call(held) or Said("text", CALL + held)]
        return [Said("reasoning" if inside else "text", held)] if held else []

    def _step(self, pieces: list[Piece]) -> bool:
        """Handle one tag; False when there is no complete one."""
        if self._inside == CALL:
            return self._close_call(pieces)
        wanted = (self._openings[self._inside],) if self._inside else tuple(self._openings)
        found = min(((self._held.find(tag), tag) for tag in wanted if tag in self._held), default=None)
        if found is None:
            keep = max(_overlap(self._held, tag) for tag in wanted)
            self._say(pieces, self._held[: len(self._held) - keep])
            self._held = self._held[len(self._held) - keep :]
            return False
        place, tag = found
        self._say(pieces, self._held[:place])
        self._held = self._held[place + len(tag) :]
        self._inside = "" if self._inside else tag
        return True

    def _close_call(self, pieces: list[Piece]) -> bool:
        body, tag, rest = self._held.partition(END_CALL)
        if not tag and len(body) <= MAX_CALL_CHARS:
            return False
        pieces.append(_call(body) or Said("text", CALL + body + tag))
        self._held, self._inside = rest, ""
        return True

    def _say(self, pieces: list[Piece], text: str) -> None:
        if text:
            pieces.append(Said("reasoning" if self._inside else "text", text))


def _call(body: str) -> Called | None:
    """The call in a body; None when it is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(name := document.get("name"), str) or not name:
        return None
    arguments = document.get("arguments", document.get("parameters", {}))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    if not _is_text(name):
        return None
    return Called(name, text if _is_text(text) else json.dumps(arguments))


def _is_text(text: str) -> bool:
    """False for half a character: JSON can say it (``\\ud800``), but it cannot be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _overlap(text: str, tag: str) -> int:
    """Length of the longest end of ``text`` that begins ``tag``."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-size:])), 0)
