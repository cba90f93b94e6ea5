from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from localai.api.operations import UNDECLARED
from localai.api.routes.paths import described_routes
from localai.mesh.secrets import Secret

GENERALLY_DESCRIBED: frozenset[str] = frozenset()
"""Routes that declare nothing. This list only shrinks: hand an ``Operation`` to ``add_route``."""


async def test_the_document_has_every_route(serve: Any) -> None:
    async with serve() as server:
        status, document = await server.get("/swagger/doc.json")
        assert status == 200
        described = {(method, path) for path, methods in document["paths"].items() for method in methods}
        registered = {
            (route.method.lower(), route.resource.canonical.rstrip("/") or "/")
            for route in server.app.router.routes()
            if route.method != "HEAD" and not isinstance(route.resource, web.StaticResource)
        }
        assert described == registered


async def test_every_route_declares_what_it_takes_and_answers(serve: Any) -> None:
    async with serve() as server:
        routes = described_routes(server.app.router)
    undeclared = {f"{route.method} {route.path}" for route in routes if route.operation is UNDECLARED}
    assert undeclared == GENERALLY_DESCRIBED
    assert [f"{route.method} {route.path}" for route in routes if not route.summary] == []


async def test_names_of_operations_are_unique_and_all_references_lead_somewhere(serve: Any) -> None:
    async with serve() as server:
        async with server.http.get(server.url + "/swagger/doc.json") as response:
            text = await response.text()
        _, document = await server.get("/swagger/doc.json")
    names = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(names) == len(set(names))
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert references
    assert references <= document["components"]["schemas"].keys()


async def test_the_page_shows_every_path_and_needs_nothing_from_elsewhere(serve: Any) -> None:
    async with serve() as server:
        routes = described_routes(server.app.router)
        for path in ("/swagger", "/swagger/", "/swagger/index.html"):
            async with server.http.get(server.url + path) as response:
                text = await response.text()
                assert (response.status, response.content_type) == (200, "text/html")
        assert all(f"<code>{route.path}</code>" in text for route in routes)
        linked = set(re.findall(r'(?:href|src)="([^"]*)"', text))
        assert all(link.startswith("/") and not link.startswith("//") for link in linked)
        assert "<script" not in text
        assert "style=" not in text
        for link in linked:
            async with server.http.get(server.url + link) as response:
                assert response.status == 200


async def test_the_description_can_be_read_without_a_key(serve: Any) -> None:
    async with serve(api_keys=(Secret("key"),)) as server:
        for path in ("/swagger", "/swagger/index.html", "/swagger/doc.json"):
            async with server.http.get(server.url + path) as response:
                assert response.status == 200
        status, _ = await server.get("/metrics")
        assert status == 401
