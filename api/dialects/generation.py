"""What chat and text completions share: reading sampling fields, refusing what nothing here can do (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from localai.api.errors import openai_body
from localai.api.schemas.openai_requests import GenerationBody
from localai.api.schemas.openai_responses import PromptTokensDetails, Reason, UsageBody
from localai.api.sse import DONE, SseEvent
from localai.mesh.errors import InvalidRequest, Unsupported
from localai.node.inference import (
    MAX_STOP_STRINGS,
    Failed,
    FinishReason,
    Sampling,
    Usage,
    error_from_failed,
)
from localai.node.request_defaults import MAX_TOKENS, NO_LIMIT, RANGES, ZERO_IS_NOTHING, sampling_from

SYSTEM_FINGERPRINT = "fp_localai_mesh"
MAX_STOP_CHARS = 1000
_REASONS: dict[FinishReason, Reason] = {"stop": "stop", "stop_string": "stop", "length": "length"}


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


def refuse(fields: Mapping[str, Any]) -> None:
    """Refuse fields whose function is not built yet, rather than ignore them. None, false and empty ask for nothing.

    Raises:
        Unsupported: one asks for something.
    """
    for name, value in fields.items():
        if value is not None and value is not False and value not in ("", "auto", "none", [], {}):
            raise Unsupported(
                f"'{name}' is not supported by this version yet. Send the request without it.",
                code="unsupported_field",
                param=name,
            )


def refuse_response_format(value: Any) -> None:
    """Refuse every format but plain text.

    Raises:
        Unsupported: it asks for JSON.
    """
    if value not in (None, "text") and not (isinstance(value, dict) and value.get("type") == "text"):
        refuse({"response_format": value})


def render_usage(usage: Usage) -> UsageBody:
    """Token counts in OpenAI's form."""
    total = usage.prompt_tokens + usage.completion_tokens
    details = PromptTokensDetails(usage.cached_tokens)
    return UsageBody(usage.prompt_tokens, usage.completion_tokens, total, details)


def render_failure(failed: Failed) -> list[SseEvent]:
    """How a stream that has begun ends with a failure: the error's body as an event, then the usual end."""
    return [SseEvent(msgspec.json.encode(openai_body(error_from_failed(failed)))), DONE]


def render_reason(reason: FinishReason) -> Reason:
    """A finish reason in OpenAI's words."""
    return _REASONS[reason]
