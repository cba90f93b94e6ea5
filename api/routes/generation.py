"""``POST`` chat and text completions and edits (shell)."""

from __future__ import annotations

import time
import uuid

from aiohttp import web

from localai.api.bodies import decode_body
from localai.api.dialects.answer import AnswerHead
from localai.api.dialects.chat import ChatRenderer, chat_form, parse_chat
from localai.api.dialects.chat_messages import media_urls
from localai.api.dialects.completions import CompletionRenderer, completion_form, echoed_texts, parse_completion
from localai.api.dialects.edits import edit_form, parse_edit
from localai.api.dialects.exchange import Exchange
from localai.api.dialects.mcp_chat import McpChatRenderer, wanted_servers
from localai.api.operations import ANSWERING, Operation
from localai.api.routes.answering import answer_exchange, model_for
from localai.api.routes.mcp_answering import answer_with_mcp
from localai.api.routes.media import fetch_urls
from localai.api.routes.paths import add_route
from localai.api.schemas.openai_requests import ChatBody, CompletionBody, EditBody, GenerationBody
from localai.api.schemas.openai_responses import ChatResponse, TextResponse
from localai.api.sse import SSE
from localai.api.state import DISPATCH
from localai.node.inference import RequestId

CHAT_PATHS = ("/v1/chat/completions", "/chat/completions", "/v1/engines/{model}/chat/completions")
COMPLETION_PATHS = ("/v1/completions", "/completions", "/v1/engines/{model}/completions")
EDIT_PATHS = ("/v1/edits", "/edits", "/v1/engines/{model}/edits")
_STREAM = SSE.content_type
CHAT_OPERATION = Operation(body=ChatBody, answer=ChatResponse, errors=ANSWERING, stream=_STREAM)
_COMPLETE = Operation(body=CompletionBody, answer=TextResponse, errors=ANSWERING, stream=_STREAM)
_EDIT = Operation(body=EditBody, answer=TextResponse, errors=ANSWERING, stream=_STREAM)
TIMINGS_HEADER = "Extra-Usage"
"""With any value: the tokens spent come with the time they took, as in LocalAI."""


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    for path in CHAT_PATHS:
        add_route(router, "POST", path, chat, CHAT_OPERATION)
    for path in COMPLETION_PATHS:
        add_route(router, "POST", path, complete, _COMPLETE)
    for path in EDIT_PATHS:
        add_route(router, "POST", path, edit, _EDIT)


async def chat(http: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    body = decode_body(await http.read(), ChatBody)
    model = model_for(http, body.model, "chat")
    config = http.app[DISPATCH].definition(model)
    answer_id = f"chatcmpl-{uuid.uuid4().hex}"
    urls = media_urls(body.messages)
    fetched = await fetch_urls(http, urls, model) if urls else {}
    exchange = Exchange((parse_chat(body, RequestId(answer_id), model, config.defaults, fetched),))
    head = _head(http, body, exchange, exchange.requests[0].choices)
    renderer = ChatRenderer(head, config.answer, chat_form(body))
    if (servers := wanted_servers(http.path, body.metadata)) is not None:
        mcp_renderer = McpChatRenderer(head, renderer)
        return await answer_with_mcp(http, exchange.requests[0], servers, mcp_renderer, stream=bool(body.stream))
    return await answer_exchange(http, exchange, renderer, stream=bool(body.stream))


async def complete(http: web.Request) -> web.StreamResponse:
    """Continue one or more texts."""
    body = decode_body(await http.read(), CompletionBody)
    model = model_for(http, body.model, "completion")
    config = http.app[DISPATCH].definition(model)
    answer_id = f"cmpl-{uuid.uuid4().hex}"
    exchange = Exchange(parse_completion(body, RequestId(answer_id), model, config.defaults))
    form = completion_form(body, config.defaults)
    head = _head(http, body, exchange, form.shown)
    echoed = echoed_texts(body, exchange.requests, config.defaults)
    return await answer_exchange(
        http, exchange, CompletionRenderer(head, echoed, config.answer, form), stream=bool(body.stream)
    )


async def edit(http: web.Request) -> web.StreamResponse:
    """Change one or more texts."""
    body = decode_body(await http.read(), EditBody)
    model = model_for(http, body.model, "edit")
    config = http.app[DISPATCH].definition(model)
    exchange = Exchange(parse_edit(body, RequestId(f"edit-{uuid.uuid4().hex}"), model, config.defaults))
    form = edit_form(exchange.requests)
    head = _head(http, body, exchange, form.shown)
    renderer = CompletionRenderer(head, ("",) * head.choices, config.answer, form)
    return await answer_exchange(http, exchange, renderer, stream=bool(body.stream))


def _head(http: web.Request, body: GenerationBody, exchange: Exchange, shown: int) -> AnswerHead:
    """``shown`` is the number of choices of one request."""
    first = exchange.requests[0]
    return AnswerHead(
        id=first.id,
        created=int(time.time()),
        model=first.model,
        choices=shown * len(exchange.requests),
        include_usage=body.stream_options is not None and bool(body.stream_options.include_usage),
        with_timings=bool(http.headers.get(TIMINGS_HEADER)),
    )
