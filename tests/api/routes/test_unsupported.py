from __future__ import annotations

from io import BytesIO
from typing import Any

import aiohttp
import openai
import pytest

from localai.api.routes.unsupported import TASKS


@pytest.mark.parametrize(("task", "path"), [(task, path) for task, paths in TASKS.items() for path in paths])
async def test_every_path_says_what_is_missing_and_what_to_do(serve: Any, task: str, path: str) -> None:
    async with serve() as server:
        for variant in (path, path + "/"):
            async with server.http.post(server.url + variant, json={"model": "m", "prompt": "x"}) as response:
                error = (await response.json())["error"]
                assert response.status == 501
                assert response.headers["x-should-retry"] == "false"
        assert (error["code"], error["type"], error["param"]) == ("no_backend", "server_error", None)
        assert f"can do {task}," in error["message"]
        assert "Send such requests to another server" in error["message"]
        async with server.http.get(server.url + path) as response:
            assert response.status == 405


async def test_forms_and_broken_bodies_are_answered_the_same(serve: Any) -> None:
    async with serve() as server:
        form = aiohttp.FormData({"model": "m"})
        form.add_field("file", b"RIFF", filename="a.wav")
        for data in (form, b"{bad", None):
            async with server.http.post(server.url + "/v1/audio/transcriptions", data=data) as response:
                assert response.status == 501


async def test_a_body_over_the_limit_is_413(serve: Any) -> None:
    async with serve(upload_limit_bytes=1000) as server:
        body = BytesIO(b"x" * 2000)
        async with server.http.post(server.url + "/v1/images/generations", data=body) as response:
            assert response.status == 413


async def test_the_official_client(serve: Any) -> None:
    async with (
        serve() as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused") as client,
    ):
        with pytest.raises(openai.APIStatusError, match="image generation") as caught:
            await client.images.generate(model="m", prompt="a cat")
        assert (caught.value.status_code, caught.value.code) == (501, "no_backend")
