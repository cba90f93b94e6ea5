from __future__ import annotations

from typing import Any


async def test_a_final_slash_and_head_are_answered_without_a_redirect(serve: Any) -> None:
    async with serve() as server:
        for path in ("/version", "/version/"):
            async with server.http.get(server.url + path, allow_redirects=False) as response:
                assert response.status == 200
        async with server.http.head(server.url + "/version") as response:
            assert (response.status, await response.read()) == (200, b"")
