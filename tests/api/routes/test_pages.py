from __future__ import annotations

from typing import Any

import pytest

from localai.mesh.secrets import Secret


async def test_the_page_has_nothing_inline_and_escapes_what_it_shows(serve: Any) -> None:
    async with serve(allowed_hosts=("<b>",)) as server:
        async with server.http.get(server.url + "/") as response:
            text = await response.text()
            assert response.status == 200
            assert response.content_type == "text/html"
        assert "<script>" not in text
        assert "style=" not in text
        assert server.url + "/v1" in text
        async with server.http.get(server.url + "/", headers={"Host": "<b>"}) as response:
            assert "<b>" not in await response.text()


async def test_the_page_knows_when_a_key_is_needed_and_never_shows_it(serve: Any) -> None:
    async with serve(api_keys=(Secret("hush-hush"),)) as server, server.http.get(server.url + "/") as response:
        text = await response.text()
        assert "data-needs-key" in text
        assert "hush" not in text


async def test_the_page_shows_the_address_that_a_proxy_has(serve: Any) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ai.example"}
    async with serve() as server, server.http.get(server.url + "/", headers=headers) as response:
        assert "https://ai.example/v1" in await response.text()


async def test_the_root_may_be_that_of_ollama(serve: Any) -> None:
    async with serve(ollama_root=True, api_keys=(Secret("k"),)) as server:
        async with server.http.get(server.url + "/") as response:
            assert (response.status, await response.text()) == (200, "Ollama is running")
        async with server.http.head(server.url + "/") as response:
            assert (response.status, response.content_type) == (200, "text/plain")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("status.js", "text/javascript"), ("status.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
async def test_its_parts_are_served(serve: Any, name: str, content_type: str) -> None:
    async with serve() as server:
        url = f"{server.url}/static/{name}"
        async with server.http.get(url) as response:
            assert (response.status, response.headers["Content-Type"]) == (200, content_type)
            assert await response.read()
            assert "Last-Modified" in response.headers
            etag = response.headers["ETag"]
        async with server.http.head(url) as response:
            assert (response.status, response.headers["ETag"]) == (200, etag)
        async with server.http.get(url, headers={"If-None-Match": etag}) as response:
            assert (response.status, response.headers["ETag"], await response.read()) == (304, etag, b"")
        async with server.http.get(url, headers={"If-None-Match": '"other"'}) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/headers.py",
        "/static/..%2fheaders.py",
        "/static/none.js",
        "/static/nope",
        "/static/",
        "/static",
        "/static/" + "a" * 5000,
        "/static/%00",
    ],
)
async def test_nothing_else_is(serve: Any, path: str) -> None:
    async with serve() as server:
        status, body = await server.get(path)
        assert (status, body["error"]["code"]) == (404, "unknown_path")
