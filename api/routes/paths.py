"""Registering a path with and without a final slash: LocalAI answers both, without a redirect (shell)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web


def add_route(
    router: web.UrlDispatcher, method: str, path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> None:
    """Answer ``method`` on ``path`` and on ``path/``; GET answers HEAD too. ``{model}`` is an id, slashes included."""
    path = path.replace("{model}", "{model:.+}")
    for variant in (path, f"{path}/"):
        if method == "GET":
            router.add_get(variant, handler)
        else:
            router.add_route(method, variant, handler)
