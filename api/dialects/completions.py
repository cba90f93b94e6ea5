"""OpenAI's text completions and edits: body to requests, events to chunks (pure). Source: OpenAI's API reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, assert_never

import msgspec
from msgspec import UNSET, UnsetType

from localai.api.dialects.answer import AnswerHead, FoldedAnswer, FoldedChoice, fold
from localai.api.dialects.generation import (
    MAX_TOKEN_ID,
    SYSTEM_FINGERPRINT,
    read_generation,
    refuse,
    render_failure,
    render_reason,
    render_usage,
)
from localai.api.dialects.logprobs import TextPlaces, mean_logprob, read_text_logprobs
from localai.api.schemas.openai_requests import CompletionBody
from localai.api.schemas.openai_responses import TextChoice, TextLogprobs, TextResponse, UsageBody
from localai.api.sse import DONE, SseEvent
from localai.mesh.errors import InvalidRequest, Unsupported
from localai.node.answer_rules import NO_RULES, AnswerRules
from localai.node.inference import (
    MAX_CHOICES,
    Failed,
    GenerateRequest,
    Prompt,
    RequestId,
    TextInput,
    TokenInput,
    TokenLogprob,
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
from localai.node.request_defaults import NO_DEFAULTS, RequestDefaults

MAX_PROMPTS = 64
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class TextForm:
    """How continuations are shown."""

    kind: Literal["text_completion", "edit"] = "text_completion"
    has_logprobs: bool = False
    shown: int = 1
    """Continuations of each prompt that are shown, the likeliest first if more were drawn."""
    drawn: int = 1


def parse_completion(
    body: CompletionBody, request_id: RequestId, model: str, defaults: RequestDefaults = NO_DEFAULTS
) -> tuple[GenerateRequest, ...]:
    """The requests a body stands for, one per prompt; what it does not say is as in ``defaults``.

    Raises:
        InvalidRequest: a field is missing or out of range.
        Unsupported: a field asks for something that nothing here can do.
    """
    refuse({"suffix": body.suffix})
    prompts = _prompts(body.prompt)
    if body.echo and not all(isinstance(prompt, TextInput) for prompt in prompts):
        raise InvalidRequest("'echo' needs prompts of text, not of token ids. Send text.", param="echo")
    logprobs = read_text_logprobs(body.logprobs)
    if body.echo and logprobs is not None:
        message = "How likely the tokens of a prompt are is not known here. Send 'logprobs' without 'echo'."
        raise Unsupported(message, code="unsupported_field", param="logprobs")
    first = read_generation(body, request_id, model, prompts[0], defaults)
    drawn = _drawn(body, first.choices)
    if drawn > first.choices and logprobs is None:
        logprobs = 0  # what the best ones are chosen by
    first = msgspec.structs.replace(first, choices=drawn, logprobs=logprobs)
    return one_per_prompt(first, prompts)


def one_per_prompt(first: GenerateRequest, prompts: list[Prompt]) -> tuple[GenerateRequest, ...]:
    """The same request for each prompt, under ids of their own."""
    return tuple(
        msgspec.structs.replace(first, id=RequestId(f"{first.id}-{place}") if place else first.id, prompt=prompt)
        for place, prompt in enumerate(prompts)
    )


def completion_form(body: CompletionBody, defaults: RequestDefaults = NO_DEFAULTS) -> TextForm:
    """How the answer to a body is shown, which :func:`parse_completion` has taken."""
    shown = defaults.choices if body.n is None else body.n
    has_logprobs = read_text_logprobs(body.logprobs) is not None
    return TextForm(has_logprobs=has_logprobs, shown=shown, drawn=_drawn(body, shown))


def _drawn(body: CompletionBody, shown: int) -> int:
    """Continuations to make of each prompt."""
    if body.best_of is None:
        return shown
    if not shown <= body.best_of <= MAX_CHOICES:
        message = f"'best_of' must be between 'n' and {MAX_CHOICES}, not {body.best_of}."
        raise InvalidRequest(message, param="best_of")
    if body.stream and body.best_of > shown:
        message = "Which continuation is best is known at the end only. Send 'best_of' without 'stream'."
        raise InvalidRequest(message, param="best_of")
    return body.best_of


def echoed_texts(
    body: CompletionBody, requests: tuple[GenerateRequest, ...], defaults: RequestDefaults = NO_DEFAULTS
) -> tuple[str, ...]:
    """For each choice that is shown the text that comes before its continuation; empty without ``echo``."""
    form = completion_form(body, defaults)
    echo = (defaults.echo and not form.has_logprobs) if body.echo is None else body.echo
    texts = [request.prompt.text if isinstance(request.prompt, TextInput) else "" for request in requests]
    return tuple(text if echo else "" for text in texts for _ in range(form.shown))


def _prompts(prompt: str | list[str | int | list[int]]) -> list[Prompt]:
    if isinstance(prompt, list) and prompt and all(isinstance(item, int) for item in prompt):
        return [token_input([item for item in prompt if isinstance(item, int)], "prompt")]
    items = [prompt] if isinstance(prompt, str) else prompt
    if len(items) > MAX_PROMPTS:
        raise InvalidRequest(f"'prompt' has {len(items)} prompts; at most {MAX_PROMPTS} are allowed.", param="prompt")
    prompts: list[Prompt] = []
    for place, item in enumerate(items):
        path = "prompt" if isinstance(prompt, str) else f"prompt[{place}]"
        if isinstance(item, int):
            raise InvalidRequest(f"'{path}' is a number among texts. Send one kind of prompt.", param=path)
        prompts.append(TextInput(item) if isinstance(item, str) else token_input(item, path))
        if not item:
            raise InvalidRequest(f"'{path}' is empty. Send some text to continue.", param=path)
    if not prompts:
        raise InvalidRequest("'prompt' is empty. Send some text to continue.", param="prompt")
    return prompts


def token_input(ids: list[int], path: str) -> TokenInput:
    """Token ids that stand at ``path`` of the body.

    Raises:
        InvalidRequest: a number is no token id.
    """
    if any(not 0 <= token <= MAX_TOKEN_ID for token in ids):
        raise InvalidRequest(
            f"'{path}' has a number that is no token id. Use ids of the model's vocabulary.", param=path
        )
    return TokenInput(tuple(ids))


class CompletionRenderer:
    """One text completion or edit.

    ``echoed`` has a text for every choice that is shown, ``rules`` are of the model's definition.
    """

    def __init__(
        self, head: AnswerHead, echoed: tuple[str, ...], rules: AnswerRules = NO_RULES, form: TextForm = TextForm()
    ) -> None:
        self._head = head
        self._echoed = echoed
        self._rules = rules
        self._form = form
        self._begun = False
        self._places: dict[int, TextPlaces] = {}

    def stream(self, answer: AnswerEvent) -> list[SseEvent]:
        """See ``Renderer.stream``."""
        match answer:
            case AnswerStarted() | ReasoningDelta() | ToolCallStart() | ToolArgumentsDelta():
                return []
            case TextDelta(choice=choice):
                logprobs = self._logprobs(choice, answer.logprobs) if self._form.has_logprobs else None
                return [*self._echoes(), self._event([TextChoice(choice, answer.text, None, logprobs)])]
            case ChoiceFinished():
                return [*self._echoes(), self._event([TextChoice(answer.choice, "", render_reason(answer.reason))])]
            case AnswerFinished():
                timings = answer.timings if self._head.with_timings else None
                usage = [self._event([], render_usage(answer.usage, timings))] if self._head.include_usage else []
                return [*usage, DONE]
            case Failed():
                return render_failure(answer)
            case _:
                assert_never(answer)

    def whole(self, answers: Iterable[AnswerEvent]) -> TextResponse:
        """See ``Renderer.whole``."""
        folded = self._fold(answers)
        shown, drawn = self._form.shown, self._form.drawn
        best = [
            choice
            for start in range(0, len(folded.choices), drawn)
            for choice in _best(folded.choices[start : start + drawn], shown)
        ]
        choices = [
            TextChoice(
                index,
                self._rules.apply(echoed + choice.text),
                render_reason(choice.reason),
                self._logprobs(index, choice.logprobs) if self._form.has_logprobs else None,
            )
            for index, (echoed, choice) in enumerate(zip(self._echoed, best, strict=True))
        ]
        return self._body(choices, render_usage(folded.usage, folded.timings if self._head.with_timings else None))

    def _fold(self, answers: Iterable[AnswerEvent]) -> FoldedAnswer:
        try:
            return fold(answers, self._head.choices // self._form.shown * self._form.drawn)
        except Unsupported as error:
            if error.param != "logprobs" or self._form.has_logprobs:
                raise
            # nobody asked for probabilities but parse_completion, to choose by them
            message = "The model's backend cannot say which continuation is best. Send the request without 'best_of'."
            raise Unsupported(message, code=error.code, detail=error.detail, param="best_of") from error

    def _echoes(self) -> list[SseEvent]:
        if self._begun:
            return []
        self._begun = True
        texts = [self._rules.prefix + text for text in self._echoed]
        return [self._event([TextChoice(index, text)]) for index, text in enumerate(texts) if text]

    def _logprobs(self, choice: int, logprobs: Iterable[TokenLogprob]) -> TextLogprobs:
        places = self._places.get(choice)
        if places is None:
            before = len(self._rules.prefix) + len(self._echoed[choice])
            places = self._places[choice] = TextPlaces(before)
        return places.render(logprobs)

    def _event(self, choices: list[TextChoice], usage: UsageBody | None = None) -> SseEvent:
        return SseEvent(_ENCODER.encode(self._body(choices, usage if self._head.include_usage else UNSET)))

    def _body(self, choices: list[TextChoice], usage: UsageBody | UnsetType | None) -> TextResponse:
        head = self._head
        return TextResponse(
            id=head.id,
            object=self._form.kind,
            created=head.created,
            model=head.model,
            system_fingerprint=SYSTEM_FINGERPRINT,
            choices=choices,
            usage=usage,
        )


def _best(drawn: tuple[FoldedChoice, ...], shown: int) -> list[FoldedChoice]:
    """The likeliest ones first, if some are to be left out; else all as they are."""
    if shown == len(drawn):
        return list(drawn)
    return sorted(drawn, key=lambda choice: mean_logprob(choice.logprobs), reverse=True)[:shown]
