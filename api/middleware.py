"""What happens around every handler, outermost first: headers, errors, then who and what is let in (shell)."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog
from aiohttp import HttpVersion11, web

from localai.api.address_rules import check_host
from localai.api.auth import ExemptRoutes, KeyRing, presented_key
from localai.api.error_shapes import shape_of
from localai.api.errors import CRASHED, KEY_REQUIRED, render_error
from localai.api.responses import json_response
from localai.api.route_headers import route_headers
from localai.api.server import EXPECTATION, BodyRefused
from localai.api.site_rules import AllowedOrigins, check_site, cors_headers, is_preflight, preflight_headers
from localai.api.state import ANSWER_HEADERS, SETTINGS
from localai.mesh.errors import Category, InvalidRequest, LocalAIError, NotFound, TooLarge, Unauthenticated

_LOG = structlog.get_logger()

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Middleware: TypeAlias = Any  # Any: aiohttp's protocol for middlewares is private
PUBLIC_PATHS = frozenset({"/", "/healthz", "/healthz/", "/readyz", "/readyz/", "/swagger"})
PUBLIC_PREFIXES = ("/static/", "/swagger/")
PROBES = frozenset({"/healthz", "/healthz/", "/readyz", "/readyz/"})
"""Asked under whatever name a container or a proxy has for this node; their answers tell a page elsewhere nothing."""
_SEND_LESS = "Send less, or start the node with a larger --upload-limit."
_CORRELATION = re.compile(r"[\x21-\x7e]{1,128}")
REQUEST_ID = web.RequestKey("request_id", str)
ORIGINS = web.AppKey("origins", AllowedOrigins)
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
    response.headers.update(request.app[ANSWER_HEADERS])
    if origins := request.app[ORIGINS]:
        response.headers.update(cors_headers(request.headers.get("Origin"), origins))
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
        response = _answer(request, error)
        if DISPATCHED not in request:
            _LOG.info("request_refused", status=response.status, code=error.code, detail=error.detail)
    except web.HTTPException as exception:
        response = _http_exception(request, exception)
    except web.RequestPayloadError as exception:
        _LOG.info("request_unreadable", detail=str(exception)[:300])
        message = "The body cannot be read. Make sure that it is what its Content-Encoding and length say."
        response = _answer(request, InvalidRequest(message, code="unreadable_body"))
    except BodyRefused as refused:
        _LOG.info("request_refused", status=408, code=refused.error.code, detail="")
        response = _answer(request, refused.error)
    except Exception as exception:  # the top of a request: it must become an answer
        _LOG.exception("request_crashed", kind=type(exception).__name__)
        response = _answer(request, LocalAIError(CRASHED))
    _LOG.debug("request_done", status=response.status, total_ms=round((time.monotonic() - began) * 1000, 1))
    return response


def _answer(request: web.Request, error: LocalAIError) -> web.Response:
    """An error as a whole response, in the shape of the path."""
    opaque = request.app[SETTINGS].protection.opaque_errors
    rendered = render_error(error, shape_of(request.path), opaque=opaque)
    response = json_response(rendered.body, status=rendered.status, headers=rendered.headers)
    if not request.content.is_eof():
        response.force_close()  # the rest of the body may never come, and the next request would be taken for it
    return response


def _http_exception(request: web.Request, exception: web.HTTPException) -> web.Response:
    """aiohttp's own refusals, in our shape."""
    path = request.path[:200]
    match exception:
        case web.HTTPMethodNotAllowed(allowed_methods=allowed):
            methods = ", ".join(sorted(allowed))
            response = _answer(request, MethodNotAllowed(f"{request.method} is not allowed here. Use {methods}."))
            response.headers["Allow"] = methods
            return response
        case web.HTTPNotFound() | web.HTTPForbidden():  # the latter for folders of static files
            message = f"There is nothing at {path}. GET /v1/models lists the models; the API begins with /v1."
            return _answer(request, NotFound(message, code="unknown_path"))
        case web.HTTPRequestEntityTooLarge():
            return _answer(request, TooLarge(f"The body is larger than this node accepts. {_SEND_LESS}"))
        case _:
            response = _answer(request, InvalidRequest(exception.reason, code="bad_request"))
            response.set_status(exception.status)
            return response


@dataclass(frozen=True, slots=True)
class Admission:
    """Who and what is let in. ``names`` are host names of this node; a body limit of 0 means none."""

    max_body_bytes: int = 0
    names: frozenset[str] = frozenset()
    keys: KeyRing = field(default_factory=lambda: KeyRing(()))
    exempt: ExemptRoutes = field(default_factory=lambda: ExemptRoutes(()))
    origins: AllowedOrigins = field(default_factory=AllowedOrigins)
    checks_sites: bool = True

    def check(self, request: web.Request) -> None:
        """Let a request in.

        Raises:
            LocalAIError: it may not come in.
        """
        headers = request.headers
        if not (self._has_key_in_header(headers) or self._is_probe(request)):
            check_host(headers.get("Host", ""), self.names)  # aiohttp refuses two of them
        if self.checks_sites:
            check_site(request.method, headers, self.origins)
        if self.keys and not self._is_public(request) and not self.keys.has(presented_key(headers, request.cookies)):
            raise Unauthenticated(KEY_REQUIRED)
        self._check_body(request)

    def _has_key_in_header(self, headers: Mapping[str, str]) -> bool:
        """Whether the request proves that no page elsewhere sent it: such a page knows no key, but has our cookies."""
        return bool(self.keys) and self.keys.has(presented_key(headers, {}))

    def _is_probe(self, request: web.Request) -> bool:
        return request.method in ("GET", "HEAD") and request.path in PROBES

    def _check_body(self, request: web.Request) -> None:
        length, limit = request.content_length, self.max_body_bytes
        if limit and length is not None and length > limit:
            raise TooLarge(f"The body has {length} bytes and this node accepts {limit}. {_SEND_LESS}")
        packing = request.headers.get("Content-Encoding", "identity").strip().lower()
        if packing in ("", "identity"):
            return
        if not limit or request.content_type.startswith("multipart/"):
            # Nothing counts here what such a body becomes, and 10 kB can become 10 GB.
            message = "A packed body is not accepted here. Send it without Content-Encoding."
            raise InvalidRequest(message, code="unsupported_encoding")

    def _is_public(self, request: web.Request) -> bool:
        if request.method not in ("GET", "HEAD"):
            return False
        path = request.path
        if path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIXES):
            return True
        resource = request.match_info.route.resource
        return request.method == "GET" and resource is not None and self.exempt.covers(resource.canonical)


def admit(admission: Admission) -> Middleware:
    """Ask ``admission`` about every request, and answer the questions that browsers ask before theirs."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if admission.origins and is_preflight(request.method, request.headers):
            check_host(request.headers.get("Host", ""), admission.names)
            return web.Response(status=204, headers=preflight_headers(request.headers, admission.origins))
        admission.check(request)
        await _meet_expectation(request)
        return await handler(request)

    return middleware


async def _meet_expectation(request: web.Request) -> None:
    """Tell a client that waits with its body to send it, now that it is let in.

    Raises:
        InvalidRequest: it expects something else.
    """
    expected = request.get(EXPECTATION, "")
    if not expected or request.version < HttpVersion11:
        return
    if expected.lower() != "100-continue":
        message = "The header 'Expect' asks for something unknown. Send '100-continue' or leave it out."
        raise InvalidRequest(message, code="expectation_failed")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun
