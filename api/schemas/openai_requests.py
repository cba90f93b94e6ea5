"""Bodies that clients of OpenAI's API send (pure).

Source: OpenAI's API reference for chat completions and completions, with LocalAI's additions (``top_k``, ``min_p``,
``repeat_penalty``, ``ignore_eos``, ``grammar``). Unknown fields are ignored, as both do. Fields that ask for something
no part of this program does yet are declared as ``Any`` so that their presence can be refused instead of ignored.
"""

from __future__ import annotations

from typing import Any

import msgspec


class ContentPart(msgspec.Struct, frozen=True):
    """One part of a message's content."""

    type: str
    text: str | None = None


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: Any = None
    function_call: Any = None


class StreamOptions(msgspec.Struct, frozen=True):
    """How to stream."""

    include_usage: bool | None = False


class GenerationBody(msgspec.Struct, frozen=True, kw_only=True):
    """What chat and text completions have in common."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    ignore_eos: bool | None = None
    user: str | None = None
    logit_bias: Any = None
    grammar: Any = None


class ChatBody(GenerationBody, frozen=True, kw_only=True):
    """``POST /v1/chat/completions``."""

    messages: list[Message] = []
    max_completion_tokens: int | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None
    logprobs: Any = None
    top_logprobs: Any = None


class CompletionBody(GenerationBody, frozen=True, kw_only=True):
    """``POST /v1/completions``."""

    prompt: str | list[str | int | list[int]] = ""
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None
    logprobs: Any = None
    response_format: Any = None
