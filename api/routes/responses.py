"""OpenAI's Responses API: making responses, and coming back for them (shell)."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial

import structlog
from aiohttp import web

from localai.api.auth import presented_key
from localai.api.bodies import decode_body
from localai.api.dialects.exchange import Exchange
from localai.api.dialects.responses import ResponseBuilder, ResponsesRenderer, render_event, stream_error
from localai.api.dialects.responses_input import (
    Fetched,
    identified,
    input_urls,
    read_items,
    referenced_ids,
    resolve_references,
)
from localai.api.dialects.responses_pages import page_of, read_starting_after
from localai.api.dialects.responses_record import StoredResponse, ended
from localai.api.dialects.responses_request import (
    check_stored_options,
    parse_responses,
    response_head,
    wanted_mcp_servers,
)
from localai.api.errors import hide_error
from localai.api.operations import ANSWERING, Operation, Query
from localai.api.responses import json_response
from localai.api.responses_background import BackgroundResponse, BackgroundResponses
from localai.api.responses_store import ResponseStore
from localai.api.route_headers import is_local_only
from localai.api.routes.answering import answer_exchange, missing_model_begun, model_for
from localai.api.routes.mcp_answering import answer_with_mcp, mcp_sessions
from localai.api.routes.media import fetch_urls
from localai.api.routes.paths import add_route
from localai.api.schemas.responses_objects import InputItemList, Response, ResponseDeleted
from localai.api.schemas.responses_requests import InputItem, ResponsesBody
from localai.api.sse import DONE, KEEP_ALIVE, SSE, SseEvent, encode_event
from localai.api.state import DATABASE, DISPATCH, SETTINGS
from localai.api.streaming import WRITE_TIMEOUT_S, EventStream
from localai.mesh.errors import InvalidRequest, LocalAIError, NotFound, Unavailable
from localai.node.dispatch import Dispatch, Phase
from localai.node.features import needed_features
from localai.node.inference import GenerateRequest
from localai.node.mcp.answering import chosen_servers

_LOG = structlog.get_logger()

PATHS = ("/v1/responses", "/responses")
STORE = web.AppKey("responses_store", ResponseStore)
BACKGROUND = web.AppKey("responses_background", BackgroundResponses)
_YES = ("true", "1")
_STREAM = SSE.content_type
_AFTER = Query("starting_after", "Number of the last event that is known.", "integer")
_CREATE = Operation(body=ResponsesBody, answer=Response, errors=(*ANSWERING, 409), stream=_STREAM)
_RETRIEVE = Operation(
    answer=Response,
    errors=(404, 409, 500),
    query=(Query("stream", "true sends the events instead.", "boolean"), _AFTER),
    stream=_STREAM,
)
_FOLLOW = Operation(content=_STREAM, errors=(404, 409, 500), query=(_AFTER,))
_LIST_INPUT = Operation(
    answer=InputItemList,
    errors=(404,),
    query=(
        Query("limit", "At most so many.", "integer"),
        Query("order", "asc or desc."),
        Query("after", "Id of the item before the first one."),
    ),
)
_CHANGE = Operation(answer=Response, errors=(404, 409))
_DELETE = Operation(answer=ResponseDeleted, errors=(404, 409))


def add_to(app: web.Application) -> None:
    """Register the paths of this file, and keep responses while the application runs."""
    app.cleanup_ctx.append(_keep_responses)
    for path in PATHS:
        add_route(app.router, "POST", path, create, _CREATE)
        add_route(app.router, "GET", path, refuse_without_id, Operation())
        add_route(app.router, "GET", f"{path}/{{id}}", retrieve, _RETRIEVE)
        add_route(app.router, "GET", f"{path}/{{id}}/events", follow, _FOLLOW)
        add_route(app.router, "GET", f"{path}/{{id}}/input_items", list_input, _LIST_INPUT)
        add_route(app.router, "POST", f"{path}/{{id}}/cancel", cancel, _CHANGE)
        add_route(app.router, "DELETE", f"{path}/{{id}}", delete, _DELETE)


async def _keep_responses(app: web.Application) -> AsyncIterator[None]:
    app[STORE] = store = ResponseStore(app[DATABASE])
    opaque = app[SETTINGS].protection.opaque_errors
    sessions = partial(mcp_sessions, app)
    app[BACKGROUND] = background = BackgroundResponses(app[DISPATCH], store, sessions, opaque=opaque)
    yield
    await background.aclose()


async def create(http: web.Request) -> web.StreamResponse:
    """Make a response, now or in the background."""
    body = decode_body(await http.read(), ResponsesBody)
    check_stored_options(body)
    history, items = await _conversation(http, body)
    model = model_for(http, body.model, "chat")
    config = http.app[DISPATCH].definition(model)
    response_id = f"resp_{uuid.uuid4().hex}"

    def parse(fetched: Fetched) -> GenerateRequest:
        request = parse_responses(body, items, response_id, model, config.defaults, history, fetched)
        return _routed(http, request)

    urls = input_urls([*history, *items], len(history))
    request = parse(dict.fromkeys(urls, b""))
    if urls:
        request = parse(await fetch_urls(http, urls, model, needed_features(request)))
    servers = wanted_mcp_servers(body, automatic=bool(config.mcp_servers) and http.app[SETTINGS].mcp)
    record = _record(http, body, request, items, servers)
    if body.background:
        return await _begin(http, record, request)
    store = http.app[STORE]

    def keep(response: Response) -> None:
        if response.store:
            store.put(ended(record, response))

    builder = ResponseBuilder(record.response, time.time, config.answer, watched=bool(body.stream))
    renderer = ResponsesRenderer(builder, keep)
    if servers is None:
        answer = await answer_exchange(http, Exchange((request,)), renderer, stream=bool(body.stream))
    else:
        answer = await answer_with_mcp(http, request, servers, renderer, stream=bool(body.stream))
    await store.flush()
    return answer


async def refuse_without_id(http: web.Request) -> web.Response:
    """Responses cannot be listed."""
    raise InvalidRequest("response ID is required", param="id")


async def retrieve(http: web.Request) -> web.StreamResponse:
    """A response as it is now, or its events."""
    if http.query.get("stream", "").lower() in _YES:
        return await follow(http)
    return json_response((await _find(http)).response)


async def follow(http: web.Request) -> web.StreamResponse:
    """The events of a response that was begun in the background with ``stream``: stored ones, then live ones."""
    after = read_starting_after(http.query.get("starting_after"))
    found = await _find(http)
    record = found.record if isinstance(found, BackgroundResponse) else found
    if not record.streamed:
        message = "cannot stream a response that was not created with stream=true"
        raise InvalidRequest(message, param="stream")
    if isinstance(found, BackgroundResponse):
        return await _send(http, found, after)
    log = await http.app[STORE].events(record.response.id)
    if log is None:
        raise _missing(http)
    events = log.after(after)

    async def stored() -> AsyncIterator[list[SseEvent]]:
        yield events

    return await _send_events(http, stored())


async def list_input(http: web.Request) -> web.Response:
    """What a response was asked with."""
    found = await _find(http)
    record = found.record if isinstance(found, BackgroundResponse) else found
    return json_response(page_of(record.input, http.query))


async def cancel(http: web.Request) -> web.Response:
    """End a response that is made in the background; get what it is now."""
    return json_response(await _cancelled(http))


async def delete(http: web.Request) -> web.Response:
    """Forget a response; one that is being made ends."""
    found = await _cancelled(http)
    http.app[STORE].forget(found.id)
    await http.app[STORE].flush()
    return json_response(ResponseDeleted(found.id))


def owner_of(http: web.Request) -> str:
    """Whose responses a request may see: the digest of its key; the same for everybody on a node without keys."""
    if not http.app[SETTINGS].api_keys:
        return ""
    key = presented_key(http.headers, http.cookies)
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


async def _conversation(http: web.Request, body: ResponsesBody) -> tuple[list[InputItem], list[InputItem]]:
    """The items of the chain before the request, and its own."""
    store, owner = http.app[STORE], owner_of(http)
    items = read_items(body.input)
    history = await store.chain(body.previous_response_id, owner) if body.previous_response_id else []
    known = await store.items(referenced_ids(items), owner)
    return history, resolve_references(items, known)


def _record(
    http: web.Request,
    body: ResponsesBody,
    request: GenerateRequest,
    items: list[InputItem],
    servers: tuple[str, ...] | None,
) -> StoredResponse:
    head = response_head(body, request, int(time.time()), with_servers=servers is not None)
    ttl_s = http.app[SETTINGS].responses_ttl_s
    return StoredResponse(
        response=head,
        owner=owner_of(http),
        expires_at=int(head.created_at + ttl_s) if ttl_s else 0,
        input=identified(items, head.id),
        streamed=bool(body.background and body.stream),
        mcp_servers=servers,
    )


async def _begin(http: web.Request, record: StoredResponse, request: GenerateRequest) -> web.StreamResponse:
    with missing_model_begun(http, request.model):
        _check_known(http.app[DISPATCH], request.model)
        needed = needed_features(request)
        http.app[DISPATCH].check_answerable(request.model, needed, local_only=request.local_only)
    if record.mcp_servers is not None:
        mcp_sessions(http.app)
        chosen_servers(http.app[DISPATCH].definition(request.model), record.mcp_servers)
    made = await http.app[BACKGROUND].begin(record, request)
    return await _send(http, made, None) if record.streamed else json_response(record.response)


def _routed(http: web.Request, request: GenerateRequest) -> GenerateRequest:
    """The request, which stays on this node if its headers say so."""
    exchange = Exchange((request,))
    exchange.keep_here(is_local_only(http.headers))
    return exchange.requests[0]


def _check_known(dispatch: Dispatch, model: str) -> None:
    if dispatch.phase is not Phase.READY:
        raise Unavailable("This node is still installing its models. Try again soon.", retry_after_s=5.0)
    if dispatch.find_model(model) is None:
        dispatch.catalog.resolve(model)


async def _find(http: web.Request) -> BackgroundResponse | StoredResponse:
    response_id, owner = http.match_info["id"], owner_of(http)
    found = http.app[BACKGROUND].find(response_id, owner) or await http.app[STORE].find(response_id, owner)
    if found is None:
        raise _missing(http)
    return found


async def _cancelled(http: web.Request) -> Response:
    """The response, which is not made any more."""
    found = await http.app[BACKGROUND].cancel(http.match_info["id"], owner_of(http))
    if found is None:
        raise _missing(http)
    return found


def _missing(http: web.Request) -> NotFound:
    return NotFound(f"response not found: {http.match_info['id'][:100]}", param="id")


async def _send(http: web.Request, made: BackgroundResponse, after: int | None) -> web.StreamResponse:
    made.log.after(after)  # what is forgotten gets a status

    async def live() -> AsyncIterator[list[SseEvent]]:
        try:
            async for events in made.follow(after):
                yield events
        except LocalAIError as error:
            shown = hide_error(error) if http.app[SETTINGS].protection.opaque_errors else error
            yield [render_event(stream_error(shown, made.log.last + 1))]

    return await _send_events(http, live())


async def _send_events(http: web.Request, batches: AsyncIterator[list[SseEvent]]) -> web.StreamResponse:
    stream = EventStream(http)
    try:
        await stream.write(KEEP_ALIVE)  # the headers, though the next event may be far away
        async for events in batches:
            await stream.write(b"".join(map(encode_event, events)))
        await stream.write(encode_event(DONE))
        await stream.end()
    except ConnectionError:
        pass  # the client left; the response goes on
    except TimeoutError:
        _LOG.warning("client_stopped_reading", timeout_s=WRITE_TIMEOUT_S)
        if http.transport is not None:
            http.transport.abort()
    finally:
        stream.close()
    return stream.response
