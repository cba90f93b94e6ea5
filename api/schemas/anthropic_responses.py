"""Bodies and events that Anthropic's API answers with (pure).

Source: Anthropic's API reference for messages, streaming messages, token counting and models.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

StopReason: TypeAlias = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class TextBlock(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """Text for the reader."""

    text: str


class ThinkingBlock(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    """What the model thought first."""

    thinking: str
    signature: str


class ToolUseBlock(msgspec.Struct, frozen=True, tag_field="type", tag="tool_use"):
    """A call. ``input`` is a JSON object."""

    id: str
    name: str
    input: msgspec.Raw


Block: TypeAlias = TextBlock | ThinkingBlock | ToolUseBlock


class UsageOut(msgspec.Struct, frozen=True):
    """Tokens spent. The prompt has ``input_tokens`` and those that were read from the cache or written to it."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


class MessageOut(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, and in a stream the beginning of one."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Block]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: UsageOut


class TextDeltaOut(msgspec.Struct, frozen=True, tag_field="type", tag="text_delta"):
    """More text."""

    text: str


class ThinkingDelta(msgspec.Struct, frozen=True, tag_field="type", tag="thinking_delta"):
    """More of what the model thinks."""

    thinking: str


class SignatureDelta(msgspec.Struct, frozen=True, tag_field="type", tag="signature_delta"):
    """The signature of what the model thought."""

    signature: str


class InputDelta(msgspec.Struct, frozen=True, tag_field="type", tag="input_json_delta"):
    """More of the JSON text of a call's input."""

    partial_json: str


BlockDelta: TypeAlias = TextDeltaOut | ThinkingDelta | SignatureDelta | InputDelta


class MessageStart(msgspec.Struct, frozen=True, tag_field="type", tag="message_start"):
    """An answer begins."""

    message: MessageOut


class BlockStart(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_start"):
    """A block begins, still empty."""

    index: int
    content_block: Block


class BlockMore(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_delta"):
    """What is new of a block."""

    index: int
    delta: BlockDelta


class BlockStop(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_stop"):
    """A block is complete."""

    index: int


class Ending(msgspec.Struct, frozen=True):
    """Why an answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(msgspec.Struct, frozen=True, tag_field="type", tag="message_delta"):
    """How an answer ended, and all that it took."""

    delta: Ending
    usage: UsageOut


class MessageStop(msgspec.Struct, frozen=True, tag_field="type", tag="message_stop"):
    """The end of a stream."""


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping"):
    """The server is still there."""


StreamEvent: TypeAlias = MessageStart | BlockStart | BlockMore | BlockStop | MessageDelta | MessageStop | Ping


class TokenCount(msgspec.Struct, frozen=True):
    """Tokens of a prompt."""

    input_tokens: int


class ModelInfo(msgspec.Struct, frozen=True, tag_field="type", tag="model"):
    """One model. ``created_at`` is a time of RFC 3339."""

    id: str
    display_name: str
    created_at: str


class ModelPage(msgspec.Struct, frozen=True):
    """Models; ids are those of the first and the last one, if there are any."""

    data: list[ModelInfo]
    first_id: str | None
    last_id: str | None
    has_more: bool = False
