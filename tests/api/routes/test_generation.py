"""Chat and text completions over HTTP, with bare requests and with the official client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import openai
import pytest

from localai.api.routes.generation import CHAT_PATHS, COMPLETION_PATHS
from localai.node.catalog import Catalog

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("path", CHAT_PATHS)
async def test_chat_on_every_path(serve: Any, path: str) -> None:
    async with serve() as server:
        for variant in (path, path + "/"):
            body = {"messages": HELLO} if "{model}" in path else {"model": "m", "messages": HELLO}
            status, answer = await server.post(variant.replace("{model}", "m"), body)
            assert status == 200
            assert answer["choices"][0]["message"]["content"] == "hello"
            assert answer["id"].startswith("chatcmpl-")
            assert answer["model"] == "m"


@pytest.mark.parametrize("path", COMPLETION_PATHS)
async def test_completions_on_every_path(serve: Any, path: str) -> None:
    async with serve() as server:
        status, answer = await server.post(path.replace("{model}", "m"), {"prompt": "abc"})
        assert status == 200
        assert answer["choices"][0]["text"] == "abc"
        assert answer["id"].startswith("cmpl-")


async def test_the_model_is_named_in_body_path_or_query_or_is_the_first(serve: Any) -> None:
    async with serve() as server:
        body = {"prompt": "abc"}
        for path, given, expected in (
            ("/v1/completions", "org/other", "org/other"),
            ("/v1/completions?model=org/other", "", "org/other"),
            ("/v1/completions?model=org/other", "m", "m"),
            ("/v1/completions", "", "m"),
        ):
            _, answer = await server.post(path, {**body, "model": given})
            assert answer["model"] == expected


async def test_without_any_model_the_error_says_what_to_do(serve: Any) -> None:
    async with serve(catalog=Catalog()) as server:
        status, body = await server.post("/v1/chat/completions", {"messages": HELLO})
        assert (status, body["error"]["code"]) == (400, "model_not_found")
        assert "models folder" in body["error"]["message"]


async def test_an_unknown_model_is_400_as_documented(serve: Any) -> None:
    async with serve() as server:
        for stream in (False, True):
            status, body = await server.post(
                "/v1/chat/completions", {"model": "gpt-9", "messages": HELLO, "stream": stream}
            )
            assert status == 400
            assert (body["error"]["code"], body["error"]["param"]) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{bad", 400, "invalid_json"),
        (b'{"messages": 1}', 400, "invalid_type"),
        (b'{"messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "invalid_type"),
        (b'{"tools": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "invalid_json"),
        (b'{"x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"", 400, "invalid_request"),
        (b'{"messages": [{"role": "user"}], "tools": [1]}', 501, "unsupported_field"),
        (b'{"messages": [{"role": "user"}], "n": 99}', 400, "invalid_request"),
    ],
)
async def test_bad_bodies_are_clear_errors(serve: Any, body: bytes, status: int, code: str) -> None:
    async with serve() as server, server.http.post(server.url + "/v1/chat/completions", data=body) as response:
        assert response.status == status
        error = (await response.json())["error"]
        assert error["code"] == code
        assert error["message"].endswith(".")


@asynccontextmanager
async def client(server: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0, timeout=20) as made:
        yield made


async def test_the_official_client_chats_and_completes(serve: Any) -> None:
    async with serve() as server, client(server) as ai:
        answer = await ai.chat.completions.create(model="m", messages=HELLO, n=2)
        assert [choice.message.content for choice in answer.choices] == ["hello", "hello"]
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 10
        stream = await ai.chat.completions.create(model="m", messages=HELLO, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "hello"
        text = await ai.completions.create(model="m", prompt="abc", max_tokens=2)
        assert (text.choices[0].text, text.choices[0].finish_reason) == ("ab", "length")


async def test_errors_become_the_clients_exceptions(serve: Any) -> None:
    async with serve() as server, client(server) as ai:
        with pytest.raises(openai.BadRequestError) as caught:
            await ai.chat.completions.create(model="none", messages=HELLO)
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await ai.models.retrieve("none")
        with pytest.raises(openai.InternalServerError):
            await ai.chat.completions.create(model="m", messages=HELLO, extra_body={"tools": [1]})


@pytest.mark.parametrize(
    "fields", [{"max_tokens": 2**70}, {"seed": 2**70}, {"seed": -(2**70)}, {"model": None}, {"stream_options": {}}]
)
async def test_odd_values_are_served_and_the_next_request_too(serve: Any, fields: dict[str, Any]) -> None:
    async with serve() as server:
        for more in (fields, {}):
            status, body = await server.post("/v1/chat/completions", {"messages": HELLO, **more})
            assert status == 200
            assert body["choices"][0]["message"]["content"] == "hello"


async def test_a_prompt_that_no_worker_can_take_is_too_large(serve: Any) -> None:
    async with serve() as server:
        data = BytesIO(json.dumps({"prompt": "x" * 2_000_000, "stream": True}).encode())
        async with server.http.post(server.url + "/v1/completions", data=data) as response:
            assert response.status == 413
