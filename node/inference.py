"""The canonical middle: what a request is and what happens to it, whoever asks and whoever answers (pure).

Every dialect parses into these requests and renders these events; local workers, peers and external
backends consume and produce the same ones. One generation is a stream

    Progress*  Started  (Progress | Tokens)*  (Finished | Failed)

or ``Progress* Failed``: exactly one terminal event, and end of stream without one is a failure.
The events carry raw token ids and bytes. ``output_parser.py`` turns them into text at the node where the
request entered, so that another replica can continue from ids alone.

The structs travel in frames (``workers/frames.py``) as arrays: append fields with defaults, never reorder.
"""

from __future__ import annotations

from typing import Literal, NewType, TypeAlias

import msgspec

from localai.mesh.errors import Category, LocalAIError, error_class

RequestId = NewType("RequestId", str)


class ChatMessage(msgspec.Struct, frozen=True, array_like=True):
    """One turn. ``role`` is what the chat template knows: system, user, assistant, tool, ..."""

    role: str
    content: str


class ChatInput(msgspec.Struct, frozen=True, array_like=True, tag="chat"):
    """A conversation, rendered by the worker with the model's own chat template."""

    messages: tuple[ChatMessage, ...]


class TextInput(msgspec.Struct, frozen=True, array_like=True, tag="text"):
    """Raw text to continue."""

    text: str


class TokenInput(msgspec.Struct, frozen=True, array_like=True, tag="tokens"):
    """Token ids to continue, as they are (no beginning-of-sequence id is added)."""

    ids: tuple[int, ...]


Prompt: TypeAlias = ChatInput | TextInput | TokenInput


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


class GenerateRequest(msgspec.Struct, frozen=True, array_like=True):
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


SEEDS = 2**32 - 1
"""How many seeds there are: llama.cpp takes the largest 32-bit number for "draw one yourself"."""
MAX_CHOICES = 16
MAX_STOP_STRINGS = 16

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


class Tokens(msgspec.Struct, frozen=True, array_like=True, tag="tokens"):
    """New token ids of one choice and the bytes they stand for (which may end inside a character)."""

    choice: int
    ids: tuple[int, ...]
    data: bytes


class Finished(msgspec.Struct, frozen=True, array_like=True, tag="finished"):
    """Success. ``reasons[i]`` belongs to choice i."""

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


GenerateEvent: TypeAlias = Progress | Started | Tokens | Finished | Failed


def is_terminal(event: GenerateEvent) -> bool:
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
