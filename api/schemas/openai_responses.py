"""Bodies that OpenAI's API answers with (pure). Source: OpenAI's API reference."""

from __future__ import annotations

from typing import Literal

import msgspec

Reason = Literal["stop", "length"]


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """Where prompt tokens came from."""

    cached_tokens: int


class UsageBody(msgspec.Struct, frozen=True):
    """Tokens spent."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class AssistantMessage(msgspec.Struct, frozen=True):
    """A whole answer."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class ChatChoice(msgspec.Struct, frozen=True):
    """One of the answers."""

    index: int
    message: AssistantMessage
    finish_reason: Reason
    logprobs: None = None


class ChatResponse(msgspec.Struct, frozen=True, kw_only=True):
    """``chat.completion``."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageBody
    system_fingerprint: str


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is new in a chunk."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(msgspec.Struct, frozen=True):
    """One answer's part of a chunk."""

    index: int
    delta: Delta
    finish_reason: Reason | None = None
    logprobs: None = None


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """``chat.completion.chunk``."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: UsageBody | msgspec.UnsetType | None = msgspec.UNSET


class TextChoice(msgspec.Struct, frozen=True):
    """One continuation, or what is new of it."""

    index: int
    text: str
    finish_reason: Reason | None = None
    logprobs: None = None


class TextResponse(msgspec.Struct, frozen=True, kw_only=True):
    """``text_completion``, whole and in chunks."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: UsageBody | msgspec.UnsetType | None = msgspec.UNSET


class ModelBody(msgspec.Struct, frozen=True, kw_only=True):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(msgspec.Struct, frozen=True):
    """All models."""

    data: list[ModelBody]
    object: Literal["list"] = "list"
