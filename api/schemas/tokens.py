"""Bodies of ``/v1/tokenize`` and ``/v1/detokenize``, as LocalAI has them (pure)."""

from __future__ import annotations

import msgspec


class TokenizeBody(msgspec.Struct, frozen=True):
    """``POST /v1/tokenize``."""

    model: str | None = None
    content: str = ""


class TokenizeResponse(msgspec.Struct, frozen=True):
    """The ids of a text, without those of its beginning and end."""

    tokens: list[int]


class DetokenizeBody(msgspec.Struct, frozen=True):
    """``POST /v1/detokenize``."""

    model: str | None = None
    tokens: list[int] = []


class DetokenizeResponse(msgspec.Struct, frozen=True):
    """The text of ids."""

    content: str
