"""Bodies that OpenAI's API answers with (pure).

Source: OpenAI's API reference. LocalAI's ``reasoning`` and the widespread ``reasoning_content`` are both sent, since
clients read one or the other.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

Reason = Literal["stop", "length", "tool_calls", "function_call"]


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """Where prompt tokens came from."""

    cached_tokens: int


class UsageBody(msgspec.Struct, frozen=True):
    """Tokens spent; times, in milliseconds, for clients that ask with ``Extra-Usage``."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    timing_prompt_processing: float | UnsetType = UNSET
    timing_token_generation: float | UnsetType = UNSET


class FunctionCall(msgspec.Struct, frozen=True):
    """A call, or what is new of it. ``arguments`` is JSON text."""

    arguments: str
    name: str | UnsetType = UNSET


class ToolCallOut(msgspec.Struct, frozen=True):
    """A whole call."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class ToolCallDelta(msgspec.Struct, frozen=True):
    """What is new of a call."""

    index: int
    function: FunctionCall
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class LikelyToken(msgspec.Struct, frozen=True):
    """A token that could have been drawn."""

    token: str
    bytes: tuple[int, ...]
    logprob: float


class DrawnToken(msgspec.Struct, frozen=True):
    """A token of the answer, and what else was likely at its place."""

    token: str
    bytes: tuple[int, ...]
    logprob: float
    top_logprobs: tuple[LikelyToken, ...]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """How likely the tokens of a text were."""

    content: tuple[DrawnToken, ...]
    refusal: None = None


class AssistantMessage(msgspec.Struct, frozen=True):
    """A whole answer."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    annotations: tuple[()] = ()
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: tuple[ToolCallOut, ...] | UnsetType = UNSET
    function_call: FunctionCall | UnsetType = UNSET


class ChatChoice(msgspec.Struct, frozen=True):
    """One of the answers."""

    index: int
    message: AssistantMessage
    finish_reason: Reason
    logprobs: ChatLogprobs | None = None


class ChatResponse(msgspec.Struct, frozen=True, kw_only=True):
    """``chat.completion``."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageBody
    system_fingerprint: str


class Delta(msgspec.Struct, frozen=True):
    """What is new in a chunk."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: tuple[ToolCallDelta, ...] | UnsetType = UNSET
    function_call: FunctionCall | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, frozen=True):
    """One answer's part of a chunk."""

    index: int
    delta: Delta
    finish_reason: Reason | None = None
    logprobs: ChatLogprobs | None = None


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """``chat.completion.chunk``."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: UsageBody | UnsetType | None = UNSET


class TextLogprobs(msgspec.Struct, frozen=True):
    """How likely the tokens of a continuation were, one entry of each list for each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]
    """Characters of the choice's text before each token."""


class TextChoice(msgspec.Struct, frozen=True):
    """One continuation, or what is new of it."""

    index: int
    text: str
    finish_reason: Reason | None = None
    logprobs: TextLogprobs | None = None


class TextResponse(msgspec.Struct, frozen=True, kw_only=True):
    """``text_completion`` and ``edit``, whole and in chunks."""

    id: str
    object: Literal["text_completion", "edit"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: UsageBody | UnsetType | None = UNSET


class EmbeddingItem(msgspec.Struct, frozen=True, kw_only=True):
    """The vector of one input: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: tuple[float, ...] | str


class EmbeddingUsage(msgspec.Struct, frozen=True):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    """The vectors of all inputs, in their order."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[EmbeddingItem]
    usage: EmbeddingUsage


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
