from __future__ import annotations

from typing import Any


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
