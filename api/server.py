"""The HTTP server around the application: who may connect, how long a client may take, and bytes that are no HTTP
(shell).

aiohttp's protocol does the work; this one counts, and a task looks at all connections every few seconds and asks
``connection_rules`` whose time is over.
"""

from __future__ import annotations

import asyncio
import resource
import uuid
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from localai.api.connection_rules import ConnectionLimits, Door, Look, Patience, Refusal, Wait
from localai.api.errors import CRASHED, render_error
from localai.mesh.errors import InvalidRequest, LocalAIError, RateLimited, TooLarge, Unavailable

_LOG = structlog.get_logger()

EXPECTATION = web.RequestKey("expectation", str)
"""The header ``Expect`` of a request, taken out of it: aiohttp would answer before anybody has asked for a key."""
MAX_LINE_BYTES = 8190
"""Longest request line and longest header."""
MAX_HEADERS = 100
LINGERING_S = 5.0
"""How long the rest of a body that nobody wants is read, so that the client sees the answer."""
_MAX_TURNED_AWAY = 64
_TURNED_AWAY_S = 1.0
_REASONS = {400: "Bad Request", 408: "Request Timeout", 429: "Too Many Requests", 503: "Service Unavailable"}
_RETRY_S = 5.0
_SLACK_BYTES = 1 << 16


class BodyRefused(TimeoutError):
    """A body came too slowly or has become too long; ``error`` says which.

    A ``TimeoutError``, because that is the one kind that aiohttp takes quietly when it reads the rest of a body.
    """

    def __init__(self, error: LocalAIError) -> None:
        super().__init__(error.message)
        self.error = error


def default_limits() -> ConnectionLimits:
    """Limits that leave half of the files this process may open to everything else."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = ConnectionLimits()
    total = limits.total if files == resource.RLIM_INFINITY else max(16, min(limits.total, files // 2))
    return ConnectionLimits(total=total)


class GuardedRunner(web.AppRunner):
    """Runs an application behind the limits. ``headers`` go on every answer that the application has not seen."""

    def __init__(
        self,
        app: web.Application,
        limits: ConnectionLimits,
        *,
        headers: Mapping[str, str],
        max_body_bytes: int = 0,
        opaque: bool = False,
        shutdown_timeout_s: float = 1.0,
    ) -> None:
        super().__init__(app, handle_signals=False, shutdown_timeout=shutdown_timeout_s)
        self._rules = (limits, dict(headers), max_body_bytes, opaque)
        self._watching: asyncio.Task[None] | None = None

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        server = GuardedServer(plain, *self._rules)
        self._watching = asyncio.create_task(server.keep_watch())
        return server

    async def _cleanup_server(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await super()._cleanup_server()


class GuardedServer(web.Server):
    """Makes the connections, and ends those whose client takes too long."""

    def __init__(
        self, plain: web.Server, limits: ConnectionLimits, headers: dict[str, str], max_body_bytes: int, opaque: bool
    ) -> None:
        super().__init__(plain.request_handler, request_factory=self._begin, handler_cancellation=True)
        self._make = plain.request_factory
        self.limits = limits
        self.headers = headers
        self.max_body_bytes = max_body_bytes
        self.opaque = opaque
        self.door = Door(limits)
        self.turned_away = 0
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> GuardedConnection:
        return GuardedConnection(self, self._loop)

    def _begin(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        expected = message.headers.get("Expect", "")
        if expected:
            others = message.headers.copy()
            others.popall("Expect")
            message = message._replace(headers=others)
        request = self._make(message, payload, protocol, writer, task)
        if expected:
            request[EXPECTATION] = expected
        protocol.begin(request)
        return request

    async def keep_watch(self) -> None:
        """Look at all connections until cancelled."""
        while True:
            await asyncio.sleep(self.limits.look_s)
            now = self._loop.time()
            for connection in self.connections:
                if isinstance(connection, GuardedConnection):
                    connection.look(now)

    def turn_away(self, transport: asyncio.Transport, refusal: Refusal, address: str) -> None:
        """Answer a connection for which there is no room, without reading what it wants."""
        error: LocalAIError
        if refusal == "address":
            message = "There are too many connections from this address. Close some, or use the open ones again."
            error = RateLimited(message, code="too_many_connections", retry_after_s=_RETRY_S)
        else:
            message = "There are too many connections to this node. Try again soon."
            error = Unavailable(message, code="node_full", retry_after_s=_RETRY_S)
        if self.turned_away >= _MAX_TURNED_AWAY:
            transport.abort()
            return
        _LOG.debug("connection_refused", limit=refusal, address=address)
        self.turned_away += 1
        transport.set_protocol(_TurnedAway(self, transport))
        transport.write(self.raw_answer(error))
        transport.write_eof()

    def raw_answer(self, error: LocalAIError) -> bytes:
        """A whole answer as bytes, for clients whose request was never understood."""
        rendered = render_error(error, opaque=self.opaque)
        body = msgspec.json.encode(rendered.body) + b"\n"
        headers = {
            **self.headers,
            **rendered.headers,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {rendered.status} {_REASONS[rendered.status]}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


class _TurnedAway(asyncio.Protocol):
    """A connection that has its answer: kept for a moment, because closing it unread would destroy the answer."""

    def __init__(self, server: GuardedServer, transport: asyncio.Transport) -> None:
        self._server = server
        self._timer = asyncio.get_running_loop().call_later(_TURNED_AWAY_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._server.turned_away -= 1


class GuardedConnection(web.RequestHandler):
    """One connection, with what the rules need to know of it."""

    def __init__(self, server: GuardedServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own default type forgets that None means none
            keepalive_timeout=server.limits.idle_s,
            lingering_time=LINGERING_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )
        self._server = server
        self._patience = Patience(server.limits)
        self._address: str | None = None
        self._own: asyncio.Transport | None = None
        self._request: web.BaseRequest | None = None
        self._received = 0
        self._turns = 0
        self._drained = 0
        self._mark = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, and another base
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if refusal := self._server.door.enter(address):
            self._server.turn_away(transport, refusal, address)
            return
        self._address, self._own = address, transport
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._address is not None:
            self._server.door.leave(self._address)
            self._address = None
        self._own = self._request = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        request, limit = self._request, self._server.max_body_bytes
        if request is not None and limit and self._received - self._mark > limit + _SLACK_BYTES:
            self._refuse_body(request, TooLarge("The body is larger than this node accepts. Send less."))
        super().data_received(data)

    def resume_writing(self) -> None:
        self._drained += 1
        super().resume_writing()

    def begin(self, request: web.BaseRequest) -> None:
        """Note that a request has been read up to its body."""
        self._request, self._mark = request, self._received
        self._turns += 1

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._request, self._mark = None, self._received

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not HTTP, in our shape and with a line in the log instead of a traceback."""
        error: LocalAIError
        if isinstance(exc, LineTooLong):
            text = f"The request line or a header is longer than {MAX_LINE_BYTES} bytes. Send less."
            error = InvalidRequest(text, code="headers_too_large")
        elif status == 400:
            error = InvalidRequest("This is not HTTP that this node understands. Check the client.", code="bad_http")
        else:
            _LOG.error("request_crashed", kind=type(exc).__name__, exc_info=exc)
            error = LocalAIError(CRASHED)
        request_id = str(uuid.uuid4())
        if status == 400:
            _LOG.info("request_malformed", request_id=request_id, detail=(message or "")[:300])
        if request.writer.output_size > 0:
            raise ConnectionError("a part of an answer has been sent")
        rendered = render_error(error, opaque=self._server.opaque)
        headers = {**self._server.headers, **rendered.headers, "X-Correlation-ID": request_id}
        body = msgspec.json.encode(rendered.body) + b"\n"
        response = web.Response(status=rendered.status, body=body, content_type="application/json", headers=headers)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """What goes wrong after an answer, such as a rest of a body that cannot be unpacked: one line, no traceback."""
        _LOG.warning("connection_broken", detail=repr(kw.get("exc_info"))[:300])

    def look(self, now: float) -> None:
        """End the connection, or its request, when the client has had its time."""
        transport, request = self._own, self._request
        if transport is None:
            return
        waits = self._waits(transport, request)
        if not self._patience.is_over(waits, now):
            return
        _LOG.info("client_too_slow", wait=waits.wait.value, address=self._address)
        if waits.wait is Wait.BODY and request is not None:
            message = "The body comes too slowly. Send it again over a better connection."
            self._refuse_body(request, InvalidRequest(message, code="request_too_slow"))
        elif waits.wait is Wait.HEADERS:
            if self._received > self._mark:  # a client that has asked for nothing expects no answer
                message = "The request comes too slowly. Send its headers at once."
                transport.write(self._server.raw_answer(InvalidRequest(message, code="request_too_slow")))
            self.force_close()
        else:
            transport.abort()

    def _waits(self, transport: asyncio.Transport, request: web.BaseRequest | None) -> Look:
        if transport.is_closing():
            return Look(Wait.CLOSING)
        if self.writing_paused:
            return Look(Wait.READER, self._drained, -transport.get_write_buffer_size())
        if request is None:
            has_begun = not self._turns or self._received > self._mark
            return Look(Wait.HEADERS, self._turns) if has_begun else Look(Wait.NOTHING)
        if not request.content.is_eof() and transport.is_reading():
            return Look(Wait.BODY, self._turns, self._received)
        return Look(Wait.NOTHING)

    def _refuse_body(self, request: web.BaseRequest, error: LocalAIError) -> None:
        if not request.content.is_eof() and request.content.exception() is None:
            request.content.set_exception(BodyRefused(error))
