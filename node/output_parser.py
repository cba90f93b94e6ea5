"""From raw token events to text, at the node where the request entered (pure).

Keeps back what cannot be shown yet: bytes inside a character, and bytes that may become a stop string.
Dialects see only what comes out of here. Reasoning and tool calls will be further kinds of delta.

    AnswerStarted?  (TextDelta | ...)*  ChoiceFinished{choices}  AnswerFinished
    ... Failed                                                     in place of the rest, at any point
"""

from __future__ import annotations

import codecs
from typing import TypeAlias, assert_never

import msgspec

from localai.mesh.errors import Category
from localai.node.inference import (
    Failed,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    Progress,
    Started,
    Timings,
    Tokens,
    Usage,
)
from localai.node.stop_strings import StopMatcher


class AnswerStarted(msgspec.Struct, frozen=True):
    """A model works on it; the first text follows."""

    prompt_tokens: int


class TextDelta(msgspec.Struct, frozen=True):
    """More text of one choice, never empty."""

    choice: int
    text: str


class ChoiceFinished(msgspec.Struct, frozen=True):
    """One choice is complete."""

    choice: int
    reason: FinishReason
    stop_string: str | None = None


class AnswerFinished(msgspec.Struct, frozen=True):
    """All choices are complete. Terminal."""

    usage: Usage
    timings: Timings


AnswerEvent: TypeAlias = AnswerStarted | TextDelta | ChoiceFinished | AnswerFinished | Failed


class OutputParser:
    """Folds the event stream of one request. One terminal event comes out, whatever goes in."""

    def __init__(self, request: GenerateRequest) -> None:
        self._choices = [_Choice(request.stop) for _ in range(request.choices)]
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once the terminal event has come out."""
        return self._closed

    def feed(self, event: GenerateEvent) -> list[AnswerEvent]:
        """Take the next raw event. Anything after the terminal one is dropped."""
        if self._closed:
            return []
        match event:
            case Progress():
                return []
            case Started():
                return [AnswerStarted(event.prompt_tokens)]
            case Tokens():
                return self._tokens(event)
            case Finished():
                return self._finish(event)
            case Failed():
                self._closed = True
                return [event]
            case _:
                assert_never(event)

    def end_of_stream(self) -> list[AnswerEvent]:
        """The source ended. Without a terminal event before, that is a failure."""
        if self._closed:
            return []
        self._closed = True
        return [_violation("The answer ended without its last event. Try again.")]

    def _tokens(self, event: Tokens) -> list[AnswerEvent]:
        if not 0 <= event.choice < len(self._choices):
            self._closed = True
            return [_violation("The answer names a choice that was not asked for.")]
        text = self._choices[event.choice].feed(event.data)
        return [TextDelta(event.choice, text)] if text else []

    def _finish(self, event: Finished) -> list[AnswerEvent]:
        self._closed = True
        if len(event.reasons) != len(self._choices):
            return [_violation("The answer ended with another number of choices than was asked for.")]
        out: list[AnswerEvent] = []
        for index, (choice, reason) in enumerate(zip(self._choices, event.reasons, strict=True)):
            rest = choice.finish()
            if rest:
                out.append(TextDelta(index, rest))
            out.append(ChoiceFinished(index, "stop_string" if choice.matched else reason, choice.matched))
        out.append(AnswerFinished(event.usage, event.timings))
        return out


class _Choice:
    """Held-back bytes of one choice."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stops = StopMatcher(stop)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self.matched: str | None = None

    def feed(self, data: bytes) -> str:
        scan = self._stops.feed(data)
        if scan.matched is not None:
            self.matched = scan.matched
        return self._utf8.decode(scan.text)

    def finish(self) -> str:
        return self._utf8.decode(self._stops.flush(), True)


def _violation(message: str) -> Failed:
    return Failed(Category.UPSTREAM_FAILED, "upstream_failed", message)
