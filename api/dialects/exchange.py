"""One HTTP request as one or more generations, and their events as one stream (pure).

Text completions may ask for several prompts; choice c of prompt p is choice ``p * n + c`` of the answer. Chat has one
prompt. Whatever comes in, exactly one terminal event comes out, as the last one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from localai.node.inference import Event, Failed, GenerateRequest, Timings, Usage
from localai.node.output_parser import (
    AnswerEvent,
    AnswerFinished,
    ChoiceFinished,
    OutputParser,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStart,
)


class Exchange:
    """The requests of one HTTP request, taken one after the other."""

    def __init__(self, requests: tuple[GenerateRequest, ...]) -> None:
        self.requests = requests
        self._current = 0
        self._parser = OutputParser(requests[0])
        self._usage = Usage(0, 0, 0)
        self._timings = Timings()
        self._closed = False

    def keep_here(self, local_only: bool) -> None:
        """Let no other node see the requests, if ``local_only``. Call it before they are sent."""
        if local_only:
            self.requests = tuple(msgspec.structs.replace(request, local_only=True) for request in self.requests)

    def feed(self, events: Iterable[Event]) -> list[AnswerEvent]:
        """Take raw events of the current request."""
        return self._pass_on([answer for event in events for answer in self._parser.feed(event)])

    def next_request(self) -> list[AnswerEvent]:
        """The current request's stream has ended; go on to the next one."""
        answers = self._pass_on(self._parser.end_of_stream())
        if not self._closed:
            self._current += 1
            self._parser = OutputParser(self.requests[self._current])
        return answers

    @property
    def closed(self) -> bool:
        """True once the terminal event has come out."""
        return self._closed

    def _pass_on(self, answers: list[AnswerEvent]) -> list[AnswerEvent]:
        out: list[AnswerEvent] = []
        for answer in answers:
            match answer:
                case AnswerFinished():
                    self._add(answer)
                    if self._current == len(self.requests) - 1:
                        self._closed = True
                        out.append(AnswerFinished(self._usage, self._timings))
                case Failed():
                    self._closed = True
                    out.append(answer)
                case TextDelta() | ReasoningDelta() | ToolCallStart() | ToolArgumentsDelta() | ChoiceFinished():
                    choice = answer.choice + self._current * self.requests[0].choices
                    out.append(msgspec.structs.replace(answer, choice=choice))
                case _:
                    out.append(answer)
        return out

    def _add(self, finished: AnswerFinished) -> None:
        more, timings = finished.usage, finished.timings
        self._usage = Usage(
            self._usage.prompt_tokens + more.prompt_tokens,
            self._usage.completion_tokens + more.completion_tokens,
            self._usage.cached_tokens + more.cached_tokens,
        )
        self._timings = Timings(
            self._timings.queue_s + timings.queue_s,
            self._timings.prefill_s + timings.prefill_s,
            self._timings.decode_s + timings.decode_s,
        )


A = TypeVar("A")


def join_deltas(answers: Iterable[A]) -> list[A | AnswerEvent]:
    """The same events with neighbouring texts of one kind in one piece: fewer chunks for a reader that lags."""
    out: list[A | AnswerEvent] = []
    for answer in answers:
        joined = _joined(out[-1], answer) if out else None
        if joined is not None:
            out[-1] = joined
        else:
            out.append(answer)
    return out


def _joined(first: object, second: object) -> AnswerEvent | None:
    match first, second:
        case (TextDelta(), TextDelta()) if first.choice == second.choice:
            return TextDelta(first.choice, first.text + second.text, first.logprobs + second.logprobs)
        case (ReasoningDelta(), ReasoningDelta()) if first.choice == second.choice:
            return ReasoningDelta(first.choice, first.text + second.text)
        case (ToolArgumentsDelta(), ToolArgumentsDelta()) if (first.choice, first.index) == (
            second.choice,
            second.index,
        ):
            return ToolArgumentsDelta(first.choice, first.index, first.text + second.text)
        case _:
            return None
