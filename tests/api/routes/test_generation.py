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
from localai.node.answer_rules import AnswerRules
from localai.node.catalog import Catalog
from localai.node.inference import Sampling
from localai.node.model_config import ModelConfig
from localai.node.request_defaults import RequestDefaults
from localai.node.workers.frames import Generate

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


async def test_the_first_model_is_the_first_of_its_kind(serve: Any) -> None:
    models = (
        ModelConfig("a", "a.gguf", embeddings=True),
        ModelConfig("b", "b.gguf", usecases=frozenset({"completion"})),
        ModelConfig("c", "c.gguf"),
    )
    async with serve(catalog=Catalog(models)) as server:
        _, answer = await server.post("/v1/chat/completions", {"messages": HELLO})
        assert answer["model"] == "c"
        _, answer = await server.post("/v1/completions", {"prompt": "abc"})
        assert answer["model"] == "b"
    async with serve(catalog=Catalog(models[:1])) as server:
        _, answer = await server.post("/v1/completions", {"prompt": "abc"})
        assert answer["model"] == "a"


async def test_a_definition_fills_in_and_the_request_goes_before_it(serve: Any) -> None:
    defaults = RequestDefaults(Sampling(temperature=0.25), max_tokens=2, choices=2, echo=True)
    config = ModelConfig("m", "m.gguf", defaults=defaults, answer=AnswerRules(cut=("e",), prefix="> "))
    alias = ModelConfig("n", "", alias="m")
    async with serve(catalog=Catalog((config,), aliases=(alias,))) as server:
        status, answer = await server.post("/v1/chat/completions", {"model": "n", "messages": HELLO})
        assert (status, answer["model"]) == (200, "n")
        assert [choice["message"]["content"] for choice in answer["choices"]] == ["> h", "> h"]
        _, answer = await server.post(
            "/v1/completions", {"model": "m", "prompt": "hello", "echo": False, "n": 1, "max_tokens": 0}
        )
        assert [choice["text"] for choice in answer["choices"]] == ["> hllo"]
        asked = [frame.request for frame in server.workers[0].sent if isinstance(frame, Generate)]
        assert [request.sampling.temperature for request in asked] == [0.25, 0.25]


async def test_a_disabled_model_is_forbidden(serve: Any) -> None:
    config = ModelConfig("off", "off.gguf", disabled=True)
    async with serve(catalog=Catalog((ModelConfig("m", "m.gguf"),), disabled=(config,))) as server:
        status, body = await server.post("/v1/chat/completions", {"model": "off", "messages": HELLO})
        assert (status, body["error"]["code"]) == (403, "model_disabled")


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
