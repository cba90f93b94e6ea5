"""``GET`` the models (shell).

A request with ``anthropic-version`` comes from a client of Anthropic's API and is answered in that shape: all models
on one page, whatever it asks for. The description of the API has the shape of OpenAI only.
"""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from localai.api.dialects.model_filter import model_filter
from localai.api.operations import Operation, Query
from localai.api.responses import json_response
from localai.api.routes.paths import add_route
from localai.api.schemas.anthropic_responses import ModelInfo, ModelPage
from localai.api.schemas.openai_responses import ModelBody, ModelList
from localai.api.state import DISPATCH, STARTED
from localai.mesh.errors import InvalidRequest, NotFound

OWNER = "localai"
ANTHROPIC_HEADER = "anthropic-version"
_LIST = Operation(
    answer=ModelList,
    query=(
        Query("filter", "A regular expression that names must match."),
        Query("excludeConfigured", "false also lists the files of models that have a definition.", "boolean"),
    ),
)
_SHOW = Operation(answer=ModelBody, errors=(404,))
_YES = ("true", "1", "t", "yes")
_NO = ("false", "0", "f", "no")


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    for prefix in ("/v1/models", "/models"):
        add_route(router, "GET", prefix, list_models, _LIST)
        add_route(router, "GET", prefix + "/{model}", show_model, _SHOW)


async def list_models(http: web.Request) -> web.Response:
    """All models that can be asked for: those of this node, and those of the swarm.

    With ``excludeConfigured=false`` also the files of those that have a definition, which can be asked for too.
    """
    dispatch = http.app[DISPATCH]
    names = set(dispatch.model_names())
    if not _flag(http, "excludeConfigured", default=True):
        names |= {config.model_file for config in dispatch.catalog.models if config.source and config.model_file}
    if pattern := http.query.get("filter", ""):
        wanted = model_filter(pattern)
        names = {name for name in names if wanted.search(name)}
    found = sorted(names)
    if ANTHROPIC_HEADER in http.headers:
        ends = (found[0], found[-1]) if found else (None, None)
        return json_response(ModelPage([_info(http, name) for name in found], *ends))
    return json_response(ModelList([_body(http, name) for name in found]))


async def show_model(http: web.Request) -> web.Response:
    """One model."""
    name = http.match_info["model"].rstrip("/")
    found = http.app[DISPATCH].find_model(name)
    if found is None:
        message = f'model "{name[:100]}" not found. To see available models, call GET /v1/models'
        raise NotFound(message, code="model_not_found", param="model")
    return json_response(_info(http, found) if ANTHROPIC_HEADER in http.headers else _body(http, found))


def _flag(http: web.Request, name: str, *, default: bool) -> bool:
    value = http.query.get(name, "").lower()
    if value not in ("", *_YES, *_NO):
        raise InvalidRequest(f"'{name}' is neither true nor false. Send one of them.", param=name)
    return value in _YES if value else default


def _body(http: web.Request, name: str) -> ModelBody:
    return ModelBody(id=name, created=http.app[STARTED], owned_by=OWNER)


def _info(http: web.Request, name: str) -> ModelInfo:
    created = datetime.fromtimestamp(http.app[STARTED], UTC)
    return ModelInfo(name, name, created.isoformat(timespec="seconds").replace("+00:00", "Z"))
