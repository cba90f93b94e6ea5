"""Error bodies (pure).

Source: OpenAI's, Anthropic's, ElevenLabs' and Ollama's API references, and LocalAI's ``code``, ``message``, ``type``,
``param``.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong."""

    code: str | int
    message: str
    type: str
    param: str | msgspec.UnsetType | None = None


class OpenAIError(msgspec.Struct, frozen=True):
    """The body of an error, and the payload of one inside a stream."""

    error: ErrorBody


class AnthropicErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, for Anthropic's clients."""

    type: str
    message: str


class AnthropicError(msgspec.Struct, frozen=True):
    """The body of an error under ``/v1/messages``."""

    error: AnthropicErrorBody
    type: Literal["error"] = "error"


class ElevenLabsDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, for ElevenLabs' clients."""

    status: str
    message: str


class ElevenLabsError(msgspec.Struct, frozen=True):
    """The body of an error of ElevenLabs' paths."""

    detail: ElevenLabsDetail


class FlatError(msgspec.Struct, frozen=True):
    """The body of an error of Ollama's paths."""

    error: str
