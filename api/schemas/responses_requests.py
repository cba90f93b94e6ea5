"""Bodies that clients of OpenAI's Responses API send, and the items of a conversation in them (pure).

Source: OpenAI's API reference for responses, with LocalAI's additions (``allowed_tools``, ``text_format``, its sampling
fields). One struct takes all kinds of items and of parts: items without a type are messages, which tagged unions
cannot say. Unknown fields are ignored.
"""

from __future__ import annotations

from typing import Any

import msgspec

from localai.api.schemas.openai_requests import GenerationBody


class AudioBody(msgspec.Struct, frozen=True):
    """A sound in base64. ``format`` is wav, mp3, ..."""

    data: str
    format: str = ""


class InputPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of a content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    detail: str | None = None
    image_url: str | None = None
    video_url: str | None = None
    audio_url: str | None = None
    input_audio: AudioBody | None = None
    file_id: str | None = None
    file_url: str | None = None
    file_data: str | None = None
    filename: str | None = None


class InputItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item of a conversation; without a type it is a message, or a reference when it has nothing but an id."""

    type: str = ""
    id: str | None = None
    status: str | None = None
    role: str | None = None
    content: str | list[InputPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[InputPart] | None = None
    summary: list[InputPart] | None = None
    encrypted_content: str | None = None


class FunctionTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool: a function, the only type that is known here."""

    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool, by its name."""

    type: str | None = None
    name: str | None = None


class ToolChoice(msgspec.Struct, frozen=True, omit_defaults=True):
    """The function to call, flat or nested as in chat completions, or the tools that may be called."""

    type: str
    name: str | None = None
    function: NamedTool | None = None
    mode: str | None = None
    tools: list[NamedTool] | None = None


class TextFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the answer must look like: ``text``, ``json_object`` or ``json_schema``."""

    type: str
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct, frozen=True):
    """How to write the answer."""

    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningOptions(msgspec.Struct, frozen=True):
    """How long to think. ``summary`` asks for a summary, which nothing here makes: all of it is shown."""

    effort: str | None = None
    summary: str | None = None


class ResponsesBody(GenerationBody, frozen=True, kw_only=True):
    """``POST /v1/responses``."""

    input: str | list[InputItem] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[FunctionTool] | None = None
    allowed_tools: list[str] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    max_output_tokens: int | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    text: TextOptions | None = None
    text_format: TextFormat | None = None
    reasoning: ReasoningOptions | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    background: bool | None = None
    truncation: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    conversation: Any = None
    prompt: Any = None
    context_management: Any = None
