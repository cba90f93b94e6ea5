"""A response of OpenAI's Responses API and what is in it (pure).

Every key is there, as in LocalAI. Source: OpenAI's API reference. Responses are stored in this form: a new field needs
a default.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from localai.api.schemas.openai_responses import DrawnToken
from localai.api.schemas.responses_requests import FunctionTool, InputItem, TextFormat, ToolChoice

Status: TypeAlias = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class OutputText(msgspec.Struct, frozen=True, tag="output_text"):
    """What the model says."""

    text: str
    annotations: list[str] = []
    logprobs: tuple[DrawnToken, ...] = ()


class ReasoningText(msgspec.Struct, frozen=True, tag="reasoning_text"):
    """What the model thinks."""

    text: str


class OutputMessage(msgspec.Struct, frozen=True, kw_only=True, tag="message"):
    """A text of the model."""

    id: str
    status: ItemStatus
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class OutputReasoning(msgspec.Struct, frozen=True, kw_only=True, tag="reasoning"):
    """Thinking of the model."""

    id: str
    status: ItemStatus
    summary: list[str] = []
    content: list[ReasoningText]
    encrypted_content: None = None


class OutputCall(msgspec.Struct, frozen=True, kw_only=True, tag="function_call"):
    """A function that the model calls. ``arguments`` is JSON text, as the model wrote it."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


class OutputCallOutput(msgspec.Struct, frozen=True, kw_only=True, tag="function_call_output"):
    """What came of a call that the node carried out, as the model was told."""

    id: str
    status: ItemStatus
    call_id: str
    output: str


OutputItem: TypeAlias = OutputMessage | OutputReasoning | OutputCall | OutputCallOutput


class InputTokensDetails(msgspec.Struct, frozen=True):
    """Where the input came from."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(msgspec.Struct, frozen=True):
    """What the output was. How much of it was thinking is estimated by the share of the text."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens spent."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(msgspec.Struct, frozen=True):
    """Why it failed."""

    code: str
    message: str


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why it is not complete."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class TextConfig(msgspec.Struct, frozen=True):
    """What the answer had to look like."""

    format: TextFormat = TextFormat("text")
    verbosity: str = "medium"


class ReasoningConfig(msgspec.Struct, frozen=True):
    """How long it was to think."""

    effort: str | None = None
    summary: None = None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """``response``. Times are seconds since 1970."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Status = "in_progress"
    model: str
    output: list[OutputItem] = []
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    previous_response_id: str | None = None
    instructions: str | None = None
    tools: list[FunctionTool] = []
    tool_choice: str | ToolChoice = "auto"
    parallel_tool_calls: bool = True
    max_tool_calls: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int = 0
    max_output_tokens: int | None = None
    text: TextConfig = TextConfig()
    truncation: str = "disabled"
    reasoning: ReasoningConfig | None = None
    usage: ResponseUsage | None = None
    metadata: dict[str, str] = {}
    store: bool = True
    background: bool = False
    service_tier: str = "default"
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    user: str | None = None


class ResponseDeleted(msgspec.Struct, frozen=True):
    """A response that is gone."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class InputItemList(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the items a response was asked with."""

    object: Literal["list"] = "list"
    data: list[InputItem]
    first_id: str | None
    last_id: str | None
    has_more: bool
