"""``POST`` embeddings (shell)."""

from __future__ import annotations

import time
import uuid

from aiohttp import web

from localai.api.bodies import decode_body
from localai.api.dialects.chat_messages import media_urls
from localai.api.dialects.embeddings import parse_embedding, render_embeddings
from localai.api.operations import ANSWERING, Operation
from localai.api.responses import json_response
from localai.api.route_headers import is_local_only
from localai.api.routes.answering import answer_task, model_for
from localai.api.routes.media import fetch_urls
from localai.api.routes.paths import add_route
from localai.api.schemas.openai_requests import EmbeddingBody
from localai.api.schemas.openai_responses import EmbeddingList
from localai.node.features import Feature
from localai.node.inference import RequestId

PATHS = ("/v1/embeddings", "/embeddings", "/v1/engines/{model}/embeddings")
_EMBED = Operation(body=EmbeddingBody, answer=EmbeddingList, errors=ANSWERING)
_NEEDED = frozenset({Feature.EMBED})


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    for path in PATHS:
        add_route(router, "POST", path, embed, _EMBED)


async def embed(http: web.Request) -> web.Response:
    """Turn each input into a vector."""
    body = decode_body(await http.read(), EmbeddingBody)
    model = model_for(http, body.model, "embeddings")
    urls = media_urls(body.messages or ())
    fetched = await fetch_urls(http, urls, model, _NEEDED) if urls else {}
    request_id = RequestId(f"embd-{uuid.uuid4().hex}")
    request = parse_embedding(body, request_id, model, fetched, local_only=is_local_only(http.headers))
    created = int(time.time())
    return json_response(render_embeddings(await answer_task(http, request), request, created, body.encoding_format))
