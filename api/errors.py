"""From an error to a status and a body, for every dialect: the only place that knows both (pure).

Used by the middleware before the first byte and by the stream pump after it. Messages are the public ones of
``mesh/errors.py``; details never leave the log. Source: LocalAI's and OpenAI's error references; where LocalAI's
text says ``code=400, message=...`` we send the clean sentence, as it documents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import msgspec

from localai.api.schemas.errors import ErrorBody, OpenAIError
from localai.mesh.errors import Category, LocalAIError

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
KEY_REQUIRED = "An authentication key is required"
CRASHED = "Something went wrong inside this node. Its log says what."
"""All that a client is told of a mistake in this program."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What to send: status, headers, and the body as a struct."""

    status: int
    body: OpenAIError
    headers: dict[str, str] = field(default_factory=dict)


def openai_body(error: LocalAIError) -> OpenAIError:
    """The body of OpenAI's API and of LocalAI's own routes; also the payload of an error inside a stream."""
    if error.category is Category.UNAUTHENTICATED:
        # LocalAI documents this body, with the status as its code and no param, and clients compare with it.
        return OpenAIError(ErrorBody(code=401, message=error.message, type=_TYPE, param=msgspec.UNSET))
    kind = _OPENAI_TYPES.get(error.category, _TYPE)
    return OpenAIError(ErrorBody(code=error.code, message=error.message, type=kind, param=error.param))


def render_error(error: LocalAIError) -> Rendered:
    """The whole answer for an error before the first byte."""
    return Rendered(STATUS[error.category], openai_body(error), _headers(error))


def _headers(error: LocalAIError) -> dict[str, str]:
    if error.category is Category.UNAUTHENTICATED:
        return {"WWW-Authenticate": "Bearer"}
    if error.category is Category.UNSUPPORTED:
        return {"x-should-retry": "false"}  # OpenAI's clients repeat every 5xx without it
    if error.retry_after_s is not None:
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    return {}
