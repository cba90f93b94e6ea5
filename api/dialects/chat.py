"""OpenAI's chat completions: body to request, events to chunks (pure). Source: OpenAI's API reference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from localai.api.dialects.answer import AnswerHead, fold
from localai.api.dialects.generation import (
    SYSTEM_FINGERPRINT,
    read_max_tokens,
    read_sampling,
    read_stop,
    refuse,
    refuse_response_format,
    render_failure,
    render_reason,
    render_usage,
)
from localai.api.schemas.openai_requests import ChatBody, ContentPart, Message
from localai.api.schemas.openai_responses import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatResponse,
    Delta,
    UsageBody,
)
from localai.api.sse import DONE, SseEvent
from localai.mesh.errors import InvalidRequest, Unsupported
from localai.node.answer_rules import NO_RULES, AnswerRules
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Failed,
    GenerateRequest,
    RequestId,
)
from localai.node.output_parser import AnswerEvent, AnswerFinished, AnswerStarted, ChoiceFinished, TextDelta
from localai.node.request_defaults import NO_DEFAULTS, RequestDefaults

_ENCODER = msgspec.json.Encoder()
_ROLES = {"developer": "system"}
"""Roles that chat templates do not know, and what they are to them."""


def parse_chat(
    body: ChatBody, request_id: RequestId, model: str, defaults: RequestDefaults = NO_DEFAULTS
) -> GenerateRequest:
    """The request a body stands for; what it does not say is as in ``defaults``.

    Raises:
        InvalidRequest: a field is missing or out of range.
        Unsupported: a field asks for something that is not built yet.
    """
    refuse(
        {
            "tools": body.tools,
            "tool_choice": body.tool_choice,
            "functions": body.functions,
            "function_call": body.function_call,
            "logprobs": body.logprobs,
            "top_logprobs": body.top_logprobs or None,
            "logit_bias": body.logit_bias,
            "grammar": body.grammar,
        }
    )
    refuse_response_format(body.response_format)
    if not body.messages:
        raise InvalidRequest("'messages' is empty. Send at least one message.", param="messages")
    limit = ("max_completion_tokens", body.max_completion_tokens)
    if body.max_completion_tokens is None:
        limit = ("max_tokens", body.max_tokens)
    return GenerateRequest(
        id=request_id,
        model=model,
        prompt=ChatInput(tuple(_message(message, place) for place, message in enumerate(body.messages))),
        sampling=read_sampling(body, defaults.sampling),
        max_tokens=read_max_tokens(limit[1], limit[0], defaults.max_tokens),
        stop=read_stop(body.stop),
        choices=defaults.choices if body.n is None else body.n,
        ignore_eos=defaults.ignore_eos if body.ignore_eos is None else body.ignore_eos,
    )


def _message(message: Message, place: int) -> ChatMessage:
    path = f"messages[{place}]"
    if not message.role:
        raise InvalidRequest(f"'{path}.role' is empty. Use system, user or assistant.", param=f"{path}.role")
    refuse({f"{path}.tool_calls": message.tool_calls, f"{path}.function_call": message.function_call})
    content = message.content
    if isinstance(content, list):
        content = "".join(_part(part, f"{path}.content[{number}]") for number, part in enumerate(content))
    return ChatMessage(_ROLES.get(message.role, message.role), content or "")


def _part(part: ContentPart, path: str) -> str:
    if part.type not in ("text", "input_text"):
        raise Unsupported(
            f"'{path}' is of type '{part.type[:50]}', and this model reads text only. Leave it out.",
            code="unsupported_content",
            param=path,
        )
    if part.text is None:
        raise InvalidRequest(f"'{path}' has no 'text'.", param=f"{path}.text")
    return part.text


class ChatRenderer:
    """One chat answer. ``rules`` are those of the model's definition."""

    def __init__(self, head: AnswerHead, rules: AnswerRules = NO_RULES) -> None:
        self._head = head
        self._rules = rules
        self._begun = False

    def stream(self, answer: AnswerEvent) -> list[SseEvent]:
        """See ``Renderer.stream``."""
        match answer:
            case AnswerStarted():
                return []
            case TextDelta():
                return [*self._roles(), self._chunk(answer.choice, Delta(content=answer.text))]
            case ChoiceFinished():
                choice = ChatChunkChoice(answer.choice, Delta(), render_reason(answer.reason))
                return [*self._roles(), self._event([choice])]
            case AnswerFinished():
                usage = [self._event([], render_usage(answer.usage))] if self._head.include_usage else []
                return [*usage, DONE]
            case Failed():
                return render_failure(answer)
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
                ChatChoice(index, AssistantMessage(self._rules.apply(text)), render_reason(reason))
                for index, (text, reason) in enumerate(zip(folded.texts, folded.reasons, strict=True))
            ],
            usage=render_usage(folded.usage),
            system_fingerprint=SYSTEM_FINGERPRINT,
        )

    def _roles(self) -> list[SseEvent]:
        if self._begun:
            return []
        self._begun = True
        choices, prefix = range(self._head.choices), self._rules.prefix
        roles = [self._chunk(index, Delta(role="assistant", content="")) for index in choices]
        return roles + [self._chunk(index, Delta(content=prefix)) for index in choices if prefix]

    def _chunk(self, index: int, delta: Delta) -> SseEvent:
        return self._event([ChatChunkChoice(index, delta)])

    def _event(self, choices: list[ChatChunkChoice], usage: UsageBody | None = None) -> SseEvent:
        head = self._head
        chunk = ChatChunk(
            id=head.id,
            created=head.created,
            model=head.model,
            system_fingerprint=SYSTEM_FINGERPRINT,
            choices=choices,
            usage=usage if head.include_usage else msgspec.UNSET,
        )
        return SseEvent(_ENCODER.encode(chunk))
