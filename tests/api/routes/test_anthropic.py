from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import anthropic
import pytest
from aiohttp import web
from anthropic.types import MessageParam, ToolParam, ToolResultBlockParam, ToolUseBlock

from localai.api.dialects.anthropic import MAX_TOKENS_NEEDED
from localai.api.routes.anthropic import COUNT_PATHS, MESSAGE_PATHS
from localai.mesh.secrets import Secret
from localai.node.answer_rules import AnswerRules
from localai.node.catalog import Catalog
from localai.node.features import Feature
from localai.node.fetch_rules import parse_networks
from localai.node.inference import ChatInput, GenerateRequest, Media, Request
from localai.node.model_config import ModelConfig
from localai.node.settings import ProtectionSettings
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.frames import Ask

HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]
BODY: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": HELLO}
LOOK: ToolParam = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
HELLO_COUNT = len("user: hello\n")
CALL = '<tool_call>{"name": "look", "arguments": {"at": "Rom"}}</tool_call>'


def asked(server: Any) -> list[Request]:
    return [frame.request for worker in server.workers for frame in worker.sent if isinstance(frame, Ask)]


def saying(*answers: str) -> Callable[[], FakeWorker]:
    """A worker that gives one answer for each turn of the model; ``{tool}`` stands for the last result."""

    def answer(request: GenerateRequest) -> bytes:
        assert isinstance(request.prompt, ChatInput)
        messages = request.prompt.messages
        turn = sum(message.role == "assistant" for message in messages)
        return answers[min(turn, len(answers) - 1)].replace("{tool}", messages[-1].content).encode()

    return lambda: FakeWorker(answer, parser_id="tagged")


@asynccontextmanager
async def client(server: Any, **options: Any) -> AsyncIterator[anthropic.AsyncAnthropic]:
    options = {"api_key": "k", "max_retries": 0, "timeout": 20, **options}
    async with anthropic.AsyncAnthropic(base_url=server.url, **options) as made:
        yield made


async def events_of(server: Any, **fields: Any) -> list[Any]:
    async with server.http.post(server.url + "/v1/messages", json={**BODY, "stream": True, **fields}) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        lines = (await response.text()).splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


async def test_every_path_with_and_without_a_slash(serve: Any) -> None:
    async with serve() as server:
        for path in MESSAGE_PATHS:
            for slash in ("", "/"):
                status, message = await server.post(path + slash, BODY)
                assert (status, message["content"]) == (200, [{"type": "text", "text": "hello"}])
                assert message["id"].startswith("msg_")
        for path in COUNT_PATHS:
            for slash in ("", "/"):
                assert await server.post(path + slash, BODY) == (200, {"input_tokens": HELLO_COUNT})


async def test_the_official_client_whole_and_streamed(serve: Any) -> None:
    async with serve(saying("<think>Hm.</think>hello")) as server, client(server) as ai:
        whole = await ai.messages.create(model="m", max_tokens=100, messages=HELLO, system="Be kind.")
        assert [block.to_dict() for block in whole.content] == [{"type": "text", "text": "hello"}]
        assert (whole.stop_reason, whole.stop_sequence, whole.role) == ("end_turn", None, "assistant")
        assert whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0) == len(
            "system: Be kind.\nuser: hello\n"
        )
        async with ai.messages.stream(model="m", max_tokens=100, messages=HELLO, system="Be kind.") as stream:
            assert "".join([text async for text in stream.text_stream]) == "hello"
            final = await stream.get_final_message()
            assert stream.request_id
        assert [block.to_dict() for block in final.content] == [block.to_dict() for block in whole.content]
        assert final.stop_reason == whole.stop_reason
        assert final.usage.output_tokens == whole.usage.output_tokens


async def test_thinking_is_shown_when_it_is_asked_for_and_comes_back(serve: Any) -> None:
    async with serve(saying("<think>Hm.</think>hello")) as server, client(server) as ai:
        options: dict[str, Any] = {
            "model": "m",
            "max_tokens": 2000,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        }
        whole = await ai.messages.create(messages=HELLO, **options)
        thought = {"type": "thinking", "thinking": "Hm.", "signature": "localai"}
        assert [block.to_dict() for block in whole.content] == [thought, {"type": "text", "text": "hello"}]
        async with ai.messages.stream(messages=HELLO, **options) as stream:
            final = await stream.get_final_message()
        assert [block.to_dict() for block in final.content] == [block.to_dict() for block in whole.content]
        await ai.messages.create(messages=[*HELLO, whole.to_param(), *HELLO], **options)
        last = asked(server)[-1]
        assert isinstance(last, GenerateRequest)
        assert isinstance(last.prompt, ChatInput)
        assert (last.prompt.messages[1].content, last.prompt.messages[1].reasoning) == ("hello", "Hm.")
        options["thinking"] = {"type": "disabled"}
        assert [b.type for b in (await ai.messages.create(messages=HELLO, **options)).content] == ["text"]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_official_client_calls_tools_in_a_loop(serve: Any, is_streamed: bool) -> None:
    async with serve(saying("Let me see." + CALL, "It is {tool}.")) as server, client(server) as ai:
        messages: list[MessageParam] = list(HELLO)
        for _ in range(2):
            if is_streamed:
                async with ai.messages.stream(model="m", max_tokens=500, messages=messages, tools=[LOOK]) as stream:
                    message: anthropic.types.Message = await stream.get_final_message()
            else:
                message = await ai.messages.create(model="m", max_tokens=500, messages=messages, tools=[LOOK])
            messages.append(message.to_param())
            calls = [block for block in message.content if isinstance(block, ToolUseBlock)]
            if message.stop_reason != "tool_use":
                break
            assert [(call.name, call.input) for call in calls] == [("look", {"at": "Rom"})]
            results: list[ToolResultBlockParam] = [
                {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls
            ]
            messages.append({"role": "user", "content": results})
        assert message.stop_reason == "end_turn"
        assert message.content[0].to_dict() == {"type": "text", "text": "It is sunny."}
        second = asked(server)[-1]
        assert isinstance(second, GenerateRequest)
        assert isinstance(second.prompt, ChatInput)
        user, said, told = second.prompt.messages
        assert (user.role, said.content, told.role, told.name) == ("user", "Let me see.", "tool", "look")
        assert told.tool_call_id == said.tool_calls[0].id
        assert json.loads(said.tool_calls[0].arguments) == {"at": "Rom"}


async def test_every_stop_reason_over_http(serve: Any) -> None:
    async with serve() as server, client(server) as ai:
        cut = await ai.messages.create(model="m", max_tokens=2, messages=HELLO)
        assert (cut.stop_reason, cut.content[0].to_dict()["text"]) == ("max_tokens", "he")
        stopped = await ai.messages.create(model="m", max_tokens=9, messages=HELLO, stop_sequences=["x", "ll"])
        assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "ll")
        assert stopped.content[0].to_dict()["text"] == "he"
        *_, ending, last = await events_of(server, stop_sequences=["ll"])
        assert ending["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "ll"}
        assert last == {"type": "message_stop"}


async def test_a_stop_word_of_the_definition_is_no_stop_sequence(serve: Any) -> None:
    config = ModelConfig("m", "m.gguf", stopwords=("ll",), answer=AnswerRules(prefix="> "))
    async with serve(catalog=Catalog((config,))) as server:
        _, message = await server.post("/v1/messages", BODY)
        assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
        assert message["content"] == [{"type": "text", "text": "> he"}]


async def test_tokens_of_the_prompt_are_known_when_the_stream_begins(serve: Any) -> None:
    async with serve() as server:
        first, second, *_ = await events_of(server)
        assert first["message"]["usage"]["input_tokens"] == len("user: hello\n")
        assert second == {"type": "ping"}
        *_, ending, _ = await events_of(server)
        usage = ending["usage"]
        assert usage["cache_read_input_tokens"] > 0
        assert usage["input_tokens"] + usage["cache_read_input_tokens"] == len("user: hello\n")


async def test_eager_input_by_header(serve: Any) -> None:
    async with serve(saying('<tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>')) as server:
        headers = [("anthropic-beta", "a"), ("anthropic-beta", "fine-grained-tool-streaming-2025-05-14")]
        body = {**BODY, "stream": True, "tools": [LOOK]}
        async with server.http.post(server.url + "/v1/messages", json=body, headers=headers) as response:
            eager = await response.text()
        async with server.http.post(server.url + "/v1/messages", json=body) as response:
            late = await response.text()
        for text in (eager, late):
            assert r'"partial_json":"{\"at\": 1}"' in text


async def test_pictures_inside_and_by_address(serve: Any) -> None:
    pictures = web.Application()

    async def picture(_: web.Request) -> web.Response:
        return web.Response(body=b"far", content_type="image/png")

    pictures.router.add_get("/cat.png", picture)
    runner = web.AppRunner(pictures)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/cat.png"
    inside = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"near").decode()}
    blocks = [{"type": "image", "source": {"type": "url", "url": url}}, {"type": "image", "source": inside}]
    body = {**BODY, "messages": [{"role": "user", "content": blocks}]}
    try:
        allowed = ProtectionSettings(media_networks=parse_networks(["127.0.0.1"]))
        async with serve(protection=allowed) as server:
            assert (await server.post("/v1/messages", body))[0] == 200
            (request,) = asked(server)
            assert isinstance(request, GenerateRequest)
            assert isinstance(request.prompt, ChatInput)
            assert request.prompt.messages[0].media == (Media("image", b"far"), Media("image", b"near"))
        async with serve() as server:
            status, error = await server.post("/v1/messages", body)
            assert (status, error["error"]["type"]) == (400, "invalid_request_error")
            assert "private network" in error["error"]["message"]
    finally:
        await runner.cleanup()


ERRORS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"max_tokens": None}, 400, "invalid_request_error", MAX_TOKENS_NEEDED),
    ({"max_tokens": 0}, 400, "invalid_request_error", MAX_TOKENS_NEEDED),
    ({"model": "gpt-9"}, 400, "invalid_request_error", "gpt-9"),
    ({"messages": []}, 400, "invalid_request_error", "'messages' is empty"),
    ({"messages": 1}, 400, "invalid_request_error", "'messages' has the wrong type"),
    ({"messages": [{"role": "user"}]}, 400, "invalid_request_error", "'messages[0].content' is missing"),
    ({"temperature": 9}, 400, "invalid_request_error", "'temperature' must be"),
    ({"tool_choice": {"type": "any"}}, 400, "invalid_request_error", "there are none"),
    ({"container": "c"}, 501, "api_error", "'container'"),
    ({"messages": [{"role": "user", "content": "a" * 5000}]}, 400, "invalid_request_error", "tokens"),
]


@pytest.mark.parametrize(("fields", "status", "kind", "message"), ERRORS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", MESSAGE_PATHS)
async def test_errors_before_the_first_byte(
    serve: Any, fields: dict[str, Any], status: int, kind: str, message: str, stream: bool, path: str
) -> None:
    async with serve() as server:
        answered, error = await server.post(path, {**BODY, "stream": stream, **fields})
        assert (answered, error["type"], error["error"]["type"]) == (status, "error", kind)
        assert message in error["error"]["message"]
        assert set(error["error"]) == {"type", "message"}


async def test_errors_of_whatever_comes_first_have_the_shape_and_the_id_too(serve: Any) -> None:
    async with serve(api_keys=(Secret("secret"),), upload_limit_bytes=1000) as server:
        key = {"x-api-key": "secret"}
        post, url = server.http.post, server.url + "/v1/messages"
        answers = [
            (401, "authentication_error", post(url, json=BODY)),
            (400, "invalid_request_error", post(url, data=BytesIO(b"{bad"), headers=key)),
            (413, "request_too_large", post(url, data=BytesIO(b"x" * 2000), headers=key)),
            (404, "not_found_error", post(url + "/batches", json={}, headers=key)),
            (405, "invalid_request_error", server.http.get(url, headers=key)),
        ]
        for status, kind, answer in answers:
            async with answer as response:
                assert response.status == status
                assert (await response.json())["error"]["type"] == kind
                assert response.headers["request-id"] == response.headers["X-Correlation-ID"]
        async with server.http.get(server.url + "/v1/models", headers=key) as response:
            assert "request-id" not in response.headers


async def test_the_id_of_a_request(serve: Any) -> None:
    async with serve() as server:
        url = server.url + "/v1/messages"
        for given, is_echoed in (("mine", True), ("", False), ("x" * 200, False)):
            for stream in (False, True):
                body = {**BODY, "stream": stream}
                async with server.http.post(url, json=body, headers={"x-request-id": given}) as response:
                    own = response.headers["request-id"]
                    assert response.headers["x-request-id"] == (given if is_echoed else own)


async def test_a_worker_that_dies_in_the_middle(serve: Any) -> None:
    gate = asyncio.Event()

    async def wait_after_some() -> None:
        if len(steps) > 3:
            gate.set()
            await asyncio.Event().wait()
        steps.append(1)

    steps: list[int] = []
    async with serve(lambda: FakeWorker(before_step=wait_after_some)) as server, client(server) as ai:

        async def kill() -> None:
            await gate.wait()
            server.workers[0].die()

        killer = asyncio.create_task(kill())
        with pytest.raises(anthropic.APIStatusError) as caught:
            async with ai.messages.stream(model="m", max_tokens=100, messages=HELLO) as stream:
                await stream.until_done()
        await killer
        assert caught.value.type == "overloaded_error"
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["type"] == "error"


async def test_errors_as_the_official_client_s_exceptions(serve: Any) -> None:
    async with serve(api_keys=(Secret("secret"),)) as server:
        async with client(server) as ai:
            with pytest.raises(anthropic.AuthenticationError) as caught:
                await ai.messages.create(model="m", max_tokens=1, messages=HELLO)
            assert caught.value.request_id
        async with client(server, api_key="secret") as ai:
            with pytest.raises(anthropic.BadRequestError, match=MAX_TOKENS_NEEDED):
                await ai.messages.create(model="m", max_tokens=0, messages=HELLO)
            with pytest.raises(anthropic.BadRequestError, match="gpt-9"):
                await ai.messages.count_tokens(model="gpt-9", messages=HELLO)
            tool: Any = {"type": "bash_20250124", "name": "bash"}
            with pytest.raises(anthropic.APIStatusError) as refused:
                await ai.messages.create(model="m", max_tokens=1, messages=HELLO, tools=[tool])
            assert (refused.value.status_code, refused.value.type) == (501, "api_error")
        async with client(server, api_key=None, auth_token="secret") as ai:
            assert (await ai.messages.create(model="m", max_tokens=9, messages=HELLO)).stop_reason == "end_turn"


async def test_what_a_backend_cannot_do_is_said(serve: Any) -> None:
    async with serve(lambda: FakeWorker(features=frozenset({Feature.GENERATE}))) as server:
        for path, fields in (("/v1/messages", {"tools": [LOOK]}), ("/v1/messages/count_tokens", {})):
            status, error = await server.post(path, {**BODY, **fields})
            assert (status, error["error"]["type"]) == (501, "api_error")


async def test_counting_with_the_official_client(serve: Any) -> None:
    async with serve() as server, client(server) as ai:
        counted = await ai.messages.count_tokens(model="m", messages=HELLO, system="Be kind.", tools=[LOOK])
        answer = await ai.messages.create(model="m", max_tokens=1, messages=HELLO, system="Be kind.", tools=[LOOK])
        assert counted.input_tokens == answer.usage.input_tokens == len("system: Be kind.\n") + HELLO_COUNT
        headers = {"X-LocalAI-Local-Only": "true"}
        await ai.messages.count_tokens(model="m", messages=HELLO, extra_headers=headers)
        assert [request.local_only for request in asked(server)] == [False, False, True]
