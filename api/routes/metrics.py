"""``GET /metrics`` for Prometheus (shell)."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from localai.api.metrics import METRICS, PATH
from localai.api.operations import Operation
from localai.api.routes.paths import add_route


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    add_route(router, "GET", PATH, metrics, Operation(content="text/plain"))


async def metrics(http: web.Request) -> web.Response:
    """Numbers about requests, models and this process, for Prometheus."""
    return web.Response(body=http.app[METRICS].render(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
