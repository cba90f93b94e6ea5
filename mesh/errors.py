"""The exception tree of the whole program (pure).

Exceptions know nothing of HTTP: ``api/errors.py`` turns a category into a status and a body.

    LocalAIError                internal           something we did not foresee
    ├── InvalidRequest          invalid_request    the caller must change the request
    ├── Unauthenticated         unauthenticated    no key, or a wrong one
    ├── Forbidden               forbidden          known caller, not allowed
    ├── NotFound                not_found          no such thing here
    ├── Conflict                conflict           contradicts the current state
    ├── TooLarge                too_large          over a fixed limit
    ├── RateLimited             rate_limited       come back later: our queue is full
    ├── Unavailable             unavailable        cannot serve now; trying again may work
    │   └── WorkerLost          unavailable        the process that was answering died
    ├── UpstreamFailed          upstream_failed    a peer or backend answered nonsense
    ├── DeadlineExceeded        timeout            took longer than allowed
    ├── Unsupported             unsupported        no backend here can do this task
    ├── ModelLoadFailed         internal           the model's file or settings are broken
    ├── WireError               upstream_failed    bytes that break our frame protocol
    └── SetupError              internal           the program cannot start; the message says what to do
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Category(StrEnum):
    """What kind of failure it is: decides the status, and whether another node is worth trying."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    UPSTREAM_FAILED = "upstream_failed"
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"
    INTERNAL = "internal"


class LocalAIError(Exception):
    """Root of the tree.

    ``message`` is public: one sentence that names the problem and the next step. ``detail`` is for
    logs only. ``param`` is the request field at fault. ``retry_after_s`` is seconds, at least 0.
    """

    category: ClassVar[Category] = Category.INTERNAL
    default_code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        detail: str = "",
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.detail = detail
        self.param = param
        self.retry_after_s = retry_after_s


class InvalidRequest(LocalAIError):
    """The caller must change the request."""

    category = Category.INVALID_REQUEST
    default_code = "invalid_request"


class Unauthenticated(LocalAIError):
    """No API key, or a wrong one."""

    category = Category.UNAUTHENTICATED
    default_code = "invalid_api_key"


class Forbidden(LocalAIError):
    """The caller is known, or does not matter, and this is not allowed."""

    category = Category.FORBIDDEN
    default_code = "forbidden"


class NotFound(LocalAIError):
    """There is no such thing here."""

    category = Category.NOT_FOUND
    default_code = "not_found"


class Conflict(LocalAIError):
    """The request contradicts the current state."""

    category = Category.CONFLICT
    default_code = "conflict"


class TooLarge(LocalAIError):
    """Over a fixed limit."""

    category = Category.TOO_LARGE
    default_code = "request_too_large"


class RateLimited(LocalAIError):
    """Our queue is full."""

    category = Category.RATE_LIMITED
    default_code = "queue_full"


class Unavailable(LocalAIError):
    """Cannot be served now; the same request may work later."""

    category = Category.UNAVAILABLE
    default_code = "unavailable"


class WorkerLost(Unavailable):
    """The process that was answering died."""

    default_code = "worker_lost"


class UpstreamFailed(LocalAIError):
    """A peer or a backend answered something unusable."""

    category = Category.UPSTREAM_FAILED
    default_code = "upstream_failed"


class DeadlineExceeded(LocalAIError):
    """It took longer than allowed."""

    category = Category.TIMEOUT
    default_code = "timeout"


class Unsupported(LocalAIError):
    """No installed backend can do this task."""

    category = Category.UNSUPPORTED
    default_code = "unsupported"


class ModelLoadFailed(LocalAIError):
    """The model's file or settings cannot be used."""

    default_code = "model_load_failed"


class WireError(LocalAIError):
    """Bytes that break the frame protocol. The connection they came from is not usable any more."""

    category = Category.UPSTREAM_FAILED
    default_code = "wire_error"


class SetupError(LocalAIError):
    """The program cannot start or a command cannot run (exit code 1)."""

    default_code = "setup_error"


_BY_CATEGORY: dict[Category, type[LocalAIError]] = {
    kind.category: kind
    for kind in (
        InvalidRequest,
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        TooLarge,
        RateLimited,
        Unavailable,
        UpstreamFailed,
        DeadlineExceeded,
        Unsupported,
    )
}


def error_class(category: Category) -> type[LocalAIError]:
    """The class to raise for an error that arrived as data."""
    return _BY_CATEGORY.get(category, LocalAIError)
