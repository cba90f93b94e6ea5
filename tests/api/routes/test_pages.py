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


async def test_the_root_may_be_that_of_ollama(serve: Any) -> None:
    async with serve(ollama_root=True, api_keys=(Secret("k"),)) as server:
        async with server.http.get(server.url + "/") as response:
            assert (response.status, await response.text()) == (200, "Ollama is running")
        async with server.http.head(server.url + "/") as response:
            assert (response.status, response.content_type) == (200, "text/plain")


@pytest.mark.parametrize("name", ["status.js", "status.css", "icon.svg"])
async def test_its_parts_are_served(serve: Any, name: str) -> None:
    async with serve() as server, server.http.get(f"{server.url}/static/{name}") as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/headers.py", "/static/none.js", "/static/"])
async def test_nothing_else_is(serve: Any, path: str) -> None:
    async with serve() as server, server.http.get(server.url + path) as response:
        assert response.status in (403, 404)
