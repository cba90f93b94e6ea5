"""Events to Ollama's answers, whole or as lines (pure).

Source: Ollama's API reference. A call is sent once it is complete. What passes before the prompt is read is called
loading.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal, assert_never

import msgspec
import numpy as np

from localai.api.dialects.answer import AnswerHead, fold
from localai.api.errors import error_body
from localai.api.schemas.ollama import (
    AnswerBody,
    CallAnswer,
    DrawnToken,
    EmbeddingsResponse,
    EmbedResponse,
    FunctionAnswer,
    LikelyToken,
    MessageAnswer,
)
from localai.api.sse import SseEvent
from localai.mesh.errors import UpstreamFailed
from localai.node.answer_rules import NO_RULES, AnswerRules
from localai.node.inference import (
    Embedded,
    EmbedRequest,
    Event,
    Failed,
    Finished,
    FinishReason,
    Timings,
    TokenLogprob,
    ToolCall,
    Usage,
    error_from_failed,
)
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

_ENCODER = msgspec.json.Encoder()
_REASONS: dict[FinishReason, str] = {"stop": "stop", "stop_string": "stop", "length": "length"}


class OllamaRenderer:
    """One answer of ``/api/chat``, or of ``/api/generate`` without ``chat``. ``rules`` are of the definition."""

    def __init__(self, head: AnswerHead, rules: AnswerRules = NO_RULES, *, chat: bool) -> None:
        self._head = head
        self._rules = rules
        self._chat = chat
        self._begun = False
        self._calls: list[ToolCall] = []
        self._sent_calls = 0
        self._reason: FinishReason = "stop"

    def stream(self, answer: AnswerEvent) -> list[SseEvent]:
        """See ``Renderer.stream``."""
        match answer:
            case AnswerStarted():
                return []
            case ReasoningDelta():
                return [*self._complete_calls(), self._line(thinking=answer.text)]
            case TextDelta():
                return [*self._complete_calls(), *self._prefix(), self._line(answer.text, logprobs=answer.logprobs)]
            case ToolCallStart():
                complete = self._complete_calls()
                self._calls.append(ToolCall(answer.id, answer.name, ""))
                return complete
            case ToolArgumentsDelta():
                call = self._calls[-1]
                self._calls[-1] = ToolCall(call.id, call.name, call.arguments + answer.text)
                return []
            case ChoiceFinished():
                self._reason = answer.reason
                return [*self._complete_calls(), *self._prefix()]
            case AnswerFinished():
                body = self._body(end=(self._reason, answer.usage, answer.timings))
                return [SseEvent(_ENCODER.encode(body))]
            case Failed():
                return [SseEvent(_ENCODER.encode(error_body(error_from_failed(answer), "flat")))]
            case _:
                assert_never(answer)

    def whole(self, answers: Iterable[AnswerEvent]) -> AnswerBody:
        """See ``Renderer.whole``."""
        answers = list(answers)
        folded = fold(answers, self._head.choices)
        (choice,) = folded.choices
        timings = next((each.timings for each in answers if isinstance(each, AnswerFinished)), Timings())
        return self._body(
            self._rules.apply(choice.text),
            choice.reasoning,
            render_calls(choice.calls),
            choice.logprobs,
            (choice.reason, folded.usage, timings),
        )

    def done(self, reason: Literal["load", "unload"]) -> AnswerBody:
        """The answer when there was nothing to do but this."""
        return msgspec.structs.replace(self._body(), done=True, done_reason=reason)

    def _prefix(self) -> list[SseEvent]:
        begun, self._begun = self._begun, True
        return [self._line(self._rules.prefix)] if self._rules.prefix and not begun else []

    def _complete_calls(self) -> list[SseEvent]:
        """A line with the calls that no line has shown yet."""
        calls = render_calls(self._calls)[self._sent_calls :]
        self._sent_calls = len(self._calls)
        return [SseEvent(_ENCODER.encode(self._body(calls=calls)))] if calls and self._chat else []

    def _line(self, text: str = "", thinking: str = "", logprobs: Sequence[TokenLogprob] = ()) -> SseEvent:
        return SseEvent(_ENCODER.encode(self._body(text, thinking, logprobs=logprobs)))

    def _body(
        self,
        text: str = "",
        thinking: str = "",
        calls: Sequence[CallAnswer] = (),
        logprobs: Sequence[TokenLogprob] = (),
        end: tuple[FinishReason, Usage, Timings] | None = None,
    ) -> AnswerBody:
        thought = thinking or msgspec.UNSET
        message = MessageAnswer(content=text, thinking=thought, tool_calls=list(calls) or msgspec.UNSET)
        body = AnswerBody(
            model=self._head.model,
            created_at=render_time(self._head.created),
            message=message if self._chat else msgspec.UNSET,
            response=msgspec.UNSET if self._chat else text,
            thinking=msgspec.UNSET if self._chat else thought,
            logprobs=[_drawn(each) for each in logprobs] or msgspec.UNSET,
            done=end is not None,
        )
        if end is None:
            return body
        reason, usage, timings = end
        load, prompt, answer = map(_nanoseconds, (timings.queue_s, timings.prefill_s, timings.decode_s))
        return msgspec.structs.replace(
            body,
            done_reason=_REASONS[reason],
            total_duration=load + prompt + answer,
            load_duration=load,
            prompt_eval_count=usage.prompt_tokens,
            prompt_eval_duration=prompt,
            eval_count=usage.completion_tokens,
            eval_duration=answer,
        )


def render_calls(calls: Iterable[ToolCall]) -> list[CallAnswer]:
    """Calls with their arguments as objects, which is all that Ollama's clients take."""
    return [
        CallAnswer(id=call.id, function=FunctionAnswer(index=place, name=call.name, arguments=_object(call.arguments)))
        for place, call in enumerate(calls)
    ]


def render_embed(events: Iterable[Event], request: EmbedRequest, shown_model: str) -> EmbedResponse:
    """The vectors in the order of their texts.

    Raises:
        UpstreamFailed: one is missing or no vector.
    """
    vectors: dict[int, bytes] = {}
    finished = Finished((), Usage(0, 0))
    for event in events:
        match event:
            case Embedded():
                vectors[event.index] = event.vector
            case Finished():
                finished = event
            case _:
                pass
    if sorted(vectors) != list(range(len(request.inputs))) or any(len(each) % 4 for each in vectors.values()):
        raise UpstreamFailed("The backend did not make a vector of every text. Try again, or use another model.")
    timings = finished.timings
    load, work = _nanoseconds(timings.queue_s), _nanoseconds(timings.prefill_s + timings.decode_s)
    return EmbedResponse(
        model=shown_model,
        embeddings=[np.frombuffer(vectors[place], "<f4").tolist() for place in range(len(vectors))],
        total_duration=load + work,
        load_duration=load,
        prompt_eval_count=finished.usage.prompt_tokens,
    )


def first_embedding(response: EmbedResponse) -> EmbeddingsResponse:
    """The same in the older form, for one text."""
    return EmbeddingsResponse(response.embeddings[0])


def render_time(seconds: float) -> str:
    """A time, in seconds since 1970, as Ollama writes it: UTC, RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _object(text: str) -> msgspec.Raw:
    """The text of an object; what is none becomes one, so that the call is not lost."""
    try:
        if isinstance(msgspec.json.decode(text), dict):
            return msgspec.Raw(text.encode())
    except (msgspec.DecodeError, RecursionError):
        pass
    return msgspec.Raw(_ENCODER.encode({"text": text}))


def _drawn(each: TokenLogprob) -> DrawnToken:
    likely = [_likely(data, logprob) for _, data, logprob in each.top]
    return DrawnToken(
        token=each.data.decode("utf-8", "replace"),
        logprob=each.logprob,
        bytes=list(each.data),
        top_logprobs=likely or msgspec.UNSET,
    )


def _likely(data: bytes, logprob: float) -> LikelyToken:
    return LikelyToken(token=data.decode("utf-8", "replace"), logprob=logprob, bytes=list(data))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
