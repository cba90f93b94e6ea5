"""Ollama's API over HTTP, with bare requests and with the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ollama
import pytest

from localai.mesh.errors import ModelLoadFailed
from localai.mesh.secrets import Secret
from localai.node.catalog import Catalog
from localai.node.features import Feature
from localai.node.inference import ChatInput, GenerateRequest, JsonSchema
from localai.node.model_config import ModelConfig
from localai.node.residency import ResidencyRules
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.frames import Ask

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
THINKS = b'<think>Hm.</think>Let me see.<tool_call>{"name": "look", "arguments": {"at": "sky"}}</tool_call>'
LOOK = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}


@asynccontextmanager
async def client_of(server: Any) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(host=server.url)
    try:
        yield client
    finally:
        await client._client.aclose()  # it has no way to be closed


def asked(server: Any) -> GenerateRequest:
    """The last generation that a worker was asked for."""
    requests = [frame.request for worker in server.workers for frame in worker.sent if isinstance(frame, Ask)]
    assert isinstance(requests[-1], GenerateRequest)
    return requests[-1]


def thinker() -> FakeWorker:
    return FakeWorker(parser_id="tagged", answer=lambda _request: THINKS)


async def test_the_client_chats(serve: Any) -> None:
    async with serve() as server, client_of(server) as client:
        whole = await client.chat("m", HELLO, options={"seed": 7, "num_predict": 3, "temperature": 0})
        assert (whole.message.content, whole.done, whole.done_reason, whole.model) == ("hel", True, "length", "m")
        assert (whole.eval_count, whole.prompt_eval_count) == (3, 12)
        assert whole.total_duration is not None
        assert (asked(server).sampling.seed, asked(server).sampling.temperature) == (7, 0)
        parts = [part async for part in await client.chat("m:latest", HELLO, stream=True, keep_alive="1h")]
        assert "".join(part.message.content or "" for part in parts) == "hello"
        assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
        assert (parts[-1].done_reason, parts[-1].eval_count, parts[0].model) == ("stop", 5, "m:latest")


async def test_the_client_generates(serve: Any) -> None:
    async with serve() as server, client_of(server) as client:
        whole = await client.generate("m", "hello", system="s", logprobs=True, top_logprobs=2)
        assert (whole.response, whole.done_reason) == ("hello", "stop")
        assert whole.logprobs is not None
        assert [len(each.top_logprobs or ()) for each in whole.logprobs] == [2] * 5
        parts = [part async for part in await client.generate("m", "hello", raw=True, stream=True)]
        assert "".join(part.response or "" for part in parts) == "hello"


async def test_the_client_calls_tools_and_sees_what_a_model_thinks(serve: Any) -> None:
    async with serve(thinker) as server, client_of(server) as client:
        whole = await client.chat("m", HELLO, tools=[LOOK], think=True)
        parts = [part async for part in await client.chat("m", HELLO, tools=[LOOK], think="low", stream=True)]
        streamed = [call for part in parts for call in part.message.tool_calls or ()]
        for message, calls in ((whole.message, whole.message.tool_calls or ()), (parts[-1].message, streamed)):
            assert message.role == "assistant"
            assert [(call.function.name, call.function.arguments) for call in calls] == [("look", {"at": "sky"})]
        assert (whole.message.thinking, whole.message.content) == ("Hm.", "Let me see.")
        assert "".join(part.message.thinking or "" for part in parts) == "Hm."
        messages = [*HELLO, whole.message, {"role": "tool", "tool_name": "look", "content": "blue"}]
        await client.chat("m", messages, tools=[LOOK])
        prompt = asked(server).prompt
        assert isinstance(prompt, ChatInput)
        assert prompt.messages[2].tool_call_id == prompt.messages[1].tool_calls[0].id


async def test_the_client_asks_for_json_and_shows_pictures(serve: Any) -> None:
    async with serve() as server, client_of(server) as client:
        await client.chat("m", HELLO, format="json")
        assert asked(server).constraint == JsonSchema("{}")
        schema = {"type": "object", "required": ["x"]}
        await client.generate("m", "hello", format=schema, images=[b"\x89PNG"])
        constraint = asked(server).constraint
        assert isinstance(constraint, JsonSchema)
        assert json.loads(constraint.schema) == schema
        prompt = asked(server).prompt
        assert isinstance(prompt, ChatInput)
        assert prompt.messages[0].media[0].data == b"\x89PNG"


async def test_the_client_embeds(serve: Any) -> None:
    async with serve() as server, client_of(server) as client:
        several = await client.embed("m", ["a", "bc"])
        assert [len(vector) for vector in several.embeddings] == [16, 16]
        assert several.prompt_eval_count == 3
        short = await client.embed("m", "a", dimensions=4)
        assert list(short.embeddings[0]) == list(several.embeddings[0])[:4]
        one = await client.embeddings("m", "a")
        assert list(one.embedding) == list(several.embeddings[0])


async def test_the_client_lists_and_shows_models(serve: Any, tiny_model: Path) -> None:
    catalog = Catalog((ModelConfig("m", tiny_model.name), ModelConfig("lost", "lost.gguf")))
    async with (
        serve(catalog=catalog, models_path=tiny_model.parent, residency=ResidencyRules(idle_s=60.0)) as server,
        client_of(server) as client,
    ):
        lost, tiny = (await client.list()).models
        assert (lost.model, lost.size) == ("lost:latest", 0)
        assert (tiny.model, tiny.size) == ("m:latest", tiny_model.stat().st_size)
        assert tiny.details is not None
        assert (tiny.details.family, tiny.details.format) == ("llama", "gguf")
        assert (await client.ps()).models == []
        await client.chat("m", HELLO)
        (loaded,) = (await client.ps()).models
        assert (loaded.name, loaded.context_length) == ("m:latest", 512)
        assert loaded.expires_at is not None
        shown = await client.show("m:latest")
        assert shown.capabilities == ["completion"]
        assert shown.modelinfo is not None
        assert shown.modelinfo["general.architecture"] == "llama"


async def test_the_client_gets_errors(serve: Any) -> None:
    async with serve() as server, client_of(server) as client:
        for call in (
            client.chat("gpt-9", HELLO),
            client.generate("gpt-9:latest", "hello"),
            client.generate("gpt-9", ""),
            client.embed("gpt-9", "a"),
            client.show("gpt-9"),
        ):
            with pytest.raises(ollama.ResponseError, match=r"model 'gpt-9.*' not found") as caught:
                await call
            assert caught.value.status_code == 404


async def test_a_failure_inside_a_stream_reaches_the_client(serve: Any) -> None:
    def dying() -> FakeWorker:
        worker = FakeWorker()
        steps = 0

        async def die_after_some() -> None:
            nonlocal steps
            steps += 1
            if steps > 3:
                worker.die()

        worker.before_step = die_after_some
        return worker

    async with serve(dying) as server, client_of(server) as client:
        parts = await client.chat("m", HELLO, stream=True)
        assert (await anext(parts)).message.content in ("h", "he", "hel")
        with pytest.raises(ollama.ResponseError, match="worker"):
            [part async for part in parts]


async def test_nothing_to_answer_loads_the_model(serve: Any) -> None:
    async with serve() as server:
        status, answer = await server.post("/api/chat", {"model": "m", "stream": False})
        assert (status, answer["message"], answer["done"], answer["done_reason"]) == (
            200,
            {"role": "assistant", "content": ""},
            True,
            "load",
        )
        assert server.workers
        async with server.http.post(server.url + "/api/generate", json={"model": "m"}) as response:
            assert response.content_type == "application/x-ndjson"
            (line,) = (await response.text()).splitlines()
            assert (json.loads(line)["response"], json.loads(line)["done_reason"]) == ("", "load")


async def test_a_model_that_cannot_be_loaded(serve: Any) -> None:
    async with serve(lambda: FakeWorker(load_error=ModelLoadFailed("Not a model."))) as server:
        assert await server.post("/api/generate", {"model": "m"}) == (
            500,
            {"error": "failed to load model 'm': Not a model."},
        )


async def test_a_model_is_unloaded_unless_somebody_uses_it(serve: Any) -> None:
    begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def step() -> None:
        begun.set()
        await may_go_on.wait()

    async with serve(lambda: FakeWorker(before_step=step)) as server, client_of(server) as client:
        assert (await client.generate("m", "", keep_alive=0)).done_reason == "unload"
        assert server.workers == []
        await client.generate("m", "")
        assert len((await client.ps()).models) == 1
        busy = asyncio.create_task(client.generate("m", "hello"))
        await begun.wait()
        with pytest.raises(ollama.ResponseError, match="answering somebody") as caught:
            await client.chat("m", [], keep_alive="0s")
        assert caught.value.status_code == 409
        may_go_on.set()
        assert (await busy).response == "hello"
        assert (await client.chat("m", [], keep_alive="0s")).done_reason == "unload"
        assert (await client.ps()).models == []


async def test_streams_are_lines_unless_they_are_not_wanted(serve: Any) -> None:
    async with serve() as server:
        for extra, kind in (({}, "application/x-ndjson"), ({"stream": False}, "application/json")):
            body = {"model": "m", "messages": HELLO, **extra}
            async with server.http.post(server.url + "/api/chat/", json=body) as response:
                assert (response.status, response.content_type) == (200, kind)
                lines = [json.loads(line) for line in (await response.text()).splitlines()]
                assert "".join(line["message"]["content"] for line in lines) == "hello"


async def test_version_and_lists_answer_head_too(serve: Any) -> None:
    async with serve() as server:
        assert await server.get("/api/version") == (200, {"version": "0.9.0"})
        for path in ("/api/version", "/api/tags", "/api/ps"):
            async with server.http.head(server.url + path) as response:
                assert response.status == 200
    async with serve(catalog=Catalog()) as server:
        assert await server.get("/api/tags") == (200, {"models": []})


async def test_a_name_that_ends_in_latest_may_be_the_whole_name(serve: Any) -> None:
    async with serve(catalog=Catalog((ModelConfig("x:latest", "x.gguf"),))) as server:
        status, answer = await server.post("/api/chat", {"model": "x:latest", "messages": HELLO, "stream": False})
        assert (status, answer["model"], server.workers != []) == (200, "x:latest", True)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("chat", b"{bad", 400, "The body is not valid JSON"),
        ("chat", b'{"messages": 1}', 400, "'messages' has the wrong type"),
        ("chat", b'{"messages": [{"role": ""}]}', 400, "'messages[0].role' is empty"),
        ("chat", b'{"messages": [{"content": ""}]}', 400, "'messages[0].role' is missing"),
        ("chat", b'{"messages": [{"role": "u"}], "format": 1}', 400, "'format' is neither"),
        ("chat", b'{"model": "none", "messages": [{"role": "u"}]}', 404, "model 'none' not found"),
        ("generate", b'{"prompt": "x", "suffix": "y"}', 501, "'suffix' is not supported"),
        ("generate", b'{"prompt": "x", "options": {"top_p": 2}}', 400, "'options.top_p' must be between 0 and 1"),
        ("embed", b"{}", 400, "input is required"),
        ("embeddings", b'{"prompt": ""}', 400, "input is required"),
        ("embeddings", b'{"input": ["a", "b"]}', 400, "/api/embeddings takes one text"),
        ("show", b"{}", 400, "name is required"),
        ("show", b'{"name": "none"}', 404, "model 'none' not found"),
    ],
)
async def test_errors_are_flat(serve: Any, path: str, body: bytes, status: int, message: str) -> None:
    async with serve() as server, server.http.post(f"{server.url}/api/{path}", data=body) as response:
        answer = await response.json()
        assert response.status == status
        assert list(answer) == ["error"]
        assert answer["error"].startswith(message)


async def test_what_a_backend_cannot_do_and_who_has_no_key(serve: Any) -> None:
    plain = frozenset({Feature.GENERATE})
    async with serve(lambda: FakeWorker(features=plain)) as server:
        for path, body in (
            ("chat", {"messages": HELLO, "tools": [LOOK]}),
            ("chat", {"messages": HELLO, "format": "json"}),
            ("generate", {"prompt": "x", "images": ["aGk="]}),
            ("embed", {"input": "x"}),
        ):
            status, answer = await server.post(f"/api/{path}", body)
            assert (status, list(answer)) == (501, ["error"])
    async with serve(api_keys=(Secret("k"),)) as server:
        for path in ("/api/tags", "/api/version"):
            status, answer = await server.get(path)
            assert (status, answer) == (401, {"error": "An authentication key is required"})
