"""OpenAI's Responses API: events of an answer to events of a response, and the response itself (pure).

Source: OpenAI's API reference. One builder makes both, so that a stream and its last event cannot differ:

    created (queued)? in_progress  (item.added (part.added delta* done part.done | arguments.delta* done) item.done)*
    completed | incomplete | failed | cancelled

Items come in the order in which the model begins them, one at a time, with ids made of the response's. A call of an MCP
tool comes when the node has carried it out, and its result after it as an item of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, assert_never

import msgspec

from localai.api.dialects.logprobs import render_chat_logprobs
from localai.api.dialects.responses_input import output_id
from localai.api.errors import error_body
from localai.api.schemas.errors import OpenAIError
from localai.api.schemas.openai_responses import DrawnToken
from localai.api.schemas.responses_events import (
    ArgumentsDone,
    ArgumentsMore,
    ItemAdded,
    ItemDone,
    PartAdded,
    PartDone,
    ReasoningDone,
    ReasoningMore,
    ResponseCancelled,
    ResponseCompleted,
    ResponseCreated,
    ResponseEvent,
    ResponseFailed,
    ResponseIncomplete,
    ResponseInProgress,
    ResponseQueued,
    StreamError,
    TextDone,
    TextMore,
)
from localai.api.schemas.responses_objects import (
    IncompleteDetails,
    InputTokensDetails,
    ItemStatus,
    OutputCall,
    OutputCallOutput,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputText,
    OutputTokensDetails,
    ReasoningText,
    Response,
    ResponseError,
    ResponseUsage,
)
from localai.api.sse import DONE, SseEvent
from localai.mesh.errors import Category, LocalAIError
from localai.node.answer_rules import NO_RULES, AnswerRules
from localai.node.inference import Failed, Usage, error_from_failed
from localai.node.mcp.rounds import RoundEvent, ToolRan, told
from localai.node.output_parser import (
    AnswerFinished,
    AnswerStarted,
    ChoiceFinished,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStart,
)

Kind: TypeAlias = Literal["message", "reasoning", "function_call"]
Clock: TypeAlias = Callable[[], float]
"""Seconds since 1970."""
_ENCODER = msgspec.json.Encoder()
_ERROR_CODES: dict[Category, str] = {
    Category.RATE_LIMITED: "rate_limit_exceeded",
    Category.INVALID_REQUEST: "invalid_prompt",
    Category.TOO_LARGE: "invalid_prompt",
}
"""Codes of a failed response that OpenAI documents; the rest is ``server_error``."""


@dataclass(slots=True)
class _Item:
    """The item that is being written."""

    kind: Kind
    id: str
    index: int
    call_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    logprobs: tuple[DrawnToken, ...] = ()

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def part(self) -> OutputText | ReasoningText:
        """Its content so far."""
        return ReasoningText(self.text) if self.kind == "reasoning" else OutputText(self.text, [], self.logprobs)

    def shown(self, status: ItemStatus) -> OutputItem:
        """The item so far."""
        match self.kind:
            case "message":
                content = [OutputText(self.text, [], self.logprobs)] if status != "in_progress" else []
                return OutputMessage(id=self.id, status=status, content=content)
            case "reasoning":
                thoughts = [ReasoningText(self.text)] if status != "in_progress" else []
                return OutputReasoning(id=self.id, status=status, content=thoughts)
            case "function_call":
                return OutputCall(id=self.id, status=status, call_id=self.call_id, name=self.name, arguments=self.text)
            case _:
                assert_never(self.kind)


class ResponseBuilder:
    """One response while it is being made. ``rules`` are those of the model's definition.

    Of a response that nobody watches the rules hold for the texts as a whole (``watched=False``); to a stream they
    only give the prefix. ``number`` is that of the first event. Nothing comes out after the last event.
    """

    def __init__(
        self, head: Response, now: Clock, rules: AnswerRules = NO_RULES, *, watched: bool = True, number: int = 0
    ) -> None:
        self.response = head
        """What is known so far."""
        self.ended = False
        self._now = now
        self._rules = rules
        self._watched = watched
        self._number = number
        self._announced = False
        self._started = False
        self._item: _Item | None = None
        self._is_cut = False
        self._chars = {"message": 0, "reasoning": 0, "function_call": 0}

    def announce(self) -> list[ResponseEvent]:
        """Say that it exists, before a model works on it."""
        self._announced = True
        out: list[ResponseEvent] = [ResponseCreated(sequence_number=self._next(), response=self.response)]
        if self.response.status == "queued":
            out.append(ResponseQueued(sequence_number=self._next(), response=self.response))
        return out

    def feed(self, answer: RoundEvent) -> list[ResponseEvent]:
        """Take the next event of the answer."""
        if self.ended:
            return []
        match answer:
            case AnswerStarted():
                return self._begin() if self._announced else []
            case TextDelta():
                return [*self._begin(), *self._open("message"), *self._say(answer)]
            case ReasoningDelta():
                return [*self._begin(), *self._open("reasoning"), *self._think(answer.text)]
            case ToolCallStart():
                return [*self._begin(), *self._open("function_call", answer.id, answer.name)]
            case ToolArgumentsDelta():
                return self._argue(answer.text)
            case ToolRan():
                return [*self._begin(), *self._ran(answer)]
            case ChoiceFinished():
                self._is_cut = answer.reason == "length"
                return []
            case AnswerFinished():
                return self._finish(answer.usage)
            case Failed():
                return self._fail(error_from_failed(answer))
            case _:
                assert_never(answer)

    def cancel(self) -> list[ResponseEvent]:
        """Somebody does not want it any more."""
        if self.ended:
            return []
        self._end(status="cancelled", output=self._output("incomplete"))
        return [ResponseCancelled(sequence_number=self._next(), response=self.response)]

    # Beginning

    def _begin(self) -> list[ResponseEvent]:
        if self._started:
            return []
        self._started = True
        self.response = msgspec.structs.replace(self.response, status="in_progress")
        out = [] if self._announced else self.announce()
        return [*out, ResponseInProgress(sequence_number=self._next(), response=self.response)]

    def _open(self, kind: Kind, call_id: str = "", name: str = "") -> list[ResponseEvent]:
        """Make an item of this kind the one that is written; every call is one of its own."""
        if self._item is not None and self._item.kind == kind != "function_call":
            return []
        out = self._close("completed")
        index = len(self.response.output)
        item = self._item = _Item(kind, output_id(self.response.id, kind, index), index, call_id, name)
        out.append(ItemAdded(sequence_number=self._next(), output_index=index, item=item.shown("in_progress")))
        if kind != "function_call":
            out.append(PartAdded(sequence_number=self._next(), item_id=item.id, output_index=index, part=item.part()))
        is_first = all(not isinstance(each, OutputMessage) for each in self.response.output)
        if kind == "message" and self._watched and self._rules.prefix and is_first:
            out += self._say(TextDelta(0, self._rules.prefix))
        return out

    # Inside an item

    def _say(self, delta: TextDelta) -> list[ResponseEvent]:
        item = self._written()
        logprobs = render_chat_logprobs(delta.logprobs).content
        item.pieces.append(delta.text)
        item.logprobs += logprobs
        number = self._next()
        return [
            TextMore(
                sequence_number=number,
                item_id=item.id,
                output_index=item.index,
                delta=delta.text,
                logprobs=logprobs,
            )
        ]

    def _think(self, text: str) -> list[ResponseEvent]:
        item = self._written()
        item.pieces.append(text)
        return [ReasoningMore(sequence_number=self._next(), item_id=item.id, output_index=item.index, delta=text)]

    def _argue(self, text: str) -> list[ResponseEvent]:
        item = self._written()
        item.pieces.append(text)
        return [ArgumentsMore(sequence_number=self._next(), item_id=item.id, output_index=item.index, delta=text)]

    def _ran(self, ran: ToolRan) -> list[ResponseEvent]:
        """The call, whole, and what came of it."""
        call = ran.call
        out = self._open("function_call", call.id, call.name)
        if call.arguments:
            out += self._argue(call.arguments)
        out += self._close("completed")
        index = len(self.response.output)
        item = OutputCallOutput(
            id=output_id(self.response.id, "function_call_output", index),
            status="completed",
            call_id=call.id,
            output=told(ran.output, is_error=ran.is_error),
        )
        self.response = msgspec.structs.replace(self.response, output=[*self.response.output, item])
        return [
            *out,
            ItemAdded(sequence_number=self._next(), output_index=index, item=item),
            ItemDone(sequence_number=self._next(), output_index=index, item=item),
        ]

    def _written(self) -> _Item:
        assert self._item is not None, "a delta comes after the start of its item"
        return self._item

    # Ending

    def _close(self, status: ItemStatus) -> list[ResponseEvent]:
        item = self._item
        if item is None:
            return []
        self._count(item)
        if item.kind == "message" and not self._watched:
            item.pieces = [self._rules.apply(item.text)]
        whole = item.shown(status)
        self.response = msgspec.structs.replace(self.response, output=[*self.response.output, whole])
        self._item = None
        return [
            *self._done(item),
            ItemDone(sequence_number=self._next(), output_index=item.index, item=whole),
        ]

    def _done(self, item: _Item) -> list[ResponseEvent]:
        number, index = self._next(), item.index
        if item.kind == "function_call":
            return [
                ArgumentsDone(
                    sequence_number=number, item_id=item.id, output_index=index, name=item.name, arguments=item.text
                )
            ]
        done: ResponseEvent
        if item.kind == "message":
            done = TextDone(
                sequence_number=number,
                item_id=item.id,
                output_index=index,
                text=item.text,
                logprobs=item.logprobs,
            )
        else:
            done = ReasoningDone(sequence_number=number, item_id=item.id, output_index=index, text=item.text)
        return [
            done,
            PartDone(sequence_number=self._next(), item_id=item.id, output_index=index, part=item.part()),
        ]

    def _finish(self, usage: Usage) -> list[ResponseEvent]:
        out = self._begin()
        if self._item is None and not self.response.output:
            out += self._open("message")
        out += self._close("incomplete" if self._is_cut else "completed")
        self._end(
            status="incomplete" if self._is_cut else "completed",
            incomplete_details=IncompleteDetails() if self._is_cut else None,
            usage=self._usage(usage),
        )
        ending = ResponseIncomplete if self._is_cut else ResponseCompleted
        return [*out, ending(sequence_number=self._next(), response=self.response)]

    def _fail(self, error: LocalAIError) -> list[ResponseEvent]:
        out = self._begin()
        code = _ERROR_CODES.get(error.category, "server_error")
        self._end(status="failed", error=ResponseError(code, error.message), output=self._output("incomplete"))
        shown = stream_error(error, self._next())
        return [*out, shown, ResponseFailed(sequence_number=self._next(), response=self.response)]

    def _output(self, status: ItemStatus) -> list[OutputItem]:
        """All items, the open one as far as it has come."""
        return [*self.response.output, *([self._item.shown(status)] if self._item is not None else [])]

    def _end(self, **changes: object) -> None:
        self.ended = True
        self.response = msgspec.structs.replace(self.response, completed_at=int(self._now()), **changes)

    def _count(self, item: _Item) -> None:
        self._chars[item.kind] += len(item.text)

    def _usage(self, usage: Usage) -> ResponseUsage:
        chars = self._chars["reasoning"]
        share = chars / (sum(self._chars.values()) or 1)
        reasoning = max(min(1, chars), round(usage.completion_tokens * share))
        return ResponseUsage(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=InputTokensDetails(usage.cached_tokens),
            output_tokens=usage.completion_tokens,
            output_tokens_details=OutputTokensDetails(min(reasoning, usage.completion_tokens)),
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
        )

    def _next(self) -> int:
        number = self._number
        self._number += 1
        return number


class ResponsesRenderer:
    """One response as a dialect; ``keep`` is told of it once it has ended, before the client is."""

    def __init__(self, builder: ResponseBuilder, keep: Callable[[Response], None]) -> None:
        self._builder = builder
        self._keep = keep

    def stream(self, answer: RoundEvent) -> list[SseEvent]:
        """See ``Renderer.stream``."""
        events = [render_event(event) for event in self._builder.feed(answer)]
        if self._builder.ended and events:
            self._keep(self._builder.response)
            events.append(DONE)
        return events

    def whole(self, answers: Iterable[RoundEvent]) -> Response:
        """See ``Renderer.whole``."""
        for answer in answers:
            if isinstance(answer, Failed):
                raise error_from_failed(answer)
            self._builder.feed(answer)
        self._keep(self._builder.response)
        return self._builder.response


def render_event(event: ResponseEvent) -> SseEvent:
    """An event as it is sent."""
    return SseEvent(_ENCODER.encode(event), str(event.__struct_config__.tag))


def stream_error(error: LocalAIError, number: int) -> StreamError:
    """The event that tells of an error inside a stream."""
    body = error_body(error, "responses")
    assert isinstance(body, OpenAIError)
    return StreamError(
        sequence_number=number, code=error.code, message=error.message, param=error.param, error=body.error
    )
