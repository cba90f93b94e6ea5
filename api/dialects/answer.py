"""What every dialect offers to the pump and to non-streamed answers (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from localai.api.sse import SseEvent
from localai.node.inference import Failed, FinishReason, Usage, error_from_failed
from localai.node.output_parser import AnswerEvent, AnswerFinished, ChoiceFinished, TextDelta


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What is the same in every chunk of one answer."""

    id: str
    created: int
    """Seconds since 1970."""
    model: str
    choices: int
    include_usage: bool = False


class Renderer(Protocol):
    """One answer of one dialect."""

    def stream(self, answer: AnswerEvent) -> list[SseEvent]:
        """The events to send for it. Nothing before the first text, so that a failure until then has a status."""

    def whole(self, answers: Iterable[AnswerEvent]) -> msgspec.Struct:
        """The body of a non-streamed answer.

        Raises:
            LocalAIError: the answer failed.
        """


@dataclass(frozen=True, slots=True)
class FoldedAnswer:
    """All events of an answer in one value."""

    texts: tuple[str, ...]
    reasons: tuple[FinishReason, ...]
    usage: Usage


def fold(answers: Iterable[AnswerEvent], choices: int) -> FoldedAnswer:
    """Fold a complete event stream.

    Raises:
        LocalAIError: it ends with a failure.
    """
    texts = [""] * choices
    reasons: list[FinishReason] = ["stop"] * choices
    usage = Usage(0, 0)
    for answer in answers:
        match answer:
            case TextDelta():
                texts[answer.choice] += answer.text
            case ChoiceFinished():
                reasons[answer.choice] = answer.reason
            case AnswerFinished():
                usage = answer.usage
            case Failed():
                raise error_from_failed(answer)
            case _:
                pass
    return FoldedAnswer(tuple(texts), tuple(reasons), usage)
