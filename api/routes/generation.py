"""``POST`` chat and text completions (shell)."""

from __future__ import annotations

import time
import uuid

from aiohttp import web

from localai.api.bodies import decode_body
from localai.api.dialects.answer import AnswerHead, Renderer
from localai.api.dialects.chat import ChatRenderer, parse_chat
from localai.api.dialects.completions import CompletionRenderer, echoed_texts, parse_completion
from localai.api.dialects.exchange import Exchange
from localai.api.middleware import DISPATCHED
from localai.api.responses import json_response
from localai.api.route_headers import keep_route
from localai.api.routes.model_jobs import begin_autoload
from localai.api.routes.paths import add_route
from localai.api.schemas.openai_requests import ChatBody, CompletionBody, GenerationBody
from localai.api.state import DISPATCH
from localai.api.streaming import stream_answer, whole_answer
from localai.mesh.errors import InvalidRequest
from localai.node.inference import RequestId
from localai.node.model_config import ModelConfig

CHAT_PATHS = ("/v1/chat/completions", "/chat/completions", "/v1/engines/{model}/chat/completions")
COMPLETION_PATHS = ("/v1/completions", "/completions", "/v1/engines/{model}/completions")


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    for path in CHAT_PATHS:
        add_route(router, "POST", path, chat)
    for path in COMPLETION_PATHS:
        add_route(router, "POST", path, complete)


async def chat(http: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    body = decode_body(await http.read(), ChatBody)
    model = _model(http, body, "chat")
    config = _definition(http, model)
    answer_id = f"chatcmpl-{uuid.uuid4().hex}"
    exchange = Exchange((parse_chat(body, RequestId(answer_id), model, config.defaults),))
    return await _answer(http, body, exchange, ChatRenderer(_head(body, exchange, answer_id), config.answer))


async def complete(http: web.Request) -> web.StreamResponse:
    """Continue one or more texts."""
    body = decode_body(await http.read(), CompletionBody)
    model = _model(http, body, "completion")
    config = _definition(http, model)
    answer_id = f"cmpl-{uuid.uuid4().hex}"
    exchange = Exchange(parse_completion(body, RequestId(answer_id), model, config.defaults))
    head = _head(body, exchange, answer_id)
    echoed = echoed_texts(body, exchange.requests, config.defaults)
    return await _answer(http, body, exchange, CompletionRenderer(head, echoed, config.answer))


def _model(http: web.Request, body: GenerationBody, usecase: str) -> str:
    """The model a request names: body, path, query; else the first one there is for this, else the first of all."""
    if named := body.model or http.match_info.get("model", "") or http.query.get("model", ""):
        return named
    dispatch = http.app[DISPATCH]
    default = dispatch.catalog.default(usecase)
    return default.name if default is not None else dispatch.default_model()


def _definition(http: web.Request, model: str) -> ModelConfig:
    """This node's definition of a model; one that says nothing if only peers have the model: theirs stay with them."""
    return http.app[DISPATCH].catalog.find(model) or ModelConfig(model, model)


def _head(body: GenerationBody, exchange: Exchange, answer_id: str) -> AnswerHead:
    first = exchange.requests[0]
    include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    choices = first.choices * len(exchange.requests)
    return AnswerHead(answer_id, int(time.time()), first.model, choices, include_usage)


async def _answer(
    http: web.Request, body: GenerationBody, exchange: Exchange, renderer: Renderer
) -> web.StreamResponse:
    dispatch = http.app[DISPATCH]
    http[DISPATCHED] = True
    try:
        if body.stream:
            return await stream_answer(http, dispatch, exchange, renderer)
        return json_response(await whole_answer(dispatch, exchange, renderer, keep_route(http)))
    except InvalidRequest as error:
        if error.code == "model_not_found" and (begun := begin_autoload(http.app, exchange.requests[0].model)):
            raise begun from error
        raise
