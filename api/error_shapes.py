"""Which error body a path answers with (pure).

Source: the references of the APIs that the paths belong to. A new dialect adds a row here and a body to
``api/errors.py``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Shape: TypeAlias = Literal["openai", "anthropic", "responses", "elevenlabs", "flat"]

SHAPES: tuple[tuple[str, Shape], ...] = (
    ("/v1/messages", "anthropic"),
    ("/messages", "anthropic"),
    ("/v1/responses", "responses"),
    ("/responses", "responses"),
    ("/v1/text-to-speech", "elevenlabs"),
    ("/v1/sound-generation", "elevenlabs"),
    ("/api", "flat"),  # Ollama's, and LocalAI's own pages
)
"""Each row holds for the path itself and for everything below it."""


def shape_of(path: str) -> Shape:
    """The shape of a path: OpenAI's where no row says otherwise."""
    for prefix, shape in SHAPES:
        if path.startswith(prefix) and path[len(prefix) :][:1] in ("", "/"):
            return shape
    return "openai"
