"""Bodies of Ollama's API (pure).

Source: Ollama's API reference. The options about loading are not here, since unknown fields are ignored: how models
are loaded is the node's to decide.
"""

from __future__ import annotations

from typing import Any

import msgspec

Maybe = msgspec.UnsetType
_NOTHING = msgspec.Raw()


def _nothing() -> msgspec.Raw:
    """The default of raw fields, as a function because the description of the API cannot show a raw value."""
    return _NOTHING


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to generate. Whole numbers may be written as floats."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: float | None = None
    num_predict: float | None = None
    stop: str | list[str] | None = None
    mirostat: float | None = None
    typical_p: float | None = None
    tfs_z: float | None = None


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """A function with its arguments, an object."""

    name: str
    arguments: msgspec.Raw = msgspec.field(default_factory=_nothing)


class CallBody(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the model asked for."""

    id: str = ""
    function: FunctionCall


class MessageBody(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. Images are base64 of their files."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[bytes] | None = None
    tool_calls: list[CallBody] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class FunctionBody(msgspec.Struct, frozen=True, kw_only=True):
    """A function that may be called."""

    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = msgspec.field(default_factory=_nothing)


class ToolBody(msgspec.Struct, frozen=True, kw_only=True):
    """A tool."""

    type: str | None = None
    function: FunctionBody | None = None


class GenerationBody(msgspec.Struct, frozen=True, kw_only=True):
    """What both kinds of generation have in common."""

    model: str | None = None
    stream: bool | None = None
    format: msgspec.Raw = msgspec.field(default_factory=_nothing)
    options: Options | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    keep_alive: float | str | None = None
    """Counts only where there is nothing to answer: 0 unloads the model then."""


class ChatBody(GenerationBody, frozen=True, kw_only=True):
    """``POST /api/chat``."""

    messages: list[MessageBody] | None = None
    tools: list[ToolBody] | None = None


class GenerateBody(GenerationBody, frozen=True, kw_only=True):
    """``POST /api/generate``."""

    prompt: str | None = None
    system: str | None = None
    images: list[bytes] | None = None
    raw: bool | None = None
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None


class EmbedBody(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /api/embed`` and ``/api/embeddings``; ``prompt`` is the older name of ``input``."""

    model: str | None = None
    input: str | list[str] | None = None
    prompt: str | list[str] | None = None
    dimensions: int | None = None


class ShowBody(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /api/show``; ``name`` is the older name of ``model``."""

    model: str | None = None
    name: str | None = None


class FunctionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A function to call."""

    index: int
    name: str
    arguments: msgspec.Raw


class CallAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the model asks for."""

    id: str
    function: FunctionAnswer


class MessageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says, or what is new of it."""

    role: str = "assistant"
    content: str = ""
    thinking: str | Maybe = msgspec.UNSET
    tool_calls: list[CallAnswer] | Maybe = msgspec.UNSET


class LikelyToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token and how likely it was."""

    token: str
    logprob: float
    bytes: list[int]


class DrawnToken(LikelyToken, frozen=True, kw_only=True):
    """A token of the answer, with others that were likely at its place."""

    top_logprobs: list[LikelyToken] | Maybe = msgspec.UNSET


class AnswerBody(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, or a line of one. Durations are in nanoseconds; they and the counts come with the end."""

    model: str
    created_at: str
    message: MessageAnswer | Maybe = msgspec.UNSET
    response: str | Maybe = msgspec.UNSET
    thinking: str | Maybe = msgspec.UNSET
    done: bool
    done_reason: str | Maybe = msgspec.UNSET
    total_duration: int | Maybe = msgspec.UNSET
    load_duration: int | Maybe = msgspec.UNSET
    prompt_eval_count: int | Maybe = msgspec.UNSET
    prompt_eval_duration: int | Maybe = msgspec.UNSET
    eval_count: int | Maybe = msgspec.UNSET
    eval_duration: int | Maybe = msgspec.UNSET
    logprobs: list[DrawnToken] | Maybe = msgspec.UNSET


class EmbedResponse(msgspec.Struct, frozen=True, kw_only=True):
    """``/api/embed``."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class EmbeddingsResponse(msgspec.Struct, frozen=True):
    """``/api/embeddings``, the older form for one text."""

    embedding: list[float]


class DetailsBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is."""

    parent_model: str = ""
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class ModelBody(msgspec.Struct, frozen=True, kw_only=True):
    """A model in the list."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: DetailsBody
    capabilities: list[str]


class TagsResponse(msgspec.Struct, frozen=True):
    """``GET /api/tags``."""

    models: list[ModelBody]


class LoadedBody(msgspec.Struct, frozen=True, kw_only=True):
    """A model in memory."""

    name: str
    model: str
    size: int
    digest: str
    details: DetailsBody
    expires_at: str
    size_vram: int
    context_length: int


class LoadedResponse(msgspec.Struct, frozen=True):
    """``GET /api/ps``."""

    models: list[LoadedBody]


class ShowResponse(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /api/show``."""

    modelfile: str
    parameters: str
    template: str
    details: DetailsBody
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class OllamaVersion(msgspec.Struct, frozen=True):
    """``GET /api/version``."""

    version: str
