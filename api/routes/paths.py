"""Registering a path with and without a final slash: LocalAI answers both, without a redirect (shell)."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

from aiohttp import web

from localai.api.operations import UNDECLARED, DescribedRoute, Operation

_DECLARED: WeakKeyDictionary[web.AbstractRoute, Operation] = WeakKeyDictionary()


def add_route(
    router: web.UrlDispatcher,
    method: str,
    path: str,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    operation: Operation | None = None,
) -> None:
    """Answer ``method`` on ``path`` and on ``path/``; GET answers HEAD too. ``{model}`` is an id, slashes included.

    ``operation`` is what the description of the API says of it.
    """
    path = path.replace("{model}", "{model:.+}")
    for variant in (path, f"{path}/"):
        route = router.add_get(variant, handler) if method == "GET" else router.add_route(method, variant, handler)
        if operation is not None:
            _DECLARED[route] = operation


def described_routes(router: web.UrlDispatcher) -> list[DescribedRoute]:
    """Every route of the application once, without HEAD, final slashes and folders of static files, sorted by path."""
    found: dict[tuple[str, str], DescribedRoute] = {}
    for route in router.routes():
        resource = route.resource
        if resource is None or isinstance(resource, web.StaticResource) or route.method == "HEAD":
            continue
        path = resource.canonical.rstrip("/") or "/"
        operation = _DECLARED.get(route, UNDECLARED)
        summary = operation.summary or _first_line(route.handler)
        group = route.handler.__module__.rpartition(".")[2]
        found.setdefault((path, route.method), DescribedRoute(route.method, path, group, summary, operation))
    return [found[key] for key in sorted(found)]


def _first_line(handler: object) -> str:
    return (inspect.getdoc(handler) or "").partition("\n")[0]
