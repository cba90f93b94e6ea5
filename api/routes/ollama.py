"""Ollama's API: chat, generate, embeddings, and what models there are (shell)."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
from aiohttp import web

from localai.api.bodies import decode_body
from localai.api.dialects.answer import AnswerHead
from localai.api.dialects.exchange import Exchange
from localai.api.dialects.ollama_answer import OllamaRenderer, first_embedding, render_embed
from localai.api.dialects.ollama_models import (
    LATEST,
    OLLAMA_VERSION,
    KnownModel,
    render_loaded,
    render_model,
    render_shown,
)
from localai.api.dialects.ollama_request import asks_to_load, asks_to_unload, parse_chat, parse_embed, parse_generate
from localai.api.operations import ANSWERING, Operation
from localai.api.responses import json_response
from localai.api.route_headers import is_local_only
from localai.api.routes.answering import answer_exchange, answer_task, missing_model_begun, model_for
from localai.api.routes.paths import add_route
from localai.api.schemas.ollama import (
    AnswerBody,
    ChatBody,
    EmbedBody,
    EmbeddingsResponse,
    EmbedResponse,
    GenerateBody,
    LoadedResponse,
    OllamaVersion,
    ShowBody,
    ShowResponse,
    TagsResponse,
)
from localai.api.sse import NDJSON, SseEvent
from localai.api.state import DISPATCH, SETTINGS, STARTED
from localai.mesh.errors import Conflict, InvalidRequest, NotFound
from localai.node.dispatch import Dispatch
from localai.node.inference import RequestId
from localai.node.model_files import ModelFiles
from localai.node.workers.lifecycle import State

_FILES = web.AppKey("model_files", ModelFiles)
_ERRORS = (*ANSWERING, 409)
_CHAT = Operation(body=ChatBody, answer=AnswerBody, errors=_ERRORS, stream=NDJSON.content_type)
_GENERATE = Operation(body=GenerateBody, answer=AnswerBody, errors=_ERRORS, stream=NDJSON.content_type)
_NEVER_S = 100 * 365 * 86400.0
"""How far away the end of a model is said to be that nothing unloads."""


def add_to(app: web.Application) -> None:
    """Register the paths of this file, and what they need."""
    app[_FILES] = ModelFiles(app[SETTINGS].models_path)
    for path, post, operation in (
        ("/api/chat", chat, _CHAT),
        ("/api/generate", generate, _GENERATE),
        ("/api/embed", embed, Operation(body=EmbedBody, answer=EmbedResponse, errors=ANSWERING)),
        ("/api/embeddings", embed_one, Operation(body=EmbedBody, answer=EmbeddingsResponse, errors=ANSWERING)),
        ("/api/show", show, Operation(body=ShowBody, answer=ShowResponse, errors=(404,))),
    ):
        add_route(app.router, "POST", path, post, operation)
    for path, get, answer in (
        ("/api/tags", list_models, TagsResponse),
        ("/api/ps", list_loaded, LoadedResponse),
        ("/api/version", version, OllamaVersion),
    ):
        add_route(app.router, "GET", path, get, Operation(answer=answer))


async def chat(http: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    body = decode_body(await http.read(), ChatBody)
    asked = _asked(http, body.model, "chat")
    config = http.app[DISPATCH].definition(asked.model)
    renderer = OllamaRenderer(_head(asked), config.answer, chat=True)
    if asks_to_load(body):
        return await _keep(http, asked, body, renderer)
    exchange = Exchange((parse_chat(body, asked.request_id, asked.model, config.defaults),))
    with _missing_as_ollama(asked):
        return await answer_exchange(http, exchange, renderer, stream=body.stream is not False, form=NDJSON)


async def generate(http: web.Request) -> web.StreamResponse:
    """Answer one prompt."""
    body = decode_body(await http.read(), GenerateBody)
    asked = _asked(http, body.model, "completion")
    config = http.app[DISPATCH].definition(asked.model)
    renderer = OllamaRenderer(_head(asked), config.answer, chat=False)
    if asks_to_load(body):
        return await _keep(http, asked, body, renderer)
    exchange = Exchange((parse_generate(body, asked.request_id, asked.model, config.defaults),))
    with _missing_as_ollama(asked):
        return await answer_exchange(http, exchange, renderer, stream=body.stream is not False, form=NDJSON)


async def embed(http: web.Request) -> web.Response:
    """Turn texts into vectors."""
    return json_response(await _embed(http))


async def embed_one(http: web.Request) -> web.Response:
    """Turn a text into a vector, in the older form."""
    response = await _embed(http)
    if len(response.embeddings) > 1:
        raise InvalidRequest("/api/embeddings takes one text. Send several to /api/embed.", param="input")
    return json_response(first_embedding(response))


async def show(http: web.Request) -> web.Response:
    """All about one model."""
    body = decode_body(await http.read(), ShowBody)
    if not (name := body.model or body.name):
        raise InvalidRequest("name is required: send the model in 'model'.", param="model")
    asked = _asked(http, name, "chat")
    if (found := http.app[DISPATCH].find_model(asked.model)) is None:
        raise _not_found(asked.shown)
    return json_response(render_shown(await _known(http, found)))


async def list_models(http: web.Request) -> web.Response:
    """All models that can be asked for."""
    names = http.app[DISPATCH].model_names()
    known = await asyncio.gather(*(_known(http, name) for name in names))
    return json_response(TagsResponse([render_model(model) for model in known]))


async def list_loaded(http: web.Request) -> web.Response:
    """The models of this machine that are in memory."""
    expires_s = time.time() + (http.app[DISPATCH].residency.idle_s or _NEVER_S)
    loaded = [
        (status.config.name, status.worker.facts.context_size if status.worker.facts else 0)
        for status in http.app[DISPATCH].models()
        if status.worker is not None and status.worker.state is State.READY
    ]
    models = [render_loaded(await _known(http, name), context_size, expires_s) for name, context_size in loaded]
    return json_response(LoadedResponse(models))


async def version(http: web.Request) -> web.Response:
    """The version of Ollama's API."""
    return json_response(OllamaVersion(OLLAMA_VERSION))


class _Asked(NamedTuple):
    """Which model is meant, and how the client calls it."""

    model: str
    shown: str
    request_id: RequestId


def _asked(http: web.Request, named: str | None, usecase: str) -> _Asked:
    model = model_for(http, named, usecase)
    request_id = RequestId(f"ollama-{uuid.uuid4().hex}")
    if http.app[DISPATCH].find_model(model) is None:
        return _Asked(model.removesuffix(LATEST), model, request_id)
    return _Asked(model, model, request_id)


def _head(asked: _Asked) -> AnswerHead:
    return AnswerHead(asked.request_id, int(time.time()), asked.shown, 1)


async def _keep(
    http: web.Request, asked: _Asked, body: ChatBody | GenerateBody, renderer: OllamaRenderer
) -> web.Response:
    """Load the model, if it is one of this machine, or unload it."""
    dispatch = http.app[DISPATCH]
    unload = asks_to_unload(body)
    with _missing_as_ollama(asked), missing_model_begun(http, asked.model):
        if dispatch.catalog.find(asked.model) is not None or dispatch.find_model(asked.model) is None:
            await (_unload(dispatch, asked.model) if unload else dispatch.load(asked.model))
    answer = renderer.done("unload" if unload else "load")
    if body.stream is False:
        return json_response(answer)
    line = NDJSON.encode(SseEvent(msgspec.json.encode(answer)))
    return web.Response(body=line, content_type=NDJSON.content_type)


async def _unload(dispatch: Dispatch, name: str) -> None:
    """Take a model out of memory unless somebody uses it, as Ollama does.

    Raises:
        Conflict: somebody does.
        LocalAIError: there is no such model here.
    """
    config = dispatch.catalog.resolve(name)
    worker = next(status.worker for status in dispatch.models() if status.config.name == config.name)
    if worker is None or worker.state is State.IDLE:
        return
    if worker.active or worker.waiting:
        raise Conflict(f"model '{config.name}' is answering somebody: try again later.", code="model_busy")
    await dispatch.unload(name)


async def _embed(http: web.Request) -> EmbedResponse:
    body = decode_body(await http.read(), EmbedBody)
    asked = _asked(http, body.model, "embeddings")
    request = parse_embed(body, asked.request_id, asked.model, local_only=is_local_only(http.headers))
    with _missing_as_ollama(asked):
        return render_embed(await answer_task(http, request), request, asked.shown)


async def _known(http: web.Request, name: str) -> KnownModel:
    """What there is to say of a model that is listed under ``name``."""
    dispatch, started = http.app[DISPATCH], http.app[STARTED]
    config = dispatch.catalog.find(name)
    if config is None:
        return KnownModel(name, None, modified_s=started, content=_content_of_peers(http, name))
    file = await http.app[_FILES].look_at(config)
    content = dispatch.content_of(config)
    if file is None:
        return KnownModel(name, config, modified_s=started, content=content)
    return KnownModel(name, config, file.size_bytes, file.modified_s, content, file.details)


def _content_of_peers(http: web.Request, name: str) -> bytes:
    peers = http.app[DISPATCH].peers
    records = [status.record for status in peers.statuses() if status.record is not None] if peers is not None else []
    return next((model.content for record in records for model in record.models if model.name == name), b"")


@contextmanager
def _missing_as_ollama(asked: _Asked) -> Iterator[None]:
    """Ollama's clients know a model that is missing by its status, and offer to fetch it.

    Raises:
        NotFound: the model is missing.
    """
    try:
        yield
    except InvalidRequest as error:
        if error.code == "model_not_found":
            raise _not_found(asked.shown) from error
        raise


def _not_found(name: str) -> NotFound:
    message = f"model '{name[:100]}' not found: GET /api/tags lists those that are here."
    return NotFound(message, code="model_not_found", param="model")
