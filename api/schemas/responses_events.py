"""Events of a streamed response (pure). Source: OpenAI's API reference; ``error`` is also as LocalAI has it.

``sequence_number`` counts the events of one response from 0. The tag of a struct is the name of its event.
"""

from __future__ import annotations

import msgspec

from localai.api.schemas.errors import ErrorBody
from localai.api.schemas.openai_responses import DrawnToken
from localai.api.schemas.responses_objects import OutputItem, OutputText, ReasoningText, Response


class ResponseEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What all have in common."""

    sequence_number: int


class LifecycleEvent(ResponseEvent, frozen=True, kw_only=True):
    """The whole response in a new state."""

    response: Response


class ResponseCreated(LifecycleEvent, frozen=True, kw_only=True, tag="response.created"):
    """It exists."""


class ResponseQueued(LifecycleEvent, frozen=True, kw_only=True, tag="response.queued"):
    """It waits for its turn in the background."""


class ResponseInProgress(LifecycleEvent, frozen=True, kw_only=True, tag="response.in_progress"):
    """A model works on it."""


class ResponseCompleted(LifecycleEvent, frozen=True, kw_only=True, tag="response.completed"):
    """It is complete."""


class ResponseIncomplete(LifecycleEvent, frozen=True, kw_only=True, tag="response.incomplete"):
    """It ended at the token limit."""


class ResponseFailed(LifecycleEvent, frozen=True, kw_only=True, tag="response.failed"):
    """It failed."""


class ResponseCancelled(LifecycleEvent, frozen=True, kw_only=True, tag="response.cancelled"):
    """Somebody cancelled it. OpenAI's streams end here without an event."""


class ItemAdded(ResponseEvent, frozen=True, kw_only=True, tag="response.output_item.added"):
    """A new item, still empty."""

    output_index: int
    item: OutputItem


class ItemDone(ResponseEvent, frozen=True, kw_only=True, tag="response.output_item.done"):
    """An item is complete."""

    output_index: int
    item: OutputItem


class ItemEvent(ResponseEvent, frozen=True, kw_only=True):
    """Something of one item."""

    item_id: str
    output_index: int


class PartEvent(ItemEvent, frozen=True, kw_only=True):
    """Something of one part of an item."""

    content_index: int = 0


class PartAdded(PartEvent, frozen=True, kw_only=True, tag="response.content_part.added"):
    """A new part, still empty."""

    part: OutputText | ReasoningText


class PartDone(PartEvent, frozen=True, kw_only=True, tag="response.content_part.done"):
    """A part is complete."""

    part: OutputText | ReasoningText


class TextMore(PartEvent, frozen=True, kw_only=True, tag="response.output_text.delta"):
    """More text."""

    delta: str
    logprobs: tuple[DrawnToken, ...] = ()


class TextDone(PartEvent, frozen=True, kw_only=True, tag="response.output_text.done"):
    """All of a text."""

    text: str
    logprobs: tuple[DrawnToken, ...] = ()


class ReasoningMore(PartEvent, frozen=True, kw_only=True, tag="response.reasoning_text.delta"):
    """More thinking."""

    delta: str


class ReasoningDone(PartEvent, frozen=True, kw_only=True, tag="response.reasoning_text.done"):
    """All of a piece of thinking."""

    text: str


class ArgumentsMore(ItemEvent, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"):
    """More of a call's arguments."""

    delta: str


class ArgumentsDone(ItemEvent, frozen=True, kw_only=True, tag="response.function_call_arguments.done"):
    """All arguments of a call."""

    name: str
    arguments: str


class StreamError(ResponseEvent, frozen=True, kw_only=True, tag="error"):
    """What went wrong: flat for OpenAI's clients, nested for LocalAI's."""

    code: str
    message: str
    param: str | None
    error: ErrorBody
