"""``POST`` a text, get its token ids, and back (shell)."""

from __future__ import annotations

import uuid

from aiohttp import web

from localai.api.bodies import decode_body
from localai.api.dialects.tokens import parse_detokenize, parse_tokenize, render_detokenize, render_tokenize
from localai.api.operations import ANSWERING, Operation
from localai.api.responses import json_response
from localai.api.route_headers import is_local_only
from localai.api.routes.answering import answer_task, model_for
from localai.api.routes.paths import add_route
from localai.api.schemas.tokens import DetokenizeBody, DetokenizeResponse, TokenizeBody, TokenizeResponse
from localai.node.inference import RequestId

TOKENIZE_PATHS = ("/v1/tokenize", "/tokenize")
DETOKENIZE_PATHS = ("/v1/detokenize", "/detokenize")
_TOKENIZE = Operation(body=TokenizeBody, answer=TokenizeResponse, errors=ANSWERING)
_DETOKENIZE = Operation(body=DetokenizeBody, answer=DetokenizeResponse, errors=ANSWERING)


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    for path in TOKENIZE_PATHS:
        add_route(router, "POST", path, tokenize, _TOKENIZE)
    for path in DETOKENIZE_PATHS:
        add_route(router, "POST", path, detokenize, _DETOKENIZE)


async def tokenize(http: web.Request) -> web.Response:
    """The ids of a text."""
    body = decode_body(await http.read(), TokenizeBody)
    model = model_for(http, body.model, "tokenize")
    request = parse_tokenize(body, _request_id(), model, local_only=is_local_only(http.headers))
    return json_response(render_tokenize(await answer_task(http, request)))


async def detokenize(http: web.Request) -> web.Response:
    """The text of ids."""
    body = decode_body(await http.read(), DetokenizeBody)
    model = model_for(http, body.model, "tokenize")
    request = parse_detokenize(body, _request_id(), model, local_only=is_local_only(http.headers))
    return json_response(render_detokenize(await answer_task(http, request)))


def _request_id() -> RequestId:
    return RequestId(f"tokens-{uuid.uuid4().hex}")
