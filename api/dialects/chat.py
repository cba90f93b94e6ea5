"""OpenAI's chat completions: body to request, events to chunks (pure). Source: OpenAI's API reference.

Reasoning is sent as ``reasoning``, which is LocalAI's name, and as ``reasoning_content``, which is most other servers'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

import msgspec
from msgspec import UNSET

from localai.api.dialects.answer import AnswerHead, FoldedChoice, fold
from localai.api.dialects.chat_messages import read_messages
from localai.api.dialects.generation import (
    SYSTEM_FINGERPRINT,
    read_generation,
    read_max_tokens,
    refuse,
    render_failure,
    render_reason,
    render_usage,
)
from localai.api.dialects.logprobs import read_chat_logprobs, render_chat_logprobs
from localai.api.dialects.media_parts import Fetched
from localai.api.dialects.tools import read_tools
from localai.api.schemas.openai_requests import ChatBody
from localai.api.schemas.openai_responses import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatLogprobs,
    ChatResponse,
    Delta,
    FunctionCall,
    Reason,
    ToolCallDelta,
    ToolCallOut,
    UsageBody,
)
from localai.api.sse import DONE, SseEvent
from localai.mesh.errors import InvalidRequest
from localai.node.answer_rules import NO_RULES, AnswerRules
from localai.node.inference import ChatInput, Failed, FinishReason, GenerateRequest, RequestId, TokenLogprob
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
from localai.node.request_defaults import NO_DEFAULTS, RequestDefaults

MAX_EFFORT_CHARS = 32
_ENCODER = msgspec.json.Encoder()
_NOTHING_FETCHED: Mapping[str, bytes] = {}


@dataclass(frozen=True, slots=True)
class ChatForm:
    """How an answer is shown."""

    has_logprobs: bool = False
    is_legacy: bool = False
    """A call is a ``function_call``, of which there can be one."""


def chat_form(body: ChatBody) -> ChatForm:
    """How the answer to a body is shown."""
    return ChatForm(bool(body.logprobs), bool(body.functions) and not body.tools)


def parse_chat(
    body: ChatBody,
    request_id: RequestId,
    model: str,
    defaults: RequestDefaults = NO_DEFAULTS,
    fetched: Fetched = _NOTHING_FETCHED,
) -> GenerateRequest:
    """The request a body stands for; what it does not say is as in ``defaults``.

    ``fetched`` has what its messages name by URL (``media_urls``).

    Raises:
        InvalidRequest: a field is missing or out of range.
        Unsupported: a field asks for something that nothing here can do.
    """
    spoken = [kind for kind in body.modalities or () if kind != "text"]
    refuse({"modalities": spoken, "echo": body.echo})
    use = read_tools(body)
    prompt = ChatInput(
        messages=read_messages(body.messages, fetched),
        tools=use.tools,
        tool_choice=use.mode,
        only_tool=use.only_tool,
        parallel_tool_calls=use.parallel,
        reasoning_effort=_effort(body),
    )
    request = read_generation(body, request_id, model, prompt, defaults)
    limit = request.max_tokens
    if body.max_completion_tokens is not None:
        limit = read_max_tokens(body.max_completion_tokens, "max_completion_tokens", None)
    return msgspec.structs.replace(request, max_tokens=limit, logprobs=read_chat_logprobs(body))


def _effort(body: ChatBody) -> str:
    """How much to think; LocalAI's clients turn it off with ``enable_thinking`` too."""
    effort = body.reasoning_effort or ""
    if len(effort) > MAX_EFFORT_CHARS or not (effort.isprintable() and effort.isascii()):
        message = "'reasoning_effort' must be a word such as none, low, medium or high."
        raise InvalidRequest(message, param="reasoning_effort")
    return "none" if not effort and (body.metadata or {}).get("enable_thinking") == "false" else effort


class ChatRenderer:
    """One chat answer. ``rules`` are those of the model's definition."""

    def __init__(self, head: AnswerHead, rules: AnswerRules = NO_RULES, form: ChatForm = ChatForm()) -> None:
        self._head = head
        self._rules = rules
        self._form = form
        self._begun: set[int] = set()
        """Choices whose role has been sent."""
        self._speaking: set[int] = set()
        """Choices whose text may follow: what the definition puts before it has been sent too."""

    def stream(self, answer: AnswerEvent) -> list[SseEvent]:
        """See ``Renderer.stream``."""
        match answer:
            case TextDelta(choice=choice):
                opening = [] if choice in self._speaking else self._open_text(choice)
                return [*opening, self._chunk(choice, Delta(content=answer.text), self._logprobs(answer.logprobs))]
            case ReasoningDelta(choice=choice, text=text):
                return [*self._open(choice), self._chunk(choice, Delta(reasoning=text, reasoning_content=text))]
            case ToolCallStart(choice=choice):
                return [*self._open(choice, None), *self._call_started(answer)]
            case ToolArgumentsDelta():
                return self._arguments(answer)
            case ChoiceFinished(choice=choice):
                opening = self._open(choice, None) if answer.called_tools else self._open_text(choice)
                reason = self._reason(answer.reason, called=answer.called_tools)
                return [*opening, self._event([ChatChunkChoice(choice, Delta(), reason)])]
            case AnswerFinished():
                timings = answer.timings if self._head.with_timings else None
                usage = [self._event([], render_usage(answer.usage, timings))] if self._head.include_usage else []
                return [*usage, DONE]
            case Failed():
                return render_failure(answer)
            case AnswerStarted():
                return []
            case _:
                assert_never(answer)

    def whole(self, answers: Iterable[AnswerEvent]) -> ChatResponse:
        """See ``Renderer.whole``."""
        folded = fold(answers, self._head.choices)
        return ChatResponse(
            id=self._head.id,
            created=self._head.created,
            model=self._head.model,
            choices=[
                ChatChoice(
                    index,
                    self._message(choice),
                    self._reason(choice.reason, called=bool(choice.calls)),
                    render_chat_logprobs(choice.logprobs) if self._form.has_logprobs else None,
                )
                for index, choice in enumerate(folded.choices)
            ],
            usage=render_usage(folded.usage, folded.timings if self._head.with_timings else None),
            system_fingerprint=SYSTEM_FINGERPRINT,
        )

    def _message(self, choice: FoldedChoice) -> AssistantMessage:
        calls = [(call, FunctionCall(call.arguments, call.name)) for call in choice.calls]
        is_legacy = self._form.is_legacy
        return AssistantMessage(
            content=None if calls and not choice.text else self._rules.apply(choice.text),
            reasoning=choice.reasoning or UNSET,
            reasoning_content=choice.reasoning or UNSET,
            tool_calls=UNSET
            if is_legacy or not calls
            else tuple(ToolCallOut(call.id, function) for call, function in calls),
            function_call=calls[0][1] if is_legacy and calls else UNSET,
        )

    def _reason(self, reason: FinishReason, *, called: bool) -> Reason:
        """A call that the token limit may have cut is not to be made: ``length`` goes before it."""
        if not called or reason == "length":
            return render_reason(reason)
        return "function_call" if self._form.is_legacy else "tool_calls"

    def _logprobs(self, logprobs: tuple[TokenLogprob, ...]) -> ChatLogprobs | None:
        return render_chat_logprobs(logprobs) if self._form.has_logprobs else None

    def _open(self, choice: int, content: str | None = "") -> list[SseEvent]:
        if choice in self._begun:
            return []
        self._begun.add(choice)
        return [self._chunk(choice, Delta(role="assistant", content=content))]

    def _open_text(self, choice: int) -> list[SseEvent]:
        if choice in self._speaking:
            return []
        self._speaking.add(choice)
        prefix = self._rules.prefix
        return [*self._open(choice), *([self._chunk(choice, Delta(content=prefix))] if prefix else [])]

    def _call_started(self, call: ToolCallStart) -> list[SseEvent]:
        function = FunctionCall("", call.name)
        if not self._form.is_legacy:
            delta = Delta(tool_calls=(ToolCallDelta(call.index, function, call.id, "function"),))
            return [self._chunk(call.choice, delta)]
        return [self._chunk(call.choice, Delta(function_call=function))] if call.index == 0 else []

    def _arguments(self, more: ToolArgumentsDelta) -> list[SseEvent]:
        function = FunctionCall(more.text)
        if not self._form.is_legacy:
            return [self._chunk(more.choice, Delta(tool_calls=(ToolCallDelta(more.index, function),)))]
        return [self._chunk(more.choice, Delta(function_call=function))] if more.index == 0 else []

    def _chunk(self, index: int, delta: Delta, logprobs: ChatLogprobs | None = None) -> SseEvent:
        return self._event([ChatChunkChoice(index, delta, None, logprobs)])

    def _event(self, choices: list[ChatChunkChoice], usage: UsageBody | None = None) -> SseEvent:
        head = self._head
        chunk = ChatChunk(
            id=head.id,
            created=head.created,
            model=head.model,
            system_fingerprint=SYSTEM_FINGERPRINT,
            choices=choices,
            usage=usage if head.include_usage else UNSET,
        )
        return SseEvent(_ENCODER.encode(chunk))
