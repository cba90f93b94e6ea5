"""``GET`` the description of the API (shell)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from aiohttp import web

from localai.api.openapi import openapi_document
from localai.api.operations import DescribedRoute, Operation
from localai.api.responses import json_response
from localai.api.routes.pages import render_page
from localai.api.routes.paths import add_route, described_routes
from localai.api.state import VERSION

_JSON = Operation(answer=dict[str, Any])
_PAGE = Operation(content="text/html")


class _Description:
    """Made when somebody asks, and kept: the routes of a running node do not change."""

    def __init__(self, app: web.Application) -> None:
        self._app = app

    @cached_property
    def routes(self) -> list[DescribedRoute]:
        return described_routes(self._app.router)

    @cached_property
    def document(self) -> dict[str, Any]:
        return openapi_document(self.routes, self._app[VERSION])


_DESCRIPTION = web.AppKey("description", _Description)


def add_to(app: web.Application) -> None:
    """Register the paths of this file, and what they need."""
    app[_DESCRIPTION] = _Description(app)
    add_route(app.router, "GET", "/swagger/doc.json", document, _JSON)
    for path in ("/swagger", "/swagger/index.html"):
        add_route(app.router, "GET", path, page, _PAGE)


async def document(http: web.Request) -> web.Response:
    """Every path as an OpenAPI document."""
    return json_response(http.app[_DESCRIPTION].document)


async def page(http: web.Request) -> web.Response:
    """Every path as a page."""
    groups: dict[str, list[DescribedRoute]] = {}
    for route in http.app[_DESCRIPTION].routes:
        groups.setdefault(route.group, []).append(route)
    return render_page("api.html", groups=sorted(groups.items()), version=http.app[VERSION])
