"""Bodies that clients of Anthropic's API send (pure).

Source: Anthropic's API reference for messages and token counting. Unknown fields are ignored; so are those that are
hints for its own servers: ``cache_control``, ``service_tier``, ``speed``, ``inference_geo``, ``context_management``,
``diagnostics``.
"""

from __future__ import annotations

import msgspec

ABSENT = msgspec.Raw(b"")
"""The value of a raw field that a body does not have."""


def absent() -> msgspec.Raw:
    """The default of raw fields, as a function because the description of the API cannot show a raw value."""
    return ABSENT


class SourceBody(msgspec.Struct, frozen=True):
    """Where a picture or a document is: ``base64``, ``url``, ``text``, ``content`` or ``file``."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: str | list[BlockBody] | None = None


class CitationsBody(msgspec.Struct, frozen=True):
    """Whether the answer shall say where in a document it is from."""

    enabled: bool | None = None


class BlockBody(msgspec.Struct, frozen=True):
    """One block of content, of any type."""

    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.field(default_factory=absent)
    tool_use_id: str | None = None
    is_error: bool | None = None
    content: str | list[BlockBody] | None = None
    source: str | SourceBody | None = None
    title: str | None = None
    context: str | None = None
    citations: CitationsBody | list[msgspec.Raw] | None = None


class TurnBody(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str | list[BlockBody]


class ClientToolBody(msgspec.Struct, frozen=True):
    """Something that the model may use. ``input_schema`` is a JSON schema."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = msgspec.field(default_factory=absent)
    strict: bool | None = None
    eager_input_streaming: bool | None = None


class ToolChoiceBody(msgspec.Struct, frozen=True):
    """Whether a tool must be called, and which."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingBody(msgspec.Struct, frozen=True):
    """Whether the model thinks first, and whether that is shown."""

    type: str
    budget_tokens: int | None = None
    display: str | None = None


class FormatBody(msgspec.Struct, frozen=True):
    """The form of an answer."""

    type: str
    schema: msgspec.Raw = msgspec.field(default_factory=absent)


class OutputBody(msgspec.Struct, frozen=True):
    """How to answer."""

    effort: str | None = None
    format: FormatBody | None = None


class PromptBody(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/messages/count_tokens``: what an answer and a count have in common."""

    model: str | None = None
    messages: list[TurnBody] = []
    system: str | list[BlockBody] | None = None
    tools: list[ClientToolBody] | None = None
    tool_choice: str | ToolChoiceBody | None = None


class MessagesBody(PromptBody, frozen=True, kw_only=True):
    """``POST /v1/messages``."""

    max_tokens: int | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    thinking: ThinkingBody | None = None
    output_config: OutputBody | None = None
    output_format: FormatBody | None = None
    metadata: dict[str, str | None] | None = None
    container: msgspec.Raw = msgspec.field(default_factory=absent)
    mcp_servers: list[msgspec.Raw] | None = None
