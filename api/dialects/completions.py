"""OpenAI's text completions: body to requests, events to chunks (pure). Source: OpenAI's API reference."""

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
from localai.api.schemas.openai_requests import CompletionBody
from localai.api.schemas.openai_responses import TextChoice, TextResponse, UsageBody
from localai.api.sse import DONE, SseEvent
from localai.mesh.errors import InvalidRequest
from localai.node.answer_rules import NO_RULES, AnswerRules
from localai.node.inference import (
    Failed,
    GenerateRequest,
    Prompt,
    RequestId,
    TextInput,
    TokenInput,
)
from localai.node.output_parser import AnswerEvent, AnswerFinished, AnswerStarted, ChoiceFinished, TextDelta
from localai.node.request_defaults import NO_DEFAULTS, RequestDefaults

MAX_PROMPTS = 64
_MAX_TOKEN_ID = 2**31 - 1
_ENCODER = msgspec.json.Encoder()


def parse_completion(
    body: CompletionBody, request_id: RequestId, model: str, defaults: RequestDefaults = NO_DEFAULTS
) -> tuple[GenerateRequest, ...]:
    """The requests a body stands for, one per prompt; what it does not say is as in ``defaults``.

    Raises:
        InvalidRequest: a field is missing or out of range.
        Unsupported: a field asks for something that is not built yet.
    """
    refuse(
        {
            "suffix": body.suffix,
            "best_of": body.best_of if body.best_of != (body.n or defaults.choices) else None,
            "logit_bias": body.logit_bias,
            "grammar": body.grammar,
            "logprobs": body.logprobs,
        }
    )
    refuse_response_format(body.response_format)
    prompts = _prompts(body.prompt)
    if body.echo and not all(isinstance(prompt, TextInput) for prompt in prompts):
        raise InvalidRequest("'echo' needs prompts of text, not of token ids.", param="echo")
    shared = GenerateRequest(
        id=request_id,
        model=model,
        prompt=prompts[0],
        sampling=read_sampling(body, defaults.sampling),
        max_tokens=read_max_tokens(body.max_tokens, "max_tokens", defaults.max_tokens),
        stop=read_stop(body.stop),
        choices=defaults.choices if body.n is None else body.n,
        ignore_eos=defaults.ignore_eos if body.ignore_eos is None else body.ignore_eos,
    )
    return tuple(
        msgspec.structs.replace(shared, id=RequestId(f"{request_id}-{place}") if place else request_id, prompt=prompt)
        for place, prompt in enumerate(prompts)
    )


def echoed_texts(
    body: CompletionBody, requests: tuple[GenerateRequest, ...], defaults: RequestDefaults = NO_DEFAULTS
) -> tuple[str, ...]:
    """For each choice the text that comes before its continuation; empty without ``echo``."""
    echo = defaults.echo if body.echo is None else body.echo
    texts = [request.prompt.text if isinstance(request.prompt, TextInput) else "" for request in requests]
    return tuple(text if echo else "" for text in texts for _ in range(requests[0].choices))


def _prompts(prompt: str | list[str | int | list[int]]) -> list[Prompt]:
    if isinstance(prompt, list) and prompt and all(isinstance(item, int) for item in prompt):
        return [TokenInput(_ids([item for item in prompt if isinstance(item, int)], "prompt"))]
    items = [prompt] if isinstance(prompt, str) else prompt
    if len(items) > MAX_PROMPTS:
        raise InvalidRequest(f"'prompt' has {len(items)} prompts; at most {MAX_PROMPTS} are allowed.", param="prompt")
    prompts: list[Prompt] = []
    for place, item in enumerate(items):
        path = "prompt" if isinstance(prompt, str) else f"prompt[{place}]"
        if isinstance(item, int):
            raise InvalidRequest(f"'{path}' is a number among texts. Send one kind of prompt.", param=path)
        prompts.append(TextInput(item) if isinstance(item, str) else TokenInput(_ids(item, path)))
        if not item:
            raise InvalidRequest(f"'{path}' is empty. Send some text to continue.", param=path)
    if not prompts:
        raise InvalidRequest("'prompt' is empty. Send some text to continue.", param="prompt")
    return prompts


def _ids(ids: list[int], path: str) -> tuple[int, ...]:
    if any(not 0 <= token <= _MAX_TOKEN_ID for token in ids):
        raise InvalidRequest(f"'{path}' has a number that is no token id.", param=path)
    return tuple(ids)


class CompletionRenderer:
    """One text completion answer. ``echoed`` has a text for every choice, ``rules`` are of the model's definition."""

    def __init__(self, head: AnswerHead, echoed: tuple[str, ...], rules: AnswerRules = NO_RULES) -> None:
        self._head = head
        self._echoed = echoed
        self._rules = rules
        self._begun = False

    def stream(self, answer: AnswerEvent) -> list[SseEvent]:
        """See ``Renderer.stream``."""
        match answer:
            case AnswerStarted():
                return []
            case TextDelta():
                return [*self._echoes(), self._event([TextChoice(answer.choice, answer.text)])]
            case ChoiceFinished():
                choice = TextChoice(answer.choice, "", render_reason(answer.reason))
                return [*self._echoes(), self._event([choice])]
            case AnswerFinished():
                usage = [self._event([], render_usage(answer.usage))] if self._head.include_usage else []
                return [*usage, DONE]
            case Failed():
                return render_failure(answer)
            case _:
                assert_never(answer)

    def whole(self, answers: Iterable[AnswerEvent]) -> TextResponse:
        """See ``Renderer.whole``."""
        folded = fold(answers, self._head.choices)
        rows = zip(self._echoed, folded.texts, folded.reasons, strict=True)
        choices = [
            TextChoice(index, self._rules.apply(echoed + text), render_reason(reason))
            for index, (echoed, text, reason) in enumerate(rows)
        ]
        return self._body(choices, render_usage(folded.usage))

    def _echoes(self) -> list[SseEvent]:
        if self._begun:
            return []
        self._begun = True
        texts = [self._rules.prefix + text for text in self._echoed]
        return [self._event([TextChoice(index, text)]) for index, text in enumerate(texts) if text]

    def _event(self, choices: list[TextChoice], usage: UsageBody | None = None) -> SseEvent:
        return SseEvent(_ENCODER.encode(self._body(choices, usage if self._head.include_usage else msgspec.UNSET)))

    def _body(self, choices: list[TextChoice], usage: UsageBody | msgspec.UnsetType | None) -> TextResponse:
        head = self._head
        return TextResponse(
            id=head.id,
            created=head.created,
            model=head.model,
            system_fingerprint=SYSTEM_FINGERPRINT,
            choices=choices,
            usage=usage,
        )
