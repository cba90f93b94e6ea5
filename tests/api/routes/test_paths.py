from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web

from localai.api.operations import UNDECLARED, DescribedRoute, Operation
from localai.api.routes.paths import add_route, described_routes


async def test_a_model_in_a_path_may_have_slashes(serve: Any) -> None:
    async with serve() as server:
        for path in ("/v1/engines/org/other/completions", "/v1/engines/org/other/completions/"):
            status, body = await server.post(path, {"prompt": "abc"})
            assert (status, body["model"]) == (200, "org/other")
        status, body = await server.post(
            "/v1/engines/org/other/chat/completions", {"messages": [{"role": "user", "content": "hello"}]}
        )
        assert (status, body["object"]) == (200, "chat.completion")


async def test_a_final_slash_and_head_are_answered_without_a_redirect(serve: Any) -> None:
    async with serve() as server:
        for path in ("/version", "/version/"):
            async with server.http.get(server.url + path, allow_redirects=False) as response:
                assert response.status == 200
        async with server.http.head(server.url + "/version") as response:
            assert (response.status, await response.read()) == (200, b"")


async def test_each_route_is_described_once_by_what_it_declares() -> None:
    async def handler(http: web.Request) -> web.Response:
        """Do it.

        Slowly.
        """
        return web.Response()

    async def bare(http: web.Request) -> web.Response:
        return web.Response()

    router = web.UrlDispatcher()
    declared = Operation(summary="Look.", empty=True)
    add_route(router, "GET", "/b/{model}", handler, declared)
    add_route(router, "POST", "/b/{model}", handler, Operation())
    add_route(router, "GET", "/a", bare)
    router.add_static("/static", Path(__file__).parent)
    assert described_routes(router) == [
        DescribedRoute("GET", "/a", "test_paths", "", UNDECLARED),
        DescribedRoute("GET", "/b/{model}", "test_paths", "Look.", declared),
        DescribedRoute("POST", "/b/{model}", "test_paths", "Do it.", Operation()),
    ]
