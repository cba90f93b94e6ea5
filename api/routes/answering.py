"""From parsed requests to HTTP answers, for the routes of every dialect (shell)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from aiohttp import web

from localai.api.dialects.answer import Renderer
from localai.api.dialects.exchange import Exchange
from localai.api.middleware import DISPATCHED
from localai.api.responses import json_response
from localai.api.route_headers import is_local_only, keep_route
from localai.api.routes.model_jobs import begin_autoload
from localai.api.sse import SSE, StreamForm
from localai.api.state import ASKED_MODEL, DISPATCH
from localai.api.streaming import stream_answer, whole_answer
from localai.mesh.errors import InvalidRequest
from localai.node.inference import Event, Failed, Request, error_from_failed


def model_for(http: web.Request, named: str | None, usecase: str) -> str:
    """The model a request means: body, path, query; else the first one there is for this, else the first of all."""
    name = named or http.match_info.get("model", "") or http.query.get("model", "")
    if not name:
        dispatch = http.app[DISPATCH]
        default = dispatch.catalog.default(usecase)
        name = default.name if default is not None else dispatch.default_model()
    http[ASKED_MODEL] = name
    return name


async def answer_exchange(
    http: web.Request, exchange: Exchange, renderer: Renderer, *, stream: bool, form: StreamForm = SSE
) -> web.StreamResponse:
    """The answer of a generation, whole or as a stream.

    Raises:
        LocalAIError: it failed before anything was sent.
    """
    dispatch = http.app[DISPATCH]
    http[DISPATCHED] = True
    exchange.keep_here(is_local_only(http.headers))
    with missing_model_begun(http, exchange.requests[0].model):
        if stream:
            return await stream_answer(http, dispatch, exchange, renderer, form)
        return json_response(await whole_answer(dispatch, exchange, renderer, keep_route(http)))


async def answer_task(http: web.Request, request: Request) -> list[Event]:
    """All events of a task that generates nothing, ``Finished`` last. Say ``local_only`` with ``is_local_only``.

    Raises:
        LocalAIError: it failed.
    """
    http[DISPATCHED] = True
    events: list[Event] = []
    with missing_model_begun(http, request.model):
        async with aclosing(http.app[DISPATCH].answer_batches(request, keep_route(http))) as batches:
            async for batch in batches:
                events += batch
        if isinstance(last := events[-1], Failed):
            raise error_from_failed(last)
    return events


@contextmanager
def missing_model_begun(http: web.Request, model: str) -> Iterator[None]:
    """With ``--autoload-galleries``: begin to install the model that turns out to be missing inside the block.

    Raises:
        Unavailable: it is being installed.
    """
    try:
        yield
    except InvalidRequest as error:
        if error.code == "model_not_found" and (begun := begin_autoload(http.app, model)):
            raise begun from error
        raise
