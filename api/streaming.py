"""From a dispatched request to the socket (shell).

Nothing is sent before the dialect has something to show, so that a failure until then becomes a proper status; but no
longer than ``SILENCE_S``, because proxies give up on a silent node while a model loads or a long prompt is read. Then
everything that is ready goes out in one write; a comment fills long silences. A client that leaves cancels the
handler, which closes the event stream, which tells the worker to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

import msgspec
import structlog
from aiohttp import web

from localai.api.dialects.answer import E, Renderer, StreamRenderer
from localai.api.dialects.exchange import Exchange, join_deltas
from localai.api.errors import CRASHED, hide_error
from localai.api.route_headers import keep_route
from localai.api.sse import SSE, StreamForm
from localai.api.state import SETTINGS
from localai.mesh.errors import LocalAIError
from localai.node.dispatch import Dispatch, OnRoute, ignore_route
from localai.node.inference import Failed, error_from_failed, failed_from_error
from localai.node.output_parser import AnswerEvent, AnswerFinished

_LOG = structlog.get_logger()

SILENCE_S = 15.0
"""Longest time without a byte of a stream."""
WRITE_TIMEOUT_S = 30.0
"""A client that takes no byte for so long has stopped reading."""
_NEVER_BLOCKS = 16_384
"""Bytes that an empty send buffer takes at once: below asyncio's high-water mark of 64 KiB."""
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def answer_events(
    dispatch: Dispatch, exchange: Exchange, on_route: OnRoute = ignore_route
) -> AsyncGenerator[list[AnswerEvent], None]:
    """The exchange's answer, all that is ready at a time, ending with exactly one terminal event."""
    for request in exchange.requests:
        async with aclosing(dispatch.answer_batches(request, on_route)) as batches:
            async for batch in batches:
                if answers := join_deltas(exchange.feed(batch)):
                    yield answers
        if not exchange.closed and (answers := exchange.next_request()):
            yield answers
        if exchange.closed:
            return


async def whole_answer(
    dispatch: Dispatch, exchange: Exchange, renderer: Renderer, on_route: OnRoute = ignore_route
) -> msgspec.Struct:
    """The body of a non-streamed answer: the same events, folded.

    Raises:
        LocalAIError: the answer failed.
    """
    answers: list[AnswerEvent] = []
    async with aclosing(answer_events(dispatch, exchange, on_route)) as batches:
        async for batch in batches:
            answers += batch
    return renderer.whole(answers)


async def stream_answer(
    http: web.Request, dispatch: Dispatch, exchange: Exchange, renderer: Renderer, form: StreamForm = SSE
) -> web.StreamResponse:
    """Send the answer as a stream of events.

    Raises:
        LocalAIError: it failed before anything was sent.
    """
    return await stream_batches(http, answer_events(dispatch, exchange, keep_route(http)), renderer, form)


async def stream_batches(
    http: web.Request, batches: AsyncGenerator[list[E], None], renderer: StreamRenderer[E], form: StreamForm = SSE
) -> web.StreamResponse:
    """Send what an answer is made of, with exactly one terminal event at the end, as a stream of events.

    Raises:
        LocalAIError: it failed before anything was sent.
    """
    stream = EventStream(http, form)
    stream.keep_alive()
    try:
        await _pump(stream, http, batches, renderer)
        await stream.end()
    except ConnectionError:
        pass  # the client left; closing the batches has told the worker
    except TimeoutError:
        _LOG.warning("client_stopped_reading", timeout_s=WRITE_TIMEOUT_S)
        if http.transport is not None:
            http.transport.abort()
    finally:
        stream.close()
    return stream.response


async def _pump(
    stream: EventStream, http: web.Request, answers: AsyncGenerator[list[E], None], renderer: StreamRenderer[E]
) -> None:
    complete = False
    opaque = http.app[SETTINGS].protection.opaque_errors
    try:
        async with aclosing(answers) as batches:
            async for batch in batches:
                if data := _render(batch, renderer, stream.form, begun=stream.begun, opaque=opaque):
                    await stream.write(data)
                    complete = isinstance(batch[-1], AnswerFinished | Failed)
    except (ConnectionError, TimeoutError):
        raise
    except LocalAIError as error:
        if not stream.begun:
            raise
        if not complete:
            await _write_failure(stream, renderer, error, opaque=opaque)
    except Exception as exception:  # a second status cannot be sent: it must become the stream's last event
        if not stream.begun:
            raise
        _LOG.exception("stream_crashed", kind=type(exception).__name__)
        if not complete:
            await _write_failure(stream, renderer, LocalAIError(CRASHED), opaque=opaque)


async def _write_failure(
    stream: EventStream, renderer: StreamRenderer[E], error: LocalAIError, *, opaque: bool
) -> None:
    failed: list[E | Failed] = [failed_from_error(error)]
    await stream.write(_render(failed, renderer, stream.form, begun=True, opaque=opaque))


def _render(
    batch: Sequence[E | Failed], renderer: StreamRenderer[E], form: StreamForm, *, begun: bool, opaque: bool
) -> bytes:
    data = b""
    for answer in batch:
        if isinstance(answer, Failed):
            error = error_from_failed(answer)
            if not begun and not data:
                raise error
            if opaque:
                answer = failed_from_error(hide_error(error))
        data += b"".join(form.encode(event) for event in renderer.stream(answer))
    return data


class EventStream:
    """A response of events that begins with its first bytes and is never silent for long after them, nor before them
    with :meth:`keep_alive`.
    """

    def __init__(self, http: web.Request, form: StreamForm = SSE) -> None:
        self.form = form
        self.response = web.StreamResponse(headers={"Content-Type": form.content_type, **_HEADERS})
        self._http = http
        self._loop = asyncio.get_running_loop()
        self._last_write = self._loop.time()
        self._opening = asyncio.Lock()
        self._is_open = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """True once the status has been sent, or is being sent."""
        return self.response.prepared

    def keep_alive(self) -> None:
        """From now on send something after each long silence, the status first if nothing has been sent."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_alive())

    async def write(self, data: bytes) -> None:
        """Send bytes, after the headers if they are the first.

        Raises:
            ConnectionError: the client has left.
            TimeoutError: the client takes nothing.
        """
        self._last_write = self._loop.time()
        transport = self._http.transport
        if self._is_open and transport and not transport.get_write_buffer_size() and len(data) <= _NEVER_BLOCKS:
            await self.response.write(data)  # the usual case, where a timer would cost as much as all the rest
            return
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self._open()
            self.keep_alive()
            await self.response.write(data)

    async def _open(self) -> None:
        async with self._opening:  # the keeper and the answer may come at the same time
            if not self._is_open:
                await self.response.prepare(self._http)
                self._is_open = True

    async def end(self) -> None:
        """Send the end of the body; no comment may come after it."""
        self.close()
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self.response.write_eof()

    def close(self) -> None:
        """Stop keeping the connection alive."""
        if self._keeper is not None:
            self._keeper.cancel()

    async def _keep_alive(self) -> None:
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(max(0.0, self._last_write + SILENCE_S - self._loop.time()))
                if self._loop.time() - self._last_write >= SILENCE_S:
                    self._last_write = self._loop.time()
                    await self._open()
                    await self.response.write(self.form.keep_alive)
