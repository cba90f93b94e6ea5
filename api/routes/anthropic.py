"""``POST`` Anthropic's messages and their token counts (shell).

``anthropic-version`` may be anything or missing: there is one version of these answers.
"""

from __future__ import annotations

import uuid

from aiohttp import web

from localai.api.bodies import decode_body
from localai.api.dialects.anthropic import message_form, parse_count, parse_messages, render_count
from localai.api.dialects.anthropic_answer import STREAM, MessageRenderer
from localai.api.dialects.anthropic_content import image_urls
from localai.api.dialects.exchange import Exchange
from localai.api.error_shapes import shape_of
from localai.api.middleware import REQUEST_ID
from localai.api.operations import ANSWERING, Operation
from localai.api.responses import json_response
from localai.api.route_headers import is_local_only
from localai.api.routes.answering import answer_exchange, answer_task, model_for
from localai.api.routes.media import fetch_urls
from localai.api.routes.paths import add_route
from localai.api.schemas.anthropic_requests import MessagesBody, PromptBody
from localai.api.schemas.anthropic_responses import MessageOut, TokenCount
from localai.api.state import DISPATCH
from localai.node.inference import RequestId

MESSAGE_PATHS = ("/v1/messages", "/messages")
COUNT_PATHS = ("/v1/messages/count_tokens", "/messages/count_tokens")
_CREATE = Operation(body=MessagesBody, answer=MessageOut, errors=ANSWERING, stream=STREAM.content_type)
_COUNT = Operation(body=PromptBody, answer=TokenCount, errors=ANSWERING)
_MAX_ID_CHARS = 128


def add_to(app: web.Application) -> None:
    """Register the paths of this file, and the headers that answers below them carry."""
    for path in MESSAGE_PATHS:
        add_route(app.router, "POST", path, create, _CREATE)
    for path in COUNT_PATHS:
        add_route(app.router, "POST", path, count_tokens, _COUNT)
    app.on_response_prepare.append(_name_request)


async def create(http: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    body = decode_body(await http.read(), MessagesBody)
    model = model_for(http, body.model, "chat")
    config = http.app[DISPATCH].definition(model)
    urls = image_urls(body.messages)
    fetched = await fetch_urls(http, urls, model) if urls else {}
    message_id = f"msg_{uuid.uuid4().hex}"
    request = parse_messages(body, RequestId(message_id), model, config.defaults, fetched)
    form = message_form(body, ",".join(http.headers.getall("anthropic-beta", [])))
    renderer = MessageRenderer(message_id, model, config.answer, form)
    return await answer_exchange(http, Exchange((request,)), renderer, stream=bool(body.stream), form=STREAM)


async def count_tokens(http: web.Request) -> web.Response:
    """About how many tokens a conversation has, before it is sent."""
    body = decode_body(await http.read(), PromptBody)
    model = model_for(http, body.model, "chat")
    request_id = RequestId(f"count-{uuid.uuid4().hex}")
    request = parse_count(body, request_id, model, local_only=is_local_only(http.headers))
    return json_response(render_count(await answer_task(http, request)))


async def _name_request(request: web.Request, response: web.StreamResponse) -> None:
    """The request's id as Anthropic's clients read it, and as LocalAI sends it."""
    request_id = request.get(REQUEST_ID)
    if request_id is None or shape_of(request.path) != "anthropic":
        return
    given = request.headers.get("x-request-id", "")
    is_usable = 0 < len(given) <= _MAX_ID_CHARS and given.isascii() and given.isprintable()
    response.headers["request-id"] = request_id
    response.headers["x-request-id"] = given if is_usable else request_id
