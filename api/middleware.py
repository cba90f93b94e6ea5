"""What happens around every handler, outermost first: headers, errors, limits, host, key (shell)."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Set
from typing import Any, TypeAlias

import structlog
from aiohttp import web

from localai.api.address_rules import check_host
from localai.api.auth import is_allowed, presented_key
from localai.api.errors import CRASHED, KEY_REQUIRED, render_error
from localai.api.responses import json_response
from localai.api.route_headers import route_headers
from localai.api.web.headers import SECURITY_HEADERS
from localai.mesh.errors import Category, InvalidRequest, LocalAIError, NotFound, TooLarge, Unauthenticated
from localai.mesh.secrets import Secret

_LOG = structlog.get_logger()

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Middleware: TypeAlias = Any  # Any: aiohttp's protocol for middlewares is private
PUBLIC_PATHS = frozenset({"/", "/healthz", "/healthz/", "/readyz", "/readyz/"})
PUBLIC_PREFIX = "/static/"
_SEND_LESS = "Send less, or start the node with a larger --upload-limit."
_CORRELATION = re.compile(r"[\x21-\x7e]{1,128}")
REQUEST_ID = web.RequestKey("request_id", str)
DISPATCHED = web.RequestKey("dispatched", bool)
"""Set once the request has reached the dispatch, whose log line then tells how it ended."""


class MethodNotAllowed(LocalAIError):
    """The path exists, the method does not."""

    category = Category.INVALID_REQUEST
    default_code = "method_not_allowed"


@web.middleware
async def correlate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, bind it to every log line, and return it with the security headers."""
    given = request.headers.get("X-Correlation-ID", "")
    request_id = given if _CORRELATION.fullmatch(given) else str(uuid.uuid4())
    request[REQUEST_ID] = request_id
    with structlog.contextvars.bound_contextvars(request_id=request_id, route=f"{request.method} {request.path[:200]}"):
        return await handler(request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Headers that every response carries, streams included."""
    response.headers.update(SECURITY_HEADERS)
    if request_id := request.get(REQUEST_ID):
        response.headers["X-Correlation-ID"] = request_id
    response.headers.update(route_headers(request))
    response.headers.pop("Server", None)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a status and a body."""
    began = time.monotonic()
    try:
        response = await handler(request)
    except LocalAIError as error:
        response = error_response(error)
        if DISPATCHED not in request:
            _LOG.info("request_refused", status=response.status, code=error.code, detail=error.detail)
    except web.HTTPException as exception:
        response = _http_exception(request, exception)
    except web.RequestPayloadError as exception:
        _LOG.info("request_unreadable", detail=str(exception)[:300])
        message = "The body cannot be read. Make sure that it is what its Content-Encoding and length say."
        response = error_response(InvalidRequest(message, code="unreadable_body"))
    except Exception as exception:  # the top of a request: it must become an answer
        _LOG.exception("request_crashed", kind=type(exception).__name__)
        response = error_response(LocalAIError(CRASHED))
    _LOG.debug("request_done", status=response.status, total_ms=round((time.monotonic() - began) * 1000, 1))
    return response


def error_response(error: LocalAIError) -> web.Response:
    """An error as a whole response."""
    rendered = render_error(error)
    status = 405 if isinstance(error, MethodNotAllowed) else rendered.status
    return json_response(rendered.body, status=status, headers=rendered.headers)


def _http_exception(request: web.Request, exception: web.HTTPException) -> web.Response:
    """aiohttp's own refusals, in our shape."""
    path = request.path[:200]
    match exception:
        case web.HTTPMethodNotAllowed(allowed_methods=allowed):
            methods = ", ".join(sorted(allowed))
            response = error_response(MethodNotAllowed(f"{request.method} is not allowed here. Use {methods}."))
            response.headers["Allow"] = methods
            return response
        case web.HTTPNotFound() | web.HTTPForbidden():  # the latter for folders of static files
            message = f"There is nothing at {path}. GET /v1/models lists the models; the API begins with /v1."
            return error_response(NotFound(message, code="unknown_path"))
        case web.HTTPRequestEntityTooLarge():
            return error_response(TooLarge(f"The body is larger than this node accepts. {_SEND_LESS}"))
        case _:
            response = error_response(InvalidRequest(exception.reason, code="bad_request"))
            response.set_status(exception.status)
            return response


def limit_body(limit_bytes: int) -> Middleware:
    """Refuse a body that announces more than ``limit_bytes``; 0 is no limit. aiohttp counts the unannounced ones."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        length = request.content_length
        if limit_bytes and length is not None and length > limit_bytes:
            raise TooLarge(f"The body has {length} bytes and this node accepts {limit_bytes}. {_SEND_LESS}")
        return await handler(request)

    return middleware


def require_host(names: Set[str]) -> Middleware:
    """Refuse host names that are not ours."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        check_host(request.headers.get("Host", ""), names)
        return await handler(request)

    return middleware


def require_key(keys: tuple[Secret[str], ...]) -> Middleware:
    """Ask for a key everywhere but on the probes and the static parts of the page; without keys, nowhere."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path
        public = request.method in ("GET", "HEAD") and (path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIX))
        if keys and not public and not is_allowed(presented_key(request.headers, request.cookies), keys):
            raise Unauthenticated(KEY_REQUIRED)
        return await handler(request)

    return middleware
