"""Error bodies (pure). Source: OpenAI's API reference, and LocalAI's ``code``, ``message``, ``type``, ``param``."""

from __future__ import annotations

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
