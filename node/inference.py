"""The canonical middle: what a request is and what happens to it, whoever asks and whoever answers (pure).

Every dialect parses into these requests and renders these events; local workers, peers and external
backends consume and produce the same ones. One generation is a stream

    Progress*  Started  (Progress | Tokens)*  (Finished | Failed)

or ``Progress* Failed``: exactly one terminal event, and end of stream without one is a failure. The other tasks have
a result in place of ``Started`` and ``Tokens``: ``Embedded`` for each input, or one ``Scored`` or
``Detokenized``, or one or more ``Tokenized``.
The events carry raw token ids and bytes. ``output_parser.py`` turns them into text at the node where the
request entered, so that another replica can continue from ids alone.

The structs travel in frames (``workers/frames.py``) as arrays: append fields with defaults, never reorder.
"""

from __future__ import annotations

from typing import Literal, NewType, TypeAlias

import msgspec

from localai.mesh.errors import Category, LocalAIError, error_class

RequestId = NewType("RequestId", str)


class ToolCall(msgspec.Struct, frozen=True, array_like=True):
    """A call that the model asked for in an earlier turn. ``arguments`` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


class Media(msgspec.Struct, frozen=True, array_like=True):
    """A picture or sound that belongs to a turn, as its file's bytes."""

    kind: Literal["image", "audio", "video"]
    data: bytes


class ChatMessage(msgspec.Struct, frozen=True, array_like=True):
    """One turn. ``role`` is what the chat template knows: system, user, assistant, tool, ..."""

    role: str
    content: str
    name: str = ""
    reasoning: str = ""
    """What the model thought before ``content``; assistant turns only."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """The call that a tool's turn answers."""
    media: tuple[Media, ...] = ()


class Tool(msgspec.Struct, frozen=True, array_like=True):
    """A function that the model may call. ``parameters`` is a JSON schema, as JSON text."""

    name: str
    description: str = ""
    parameters: str = "{}"
    strict: bool = False


class ChatInput(msgspec.Struct, frozen=True, array_like=True, tag="chat"):
    """A conversation, rendered by the worker with the model's own chat template."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: Literal["auto", "required", "none"] = "auto"
    """Whether the model may, must or must not call a tool."""
    only_tool: str = ""
    """With ``required``: the tool that must be called; empty for any."""
    parallel_tool_calls: bool = True
    reasoning_effort: str = ""
    """``none`` turns thinking off; else a word for the template, empty for its default."""


class TextInput(msgspec.Struct, frozen=True, array_like=True, tag="text"):
    """Raw text to continue."""

    text: str


class TokenInput(msgspec.Struct, frozen=True, array_like=True, tag="tokens"):
    """Token ids to continue, as they are (no beginning-of-sequence id is added)."""

    ids: tuple[int, ...]


Prompt: TypeAlias = ChatInput | TextInput | TokenInput


class JsonSchema(msgspec.Struct, frozen=True, array_like=True, tag="json_schema"):
    """The answer must be JSON that this schema accepts. ``schema`` is JSON text; ``{}`` accepts every object."""

    schema: str = "{}"


class Grammar(msgspec.Struct, frozen=True, array_like=True, tag="grammar"):
    """The answer must be a text of this grammar, written in llama.cpp's GBNF."""

    gbnf: str


Constraint: TypeAlias = JsonSchema | Grammar


class Sampling(msgspec.Struct, frozen=True, array_like=True):
    """How the next token is drawn. Defaults are LocalAI's (Source: its request table, cfg fallbacks)."""

    temperature: float = 0.9
    """0 to 2; 0 takes the most likely token."""
    top_p: float = 0.95
    """0 to 1: smallest set of tokens whose probabilities sum to this; 1 is off."""
    top_k: int = 40
    """Only the k most likely tokens; 0 is off."""
    min_p: float = 0.0
    """0 to 1: drop tokens less likely than this share of the most likely one."""
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    """0 to :data:`SEEDS` - 1; None draws a fresh one."""


class GenerateRequest(msgspec.Struct, frozen=True, array_like=True, tag="generate"):
    """Continue a prompt."""

    id: RequestId
    model: str
    prompt: Prompt
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    """Tokens per choice, at least 1; None goes on to the end of the context."""
    stop: tuple[str, ...] = ()
    choices: int = 1
    """Independent continuations, 1 to :data:`MAX_CHOICES`."""
    ignore_eos: bool = False
    caller: str = ""
    """Whose request it is, for fairness; empty for an anonymous one."""
    weight: float = 1.0
    deadline_s: float | None = None
    """Seconds the caller still waits, counted from when this value was sent."""
    local_only: bool = False
    """Never leave the node where it entered."""
    constraint: Constraint | None = None
    logprobs: int | None = None
    """None for no log probabilities; else how many likely alternatives come with each token, 0 to
    :data:`MAX_TOP_LOGPROBS`."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token id -> what is added to its logit, -100 to 100."""


class EmbedRequest(msgspec.Struct, frozen=True, array_like=True, tag="embed"):
    """Turn each input into a vector."""

    id: RequestId
    model: str
    inputs: tuple[Prompt, ...]
    dimensions: int | None = None
    """Numbers in each vector, for models that can be cut short; None for all."""
    caller: str = ""
    weight: float = 1.0
    deadline_s: float | None = None
    local_only: bool = False


class RerankRequest(msgspec.Struct, frozen=True, array_like=True, tag="rerank"):
    """Say how well each document answers the query."""

    id: RequestId
    model: str
    query: str
    documents: tuple[str, ...]
    caller: str = ""
    weight: float = 1.0
    deadline_s: float | None = None
    local_only: bool = False


class TokenizeRequest(msgspec.Struct, frozen=True, array_like=True, tag="tokenize"):
    """Text to token ids of the model's vocabulary, without ids of the beginning and the end."""

    id: RequestId
    model: str
    text: str
    caller: str = ""
    weight: float = 1.0
    deadline_s: float | None = None
    local_only: bool = False
    prompt: Prompt | None = None
    """Counts in place of ``text``: the ids are those that a generation would begin with."""


class DetokenizeRequest(msgspec.Struct, frozen=True, array_like=True, tag="detokenize"):
    """Token ids to the bytes they stand for."""

    id: RequestId
    model: str
    ids: tuple[int, ...]
    caller: str = ""
    weight: float = 1.0
    deadline_s: float | None = None
    local_only: bool = False


Request: TypeAlias = GenerateRequest | EmbedRequest | RerankRequest | TokenizeRequest | DetokenizeRequest


SEEDS = 2**32 - 1
"""How many seeds there are: llama.cpp takes the largest 32-bit number for "draw one yourself"."""
MAX_CHOICES = 16
MAX_STOP_STRINGS = 16
MAX_TOP_LOGPROBS = 20
MAX_EVENT_IDS = 1 << 16
MAX_LOGIT_BIAS = 100.0
MAX_INPUTS = 2048
"""Inputs of one :class:`EmbedRequest`, and documents of one :class:`RerankRequest`."""

FinishReason: TypeAlias = Literal["stop", "stop_string", "length"]
"""The model ended its turn; a stop string appeared; the token or context limit was reached."""


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """Tokens spent. ``completion_tokens`` counts all choices, ``prompt_tokens`` the prompt once."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class Timings(msgspec.Struct, frozen=True, array_like=True):
    """Seconds inside the worker."""

    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Progress(msgspec.Struct, frozen=True, array_like=True, tag="progress"):
    """Still waiting. ``done`` of ``total``: place in the queue, per mille of loading, or prompt tokens."""

    phase: Literal["queued", "loading", "prefill"]
    done: int = 0
    total: int = 0


class Started(msgspec.Struct, frozen=True, array_like=True, tag="started"):
    """The prompt is accepted and has a slot."""

    prompt_digest: str
    """SHA-256, hex, over the prompt ids as little-endian int32: what a replica must reproduce to resume."""
    prompt_tokens: int
    cached_tokens: int = 0
    template_id: str = ""
    parser_id: str = "plain"


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """How likely one token was: natural logarithm, at most 0."""

    id: int
    data: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()
    """The most likely tokens at its place, best first: id, bytes, log probability."""


class Tokens(msgspec.Struct, frozen=True, array_like=True, tag="tokens"):
    """New token ids of one choice and the bytes they stand for (which may end inside a character)."""

    choice: int
    ids: tuple[int, ...]
    data: bytes
    logprobs: tuple[TokenLogprob, ...] = ()
    """One for each id, when they were asked for."""


class Embedded(msgspec.Struct, frozen=True, array_like=True, tag="embedded"):
    """The vector of one input: little-endian float32 numbers."""

    index: int
    vector: bytes


class Scored(msgspec.Struct, frozen=True, array_like=True, tag="scored"):
    """How well each document answers the query, in the order of the documents; more is better."""

    scores: tuple[float, ...]


class Tokenized(msgspec.Struct, frozen=True, array_like=True, tag="tokenized"):
    """The next ids of a text, at most :data:`MAX_EVENT_IDS`."""

    ids: tuple[int, ...]


class Detokenized(msgspec.Struct, frozen=True, array_like=True, tag="detokenized"):
    """The bytes of ids, which may end inside a character."""

    data: bytes


class Finished(msgspec.Struct, frozen=True, array_like=True, tag="finished"):
    """Success. ``reasons[i]`` belongs to choice i; tasks without choices have none."""

    reasons: tuple[FinishReason, ...]
    usage: Usage
    timings: Timings = Timings()


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """Failure, as it travels; the fields are those of :class:`localai.mesh.errors.LocalAIError`."""

    category: Category
    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None


Event: TypeAlias = Progress | Started | Tokens | Embedded | Scored | Tokenized | Detokenized | Finished | Failed


def is_terminal(event: Event) -> bool:
    """True for the one event that ends a stream."""
    return isinstance(event, (Finished, Failed))


def failed_from_error(error: LocalAIError) -> Failed:
    """The event that reports ``error``. Its private detail stays here."""
    return Failed(error.category, error.code, error.message, error.param, error.retry_after_s)


def error_from_failed(failed: Failed) -> LocalAIError:
    """The exception that ``failed`` was made from, as far as it travelled."""
    return error_class(failed.category)(
        failed.message, code=failed.code, param=failed.param, retry_after_s=failed.retry_after_s
    )
