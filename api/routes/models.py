"""``GET`` the models (shell)."""

from __future__ import annotations

from aiohttp import web

from localai.api.responses import json_response
from localai.api.routes.paths import add_route
from localai.api.schemas.openai_responses import ModelBody, ModelList
from localai.api.state import DISPATCH, STARTED
from localai.mesh.errors import NotFound

OWNER = "localai"


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    for prefix in ("/v1/models", "/models"):
        add_route(router, "GET", prefix, list_models)
        router.add_get(prefix + "/{model:.+}", show_model)


async def list_models(http: web.Request) -> web.Response:
    """All models that can be asked for: those of this node, and those of the swarm."""
    return json_response(ModelList([_body(http, name) for name in http.app[DISPATCH].model_names()]))


async def show_model(http: web.Request) -> web.Response:
    """One model."""
    name = http.match_info["model"].rstrip("/")
    found = http.app[DISPATCH].find_model(name)
    if found is None:
        message = f'model "{name[:100]}" not found. To see available models, call GET /v1/models'
        raise NotFound(message, code="model_not_found", param="model")
    return json_response(_body(http, found))


def _body(http: web.Request, name: str) -> ModelBody:
    return ModelBody(id=name, created=http.app[STARTED], owned_by=OWNER)
