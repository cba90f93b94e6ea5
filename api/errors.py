"""From an error to a status and a body, for every dialect: the only place that knows both (pure).

Used by the middleware before the first byte and by the stream pump after it. Messages are the public ones of
``mesh/errors.py``; details never leave the log. Source: LocalAI's and OpenAI's error references; where LocalAI's
text says ``code=400, message=...`` we send the clean sentence, as it documents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from localai.api.error_shapes import Shape
from localai.api.schemas.errors import (
    AnthropicError,
    AnthropicErrorBody,
    ElevenLabsDetail,
    ElevenLabsError,
    ErrorBody,
    FlatError,
    OpenAIError,
)
from localai.mesh.errors import Category, LocalAIError, error_class

STATUS: dict[Category, int] = {
    Category.INVALID_REQUEST: 400,
    Category.UNAUTHENTICATED: 401,
    Category.FORBIDDEN: 403,
    Category.NOT_FOUND: 404,
    Category.CONFLICT: 409,
    Category.TOO_LARGE: 413,
    Category.RATE_LIMITED: 429,
    Category.INTERNAL: 500,
    Category.UNSUPPORTED: 501,
    Category.UPSTREAM_FAILED: 502,
    Category.UNAVAILABLE: 503,
    Category.TIMEOUT: 504,
}
_STATUS_OF_CODE: dict[str, int] = {
    "method_not_allowed": 405,
    "request_too_slow": 408,
    "headers_too_large": 431,
    "unsupported_encoding": 415,
    "too_many_connections": 429,
    "top_n_too_small": 422,
    "expectation_failed": 417,
}
"""Finer than their category."""
_NEVER_BETTER = frozenset({"no_mcp_servers"})
"""Codes of a 5xx that stays until somebody changes this node."""
_OPENAI_TYPES: dict[Category, str] = {
    Category.RATE_LIMITED: "rate_limit_error",
    Category.INTERNAL: "server_error",
    Category.UNSUPPORTED: "server_error",
    Category.UPSTREAM_FAILED: "server_error",
    Category.UNAVAILABLE: "server_error",
    Category.TIMEOUT: "server_error",
    Category.FORBIDDEN: "permission_error",
}
_TYPE = "invalid_request_error"
_ANTHROPIC_TYPES: dict[Category, str] = {
    Category.UNAUTHENTICATED: "authentication_error",
    Category.FORBIDDEN: "permission_error",
    Category.NOT_FOUND: "not_found_error",
    Category.TOO_LARGE: "request_too_large",
    Category.RATE_LIMITED: "rate_limit_error",
    Category.INTERNAL: "api_error",
    Category.UNSUPPORTED: "api_error",
    Category.UPSTREAM_FAILED: "api_error",
    Category.UNAVAILABLE: "overloaded_error",
    Category.TIMEOUT: "timeout_error",
}
_RESPONSES_TYPES: dict[Category, str] = {
    Category.NOT_FOUND: "not_found",
    Category.RATE_LIMITED: "too_many_requests",
    Category.INTERNAL: "server_error",
    Category.UNSUPPORTED: "server_error",
    Category.UPSTREAM_FAILED: "model_error",
    Category.UNAVAILABLE: "server_error",
    Category.TIMEOUT: "server_error",
}
_RESPONSES_TYPE_OF_CODE: dict[str, str] = {
    "background_needs_store": _TYPE,
    "events_evicted": _TYPE,
}
"""Where LocalAI documents another one than for the rest of the category."""
KEY_REQUIRED = "An authentication key is required"
CRASHED = "Something went wrong inside this node. Its log says what."
"""All that a client is told of a mistake in this program."""
OPAQUE = "An error occurred. The node's log has it under the X-Correlation-ID of this answer."
"""All that a client is told of anything with ``--opaque-errors``."""
OPAQUE_LATER = "An error occurred. The node's log says what."
"""The same where it is kept, and read in answers to other requests than the one that failed."""

Body: TypeAlias = OpenAIError | AnthropicError | ElevenLabsError | FlatError


@dataclass(frozen=True, slots=True)
class Rendered:
    """What to send: status, headers, and the body as a struct."""

    status: int
    body: Body
    headers: dict[str, str] = field(default_factory=dict)


def openai_body(error: LocalAIError) -> OpenAIError:
    """The body of OpenAI's API and of LocalAI's own routes; also the payload of an error inside a stream."""
    if error.category is Category.UNAUTHENTICATED:
        # LocalAI documents this body, with the status as its code and no param, and clients compare with it.
        return OpenAIError(ErrorBody(code=401, message=error.message, type=_TYPE, param=msgspec.UNSET))
    kind = _OPENAI_TYPES.get(error.category, _TYPE)
    return OpenAIError(ErrorBody(code=error.code, message=error.message, type=kind, param=error.param))


def error_body(error: LocalAIError, shape: Shape) -> Body:
    """The body in the shape of an API."""
    match shape:
        case "anthropic":
            kind = _ANTHROPIC_TYPES.get(error.category, _TYPE)
            return AnthropicError(AnthropicErrorBody(type=kind, message=error.message))
        case "responses":
            kind = _RESPONSES_TYPES.get(error.category, "invalid_request")
            kind = _RESPONSES_TYPE_OF_CODE.get(error.code, kind)
            return OpenAIError(ErrorBody(code=error.code, message=error.message, type=kind, param=error.param))
        case "elevenlabs":
            return ElevenLabsError(ElevenLabsDetail(status=error.code, message=error.message))
        case "flat":
            return FlatError(error.message)
        case _:
            return openai_body(error)


def status_of(error: LocalAIError) -> int:
    """The status that an error is answered with."""
    return _STATUS_OF_CODE.get(error.code) or STATUS[error.category]


def hide_error(error: LocalAIError, message: str = OPAQUE) -> LocalAIError:
    """What ``--opaque-errors`` leaves of an error: its category, and when to come back. ``message`` is what is said."""
    code = error.category.value
    return error_class(error.category)(message, code=code, retry_after_s=error.retry_after_s)


def render_error(error: LocalAIError, shape: Shape = "openai", *, opaque: bool = False) -> Rendered:
    """The whole answer for an error before the first byte."""
    shown = hide_error(error) if opaque else error
    return Rendered(status_of(error), error_body(shown, shape), _headers(error))


def _headers(error: LocalAIError) -> dict[str, str]:
    if error.category is Category.UNAUTHENTICATED:
        return {"WWW-Authenticate": "Bearer"}
    if error.category is Category.UNSUPPORTED or error.code in _NEVER_BETTER:
        return {"x-should-retry": "false"}  # OpenAI's clients repeat every 5xx without it
    if error.retry_after_s is not None:
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    return {}
