"""What chat, text completions and edits share: reading common fields, refusing what nothing here can do (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from localai.api.dialects.constraints import read_constraint
from localai.api.errors import openai_body
from localai.api.schemas.openai_requests import GenerationBody
from localai.api.schemas.openai_responses import PromptTokensDetails, Reason, UsageBody
from localai.api.sse import DONE, SseEvent
from localai.mesh.errors import InvalidRequest, Unsupported
from localai.node.inference import (
    MAX_LOGIT_BIAS,
    MAX_STOP_STRINGS,
    ChatInput,
    Failed,
    FinishReason,
    GenerateRequest,
    Prompt,
    RequestId,
    Sampling,
    Timings,
    Usage,
    error_from_failed,
)
from localai.node.request_defaults import (
    MAX_TOKENS,
    NO_LIMIT,
    RANGES,
    ZERO_IS_NOTHING,
    RequestDefaults,
    sampling_from,
)

SYSTEM_FINGERPRINT = "fp_localai_mesh"
MAX_STOP_CHARS = 1000
MAX_BIASES = 1024
MAX_TOKEN_ID = 2**31 - 1
_REASONS: dict[FinishReason, Reason] = {"stop": "stop", "stop_string": "stop", "length": "length"}


def read_generation(
    body: GenerationBody, request_id: RequestId, model: str, prompt: Prompt, defaults: RequestDefaults
) -> GenerateRequest:
    """The request that the common fields stand for; what they do not say is as in ``defaults``.

    Raises:
        InvalidRequest: a field is out of range.
        Unsupported: a field asks for something that no engine here has.
    """
    refuse(
        {
            "typical_p": body.typical_p if body.typical_p != 1 else None,
            "n_keep": body.n_keep,
            "batch": body.batch,
            "rope_freq_base": body.rope_freq_base,
            "rope_freq_scale": body.rope_freq_scale,
        }
    )
    return GenerateRequest(
        id=request_id,
        model=model,
        prompt=prompt,
        sampling=read_sampling(body, defaults.sampling),
        max_tokens=read_max_tokens(body.max_tokens, "max_tokens", defaults.max_tokens),
        stop=read_stop(body.stop),
        choices=defaults.choices if body.n is None else body.n,
        ignore_eos=defaults.ignore_eos if body.ignore_eos is None else body.ignore_eos,
        constraint=read_constraint(body, has_tools=isinstance(prompt, ChatInput) and bool(prompt.tools)),
        logit_bias=read_logit_bias(body.logit_bias),
    )


def check_ranges(body: GenerationBody) -> None:
    """Make sure that every number is in its range, or 0 where that says nothing.

    Raises:
        InvalidRequest: one is not; ``param`` names it.
    """
    for name, (least, greatest) in RANGES.items():
        value = getattr(body, name)
        if value is None or (value == 0 and name in ZERO_IS_NOTHING):
            continue
        if not least <= value <= greatest:
            raise InvalidRequest(f"'{name}' must be between {least} and {greatest}, not {value}.", param=name)


def read_sampling(body: GenerationBody, default: Sampling) -> Sampling:
    """How to draw tokens; what the body does not say is as in ``default``.

    Raises:
        InvalidRequest: a number is out of its range.
    """
    check_ranges(body)
    return sampling_from({name: getattr(body, name) for name in (*RANGES, "seed")}, default)


def read_max_tokens(value: int | None, name: str, default: int | None) -> int | None:
    """The token limit, ``default`` if there is no number; 0 and -1 mean none, as LocalAI and llama.cpp have it.

    Raises:
        InvalidRequest: another negative number.
    """
    if value is None:
        return default
    if value in NO_LIMIT:
        return None
    if value < 0:
        raise InvalidRequest(f"'{name}' must be at least 1, not {value}.", param=name)
    return min(value, MAX_TOKENS)


def read_stop(value: str | list[str] | None) -> tuple[str, ...]:
    """The stop strings, without empty ones.

    Raises:
        InvalidRequest: too many, or one too long.
    """
    stops = tuple(text for text in ([value] if isinstance(value, str) else value or []) if text)
    if len(stops) > MAX_STOP_STRINGS:
        raise InvalidRequest(f"'stop' has {len(stops)} strings; at most {MAX_STOP_STRINGS} are allowed.", param="stop")
    if any(len(text) > MAX_STOP_CHARS for text in stops):
        raise InvalidRequest(f"A string in 'stop' is longer than {MAX_STOP_CHARS} characters.", param="stop")
    return stops


def read_logit_bias(biases: Mapping[str, float] | None) -> tuple[tuple[int, float], ...]:
    """What is added to the logits of tokens, by token id.

    Raises:
        InvalidRequest: a key is no token id, a number is out of range, or there are too many.
    """
    if not biases:
        return ()
    if len(biases) > MAX_BIASES:
        message = f"'logit_bias' has {len(biases)} tokens; at most {MAX_BIASES} are allowed."
        raise InvalidRequest(message, param="logit_bias")
    return tuple(sorted((_token_id(token), _bias(bias)) for token, bias in biases.items()))


def _token_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_TOKEN_ID):
        message = f"'logit_bias' has the key '{text[:50]}', which is no token id. Use ids of the model's vocabulary."
        raise InvalidRequest(message, param="logit_bias")
    return int(text)


def _bias(bias: float) -> float:
    if not -MAX_LOGIT_BIAS <= bias <= MAX_LOGIT_BIAS:
        message = f"'logit_bias' must be between -{MAX_LOGIT_BIAS:g} and {MAX_LOGIT_BIAS:g}, not {bias}."
        raise InvalidRequest(message, param="logit_bias")
    return bias


def refuse(fields: Mapping[str, Any]) -> None:
    """Refuse fields whose function is not built yet, rather than ignore them. Empty, false and 0 ask for nothing.

    Raises:
        Unsupported: one asks for something.
    """
    for name, value in fields.items():
        if value and value not in ("auto", "none"):
            raise Unsupported(
                f"'{name}' is not supported by this version yet. Send the request without it.",
                code="unsupported_field",
                param=name,
            )


def render_usage(usage: Usage, timings: Timings | None = None) -> UsageBody:
    """Token counts in OpenAI's form, with LocalAI's times if there are any."""
    total = usage.prompt_tokens + usage.completion_tokens
    details = PromptTokensDetails(usage.cached_tokens)
    body = UsageBody(usage.prompt_tokens, usage.completion_tokens, total, details)
    if timings is None:
        return body
    return msgspec.structs.replace(
        body,
        timing_prompt_processing=round(timings.prefill_s * 1000, 3),
        timing_token_generation=round(timings.decode_s * 1000, 3),
    )


def render_failure(failed: Failed) -> list[SseEvent]:
    """How a stream that has begun ends with a failure: the error's body as an event, then the usual end."""
    return [SseEvent(msgspec.json.encode(openai_body(error_from_failed(failed)))), DONE]


def render_reason(reason: FinishReason) -> Reason:
    """A finish reason in OpenAI's words."""
    return _REASONS[reason]
