"""Anthropic's messages: events to blocks, whole and in streams (pure). Source: Anthropic's API reference.

A block ends when something of another kind follows. The input of a call is sent when it is complete and certainly an
object, as Anthropic does: its clients parse it, and one that is none is wrapped as ``{"raw": ...}``, which is
LocalAI's way. Clients that ask for it get it as the model writes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, assert_never

import msgspec

from localai.api.errors import error_body
from localai.api.schemas.anthropic_responses import (
    Block,
    BlockDelta,
    BlockMore,
    BlockStart,
    BlockStop,
    Ending,
    InputDelta,
    MessageDelta,
    MessageOut,
    MessageStart,
    MessageStop,
    Ping,
    SignatureDelta,
    StreamEvent,
    TextBlock,
    TextDeltaOut,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
    UsageOut,
)
from localai.api.sse import SSE, SseEvent, StreamForm, encode_event
from localai.node.answer_rules import NO_RULES, AnswerRules
from localai.node.inference import Failed, Usage, error_from_failed
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

SIGNATURE = "localai"
"""What stands where Anthropic signs thoughts; nothing here checks it."""
_ENCODER = msgspec.json.Encoder()
_NO_INPUT = msgspec.Raw(b"{}")

Thinking: TypeAlias = Literal["shown", "omitted", "hidden"]
"""Whether blocks of thinking are sent with their text, without it, or not at all."""


@dataclass(frozen=True, slots=True)
class MessageForm:
    """How an answer is shown. The input of ``eager_tools`` is streamed as the model writes it."""

    thinking: Thinking = "hidden"
    eager_tools: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Part:
    """One block while it grows. ``text`` of a call is its arguments."""

    kind: Literal["text", "thinking", "tool_use"]
    text: str = ""
    call_id: str = ""
    name: str = ""


@dataclass(slots=True)
class _Parts:
    """Which blocks an answer has: the same ones in a stream and in a whole answer."""

    is_hidden: bool
    """Thoughts make no block."""
    all: list[_Part] = field(default_factory=list)

    def take(self, answer: TextDelta | ReasoningDelta | ToolCallStart) -> _Part | None:
        """The block that an event belongs to, which may be a new one; None for no block."""
        match answer:
            case ToolCallStart():
                return self._add(_Part("tool_use", "", answer.id, answer.name))
            case ReasoningDelta() if self.is_hidden:
                return None
            case _:
                kind: Literal["text", "thinking"] = "text" if isinstance(answer, TextDelta) else "thinking"
                last = self.all[-1] if self.all else None
                return last if last is not None and last.kind == kind else self._add(_Part(kind))

    def close(self) -> None:
        """The answer is complete. One that neither says nor calls anything has an empty text, as in LocalAI."""
        if not any(part.kind in ("text", "tool_use") for part in self.all):
            self._add(_Part("text"))

    def is_first_text(self, part: _Part) -> bool:
        """Whether the definition's prefix goes before it."""
        return next((each for each in self.all if each.kind == "text"), None) is part

    def _add(self, part: _Part) -> _Part:
        self.all.append(part)
        return part


class MessageRenderer:
    """One answer. ``rules`` are those of the model's definition."""

    def __init__(
        self, message_id: str, model: str, rules: AnswerRules = NO_RULES, form: MessageForm = MessageForm()
    ) -> None:
        self._id = message_id
        self._model = model
        self._rules = rules
        self._form = form
        self._parts = _Parts(form.thinking == "hidden")
        self._open: _Part | None = None
        self._index = -1
        self._begun = False
        self._prompt_tokens = 0
        self._finished = ChoiceFinished(0, "stop")

    def stream(self, answer: AnswerEvent) -> list[SseEvent]:
        """See ``Renderer.stream``."""
        match answer:
            case Failed():
                return [_event("error", error_body(error_from_failed(answer), "anthropic"))]
            case AnswerStarted():
                self._prompt_tokens = answer.prompt_tokens
                return []
            case ChoiceFinished():
                self._finished = answer
                return []
            case TextDelta() | ReasoningDelta() | ToolCallStart():
                events = [*self._begin(), *self._enter(self._parts.take(answer)), *self._more(answer)]
            case ToolArgumentsDelta():
                events = self._arguments(answer.text)
            case AnswerFinished():
                events = [*self._begin(), *self._end(answer.usage)]
            case _:
                assert_never(answer)
        return [_event(_type_of(event), event) for event in events]

    def whole(self, answers: Iterable[AnswerEvent]) -> MessageOut:
        """See ``Renderer.whole``."""
        parts = _Parts(self._form.thinking == "hidden")
        finished, usage = ChoiceFinished(0, "stop"), Usage(0, 0)
        for answer in answers:
            match answer:
                case Failed():
                    raise error_from_failed(answer)
                case AnswerStarted():
                    pass
                case TextDelta() | ReasoningDelta():
                    if (part := parts.take(answer)) is not None:
                        part.text += answer.text
                case ToolCallStart():
                    parts.take(answer)
                case ToolArgumentsDelta():
                    parts.all[-1].text += answer.text
                case ChoiceFinished():
                    finished = answer
                case AnswerFinished():
                    usage = answer.usage
                case _:
                    assert_never(answer)
        parts.close()
        ending = _ending(finished)
        return self._message(
            [self._block(part, is_first_text=parts.is_first_text(part)) for part in parts.all],
            _usage(usage),
            ending,
        )

    def _message(self, content: list[Block], usage: UsageOut, ending: Ending | None = None) -> MessageOut:
        return MessageOut(
            id=self._id,
            model=self._model,
            content=content,
            stop_reason=ending.stop_reason if ending is not None else None,
            stop_sequence=ending.stop_sequence if ending is not None else None,
            usage=usage,
        )

    def _block(self, part: _Part, *, is_first_text: bool) -> Block:
        match part.kind:
            case "text":
                rules = self._rules if is_first_text else replace(self._rules, prefix="")
                return TextBlock(rules.apply(part.text))
            case "thinking":
                return ThinkingBlock(part.text if self._form.thinking == "shown" else "", SIGNATURE)
            case _:
                return ToolUseBlock(part.call_id, part.name, msgspec.Raw(_input_text(part.text).encode()))

    # Streams

    def _begin(self) -> list[StreamEvent]:
        if self._begun:
            return []
        self._begun = True
        return [MessageStart(self._message([], UsageOut(self._prompt_tokens, 0))), Ping()]

    def _enter(self, part: _Part | None) -> list[StreamEvent]:
        """Close the open block and begin another one, unless it is the same."""
        if part is None or part is self._open:
            return []
        events = self._close()
        self._open = part
        self._index += 1
        match part.kind:
            case "text":
                events.append(BlockStart(self._index, TextBlock("")))
                if self._rules.prefix and self._parts.is_first_text(part):
                    events.append(self._delta(TextDeltaOut(self._rules.prefix)))
            case "thinking":
                events.append(BlockStart(self._index, ThinkingBlock("", "")))
            case _:
                events.append(BlockStart(self._index, ToolUseBlock(part.call_id, part.name, _NO_INPUT)))
        return events

    def _more(self, answer: TextDelta | ReasoningDelta | ToolCallStart) -> list[StreamEvent]:
        match answer:
            case TextDelta(text=text):
                return [self._delta(TextDeltaOut(text))]
            case ReasoningDelta(text=text) if self._form.thinking == "shown":
                return [self._delta(ThinkingDelta(text))]
            case _:
                return []

    def _arguments(self, text: str) -> list[StreamEvent]:
        part = self._parts.all[-1]
        part.text += text
        return [self._delta(InputDelta(text))] if part.name in self._form.eager_tools else []

    def _close(self) -> list[StreamEvent]:
        part, self._open = self._open, None
        if part is None:
            return []
        last: list[StreamEvent] = []
        if part.kind == "thinking":
            last = [self._delta(SignatureDelta(SIGNATURE))]
        elif part.kind == "tool_use" and part.name not in self._form.eager_tools:
            last = [self._delta(InputDelta(_input_text(part.text)))]
        return [*last, BlockStop(self._index)]

    def _end(self, usage: Usage) -> list[StreamEvent]:
        self._parts.close()
        entered = self._enter(self._parts.all[-1])
        return [*entered, *self._close(), MessageDelta(_ending(self._finished), _usage(usage)), MessageStop()]

    def _delta(self, delta: BlockDelta) -> StreamEvent:
        return BlockMore(self._index, delta)


def _ending(finished: ChoiceFinished) -> Ending:
    """A call that the token limit may have cut is not to be made: ``max_tokens`` goes before it."""
    if finished.reason == "length":
        return Ending("max_tokens", None)
    if finished.called_tools:
        return Ending("tool_use", None)
    if finished.stop_string is not None:
        return Ending("stop_sequence", finished.stop_string)
    return Ending("end_turn", None)


def _usage(usage: Usage) -> UsageOut:
    read = min(usage.cached_tokens, usage.prompt_tokens)
    return UsageOut(usage.prompt_tokens - read, usage.completion_tokens, cache_read_input_tokens=read)


def _input_text(text: str) -> str:
    """The arguments of a call as the JSON text of an object, whatever the model wrote."""
    if not text.strip():
        return "{}"
    try:
        msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        return msgspec.json.encode({"raw": text}).decode()
    return text


def _event(name: str, body: msgspec.Struct) -> SseEvent:
    return SseEvent(_ENCODER.encode(body), name)


def _type_of(event: StreamEvent) -> str:
    return str(event.__struct_config__.tag)


STREAM = StreamForm(SSE.content_type, encode_event, encode_event(_event("ping", Ping())))
"""Server-sent events, with Anthropic's own for long silences."""
