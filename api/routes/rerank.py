"""``POST`` a query and documents, get the best of them (shell)."""

from __future__ import annotations

import uuid

from aiohttp import web

from localai.api.bodies import decode_body
from localai.api.dialects.rerank import parse_rerank, render_rerank
from localai.api.operations import ANSWERING, Operation
from localai.api.responses import json_response
from localai.api.route_headers import is_local_only
from localai.api.routes.answering import answer_task, model_for
from localai.api.routes.paths import add_route
from localai.api.schemas.rerank import RerankBody, RerankResponse
from localai.node.inference import RequestId

RERANK_PATHS = ("/v1/rerank", "/jina/v1/rerank", "/rerank")
_RERANK = Operation(body=RerankBody, answer=RerankResponse, errors=(*ANSWERING, 422))


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    for path in RERANK_PATHS:
        add_route(router, "POST", path, rerank, _RERANK)


async def rerank(http: web.Request) -> web.Response:
    """Sort documents by how well they answer a query."""
    body = decode_body(await http.read(), RerankBody)
    model = model_for(http, body.model, "rerank")
    request_id = RequestId(f"rerank-{uuid.uuid4().hex}")
    request = parse_rerank(body, request_id, model, local_only=is_local_only(http.headers))
    return json_response(render_rerank(body, request, await answer_task(http, request)))
