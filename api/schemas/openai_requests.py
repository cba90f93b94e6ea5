"""Bodies that clients of OpenAI's API send (pure).

Source: OpenAI's API reference for chat completions, completions, edits and embeddings, with LocalAI's additions
(``top_k``, ``min_p``, ``repeat_penalty``, ``ignore_eos``, ``grammar``, ``grammar_json_functions``, ``pooling``).
Unknown fields are ignored, as both do; so are ``backend``, ``store``, ``service_tier``, ``user`` and what LocalAI reads
without using it: which engine runs a model is its owner's choice, not the client's.
"""

from __future__ import annotations

import msgspec

ABSENT = msgspec.Raw(b"")
"""The value of a raw field that a body does not have."""


def absent() -> msgspec.Raw:
    """The default of raw fields, as a function because the description of the API cannot show a raw value."""
    return ABSENT


class UrlBody(msgspec.Struct, frozen=True):
    """Where a picture, film or sound is."""

    url: str


class SoundBody(msgspec.Struct, frozen=True):
    """A sound as base64."""

    data: str


class ContentPart(msgspec.Struct, frozen=True):
    """One part of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | UrlBody | None = None
    video_url: str | UrlBody | None = None
    audio_url: str | UrlBody | None = None
    input_audio: SoundBody | None = None


class FunctionCallBody(msgspec.Struct, frozen=True):
    """A call of an earlier turn. ``arguments`` is JSON text."""

    name: str
    arguments: str = ""


class ToolCallBody(msgspec.Struct, frozen=True):
    """One of several calls of an earlier turn."""

    function: FunctionCallBody | None = None
    id: str | None = None
    type: str = "function"


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCallBody | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """How to stream."""

    include_usage: bool | None = False


class SchemaBody(msgspec.Struct, frozen=True):
    """The schema of a structured answer."""

    schema: msgspec.Raw = msgspec.field(default_factory=absent)


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form of an answer."""

    type: str
    json_schema: SchemaBody | None = None


class FunctionBody(msgspec.Struct, frozen=True):
    """A function that the model may call. ``parameters`` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.field(default_factory=absent)
    strict: bool | None = None


class ToolBody(msgspec.Struct, frozen=True):
    """Something that the model may use."""

    type: str = "function"
    function: FunctionBody | None = None


class FunctionName(msgspec.Struct, frozen=True):
    """Which function."""

    name: str


class ToolName(msgspec.Struct, frozen=True):
    """Which tool: named inside, or beside as LocalAI takes it too."""

    type: str = "function"
    function: FunctionName | None = None
    name: str | None = None


class AllowedTools(msgspec.Struct, frozen=True):
    """The tools that this turn may use."""

    tools: list[ToolName] = []
    mode: str = "auto"


class ToolChoice(ToolName, frozen=True):
    """Which tool to call, or which are allowed."""

    allowed_tools: AllowedTools | None = None


class GenerationBody(msgspec.Struct, frozen=True, kw_only=True):
    """What chat, text completions and edits have in common."""

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
    logprobs: bool | int | None = None
    logit_bias: dict[str, float] | None = None
    response_format: str | ResponseFormat | None = None
    grammar: str | None = None
    grammar_json_functions: msgspec.Raw = msgspec.field(default_factory=absent)
    typical_p: float | None = None
    n_keep: int | None = None
    batch: int | None = None
    rope_freq_base: float | None = None
    rope_freq_scale: float | None = None


class ChatBody(GenerationBody, frozen=True, kw_only=True):
    """``POST /v1/chat/completions``."""

    messages: list[Message] = []
    max_completion_tokens: int | None = None
    tools: list[ToolBody] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionBody] | None = None
    function_call: str | FunctionName | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    modalities: list[str] | None = None
    echo: bool | None = None
    metadata: dict[str, str] | None = None


class CompletionBody(GenerationBody, frozen=True, kw_only=True):
    """``POST /v1/completions``."""

    prompt: str | list[str | int | list[int]] = ""
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None


class EditBody(GenerationBody, frozen=True, kw_only=True):
    """``POST /v1/edits``."""

    instruction: str = ""
    input: str | list[str] = ""


class EmbeddingBody(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/embeddings``."""

    model: str | None = None
    input: str | list[str | int | list[str | int]] | None = None
    messages: list[Message] | None = None
    encoding_format: str | None = None
    dimensions: int | None = None
    pooling: str | None = None
    pooling_half_life_tokens: int | None = None
