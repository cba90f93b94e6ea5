"""What every dialect offers to the pump and to non-streamed answers (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, assert_never

import msgspec

from localai.api.sse import SseEvent
from localai.node.inference import Failed, FinishReason, Timings, TokenLogprob, ToolCall, Usage, error_from_failed
from localai.node.output_parser import (
    AnswerEvent,
    AnswerFinished,
    AnswerStarted,
    ChoiceFinished,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStart,
)


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What is the same in every chunk of one answer."""

    id: str
    created: int
    """Seconds since 1970."""
    model: str
    choices: int
    include_usage: bool = False
    """Streams end with the tokens spent."""
    with_timings: bool = False
    """The tokens spent come with the time they took."""


E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)


class StreamRenderer(Protocol[E_contra]):
    """How a stream of one dialect shows what an answer is made of."""

    def stream(self, answer: E_contra | Failed) -> list[SseEvent]:
        """The events to send for it. Nothing before the first text, so that a failure until then has a status."""


class Renderer(Protocol):
    """One answer of one dialect."""

    def stream(self, answer: AnswerEvent) -> list[SseEvent]:
        """The events to send for it. Nothing before the first text, so that a failure until then has a status."""

    def whole(self, answers: Iterable[AnswerEvent]) -> msgspec.Struct:
        """The body of a non-streamed answer.

        Raises:
            LocalAIError: the answer failed.
        """


@dataclass(slots=True)
class FoldedChoice:
    """All of one choice."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    reason: FinishReason = "stop"
    stop_string: str | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FoldedAnswer:
    """All events of an answer in one value."""

    choices: tuple[FoldedChoice, ...]
    usage: Usage
    timings: Timings


def fold(answers: Iterable[AnswerEvent], choices: int) -> FoldedAnswer:
    """Fold a complete event stream.

    Raises:
        LocalAIError: it ends with a failure.
    """
    folded = tuple(FoldedChoice() for _ in range(choices))
    usage, timings = Usage(0, 0), Timings()
    for answer in answers:
        match answer:
            case TextDelta():
                folded[answer.choice].text += answer.text
                folded[answer.choice].logprobs += answer.logprobs
            case ReasoningDelta():
                folded[answer.choice].reasoning += answer.text
            case ToolCallStart():
                folded[answer.choice].calls.append(ToolCall(answer.id, answer.name, ""))
            case ToolArgumentsDelta():
                calls = folded[answer.choice].calls
                call = calls[answer.index]
                calls[answer.index] = ToolCall(call.id, call.name, call.arguments + answer.text)
            case ChoiceFinished():
                folded[answer.choice].reason = answer.reason
                folded[answer.choice].stop_string = answer.stop_string
            case AnswerFinished():
                usage, timings = answer.usage, answer.timings
            case Failed():
                raise error_from_failed(answer)
            case AnswerStarted():
                pass
            case _:
                assert_never(answer)
    return FoldedAnswer(folded, usage, timings)
