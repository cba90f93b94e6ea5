"""Streams over a real socket: order, silence, clients that leave or do not read."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import structlog

from localai.api import streaming
from localai.api.errors import OPAQUE
from localai.mesh.errors import Category, ModelLoadFailed
from localai.node.dispatch import OnRoute
from localai.node.inference import Event, Failed, Finished, GenerateRequest, Started, Tokens, Usage
from localai.node.settings import ProtectionSettings
from localai.node.testing.fake_worker import FakeWorker

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    async for line in response.content:
        if text := line.decode().strip():
            yield text


async def chunks(server: Any, body: dict[str, Any]) -> list[Any]:
    async with server.http.post(server.url + "/v1/chat/completions", json=body) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        return [line.removeprefix("data: ") async for line in lines(response)]


async def test_a_stream_says_what_the_whole_answer_says(serve: Any) -> None:
    async with serve() as server:
        *events, done = await chunks(server, CHAT)
        assert done == "[DONE]"
        streamed = "".join(json.loads(e)["choices"][0]["delta"].get("content", "") for e in events)
        _, whole = await server.post("/v1/chat/completions", {**CHAT, "stream": False})
        assert streamed == whole["choices"][0]["message"]["content"] == "hello"


async def test_several_prompts_stream_one_after_the_other(serve: Any) -> None:
    async with serve() as server:
        body = {"model": "m", "prompt": ["ab", "cd"], "n": 2, "stream": True, "echo": True, "temperature": 0}
        texts = ["", "", "", ""]
        async with server.http.post(server.url + "/v1/completions", json=body) as response:
            async for line in lines(response):
                if line != "data: [DONE]":
                    for choice in json.loads(line.removeprefix("data: "))["choices"]:
                        texts[choice["index"]] += choice["text"]
        assert texts == ["abab", "abab", "cdcd", "cdcd"]


async def test_a_failure_before_the_first_text_has_a_status(serve: Any) -> None:
    async with serve(lambda: FakeWorker(load_error=ModelLoadFailed("Not a model."))) as server:
        status, body = await server.post("/v1/chat/completions", CHAT)
        assert (status, body["error"]["message"]) == (500, "Not a model.")


async def test_a_failure_after_it_is_an_error_event_and_the_end(serve: Any) -> None:
    def make() -> FakeWorker:
        async def step() -> None:
            await asyncio.sleep(0)
            if worker_steps.pop() == 0:
                worker.die()
                await asyncio.Event().wait()

        worker_steps = [0, 1, 1, 1]
        worker = FakeWorker(before_step=step)
        return worker

    async with serve(make) as server:
        *_, error, done = await chunks(server, CHAT)
        assert json.loads(error)["error"]["code"] == "worker_lost"
        assert done == "[DONE]"


def crash_after(server: Any, *events: Event) -> None:
    """Let every answer be these events and then a crash."""

    async def broken(_request: GenerateRequest, _on_route: OnRoute) -> AsyncIterator[list[Event]]:
        for event in events:
            yield [event]
        raise ZeroDivisionError("/secret/path")

    server.dispatch.answer_batches = broken


STARTED, TEXT = Started("digest", 3), Tokens(0, (1,), b"hello")


async def test_a_crash_before_the_first_text_is_a_500(serve: Any) -> None:
    async with serve() as server:
        crash_after(server, STARTED)
        status, body = await server.post("/v1/chat/completions", CHAT)
        assert (status, body["error"]["code"]) == (500, "internal_error")
        assert "secret" not in str(body)


async def test_a_crash_after_it_is_an_error_event_and_no_second_answer(serve: Any) -> None:
    async with serve() as server:
        crash_after(server, STARTED, TEXT)
        _role, text, error, done = await chunks(server, CHAT)
        assert json.loads(text)["choices"][0]["delta"] == {"content": "hello"}
        assert json.loads(error)["error"]["code"] == "internal_error"
        assert "secret" not in error
        assert done == "[DONE]"


async def test_opaque_errors_hide_failures_inside_a_stream_too(serve: Any) -> None:
    failed = Failed(Category.UNAVAILABLE, "worker_lost", "The process 4711 died.")
    async with serve(protection=ProtectionSettings(opaque_errors=True)) as server:
        for end in ((failed,), ()):  # the second ends with a crash
            crash_after(server, STARTED, TEXT, *end)
            _role, _text, error, done = await chunks(server, CHAT)
            assert json.loads(error)["error"]["message"] == OPAQUE
            assert "worker" not in error
            assert done == "[DONE]"


async def test_a_crash_after_the_end_changes_nothing(serve: Any) -> None:
    async with serve() as server:
        crash_after(server, STARTED, TEXT, Finished(("stop",), Usage(3, 1)))
        _role, _text, finish, done = await chunks(server, CHAT)
        assert json.loads(finish)["choices"][0]["finish_reason"] == "stop"
        assert done == "[DONE]"


async def test_a_client_that_leaves_stops_the_worker(serve: Any) -> None:
    async with serve(lambda: FakeWorker(answer=lambda _: b"x" * 400)) as server:
        async with server.http.post(server.url + "/v1/chat/completions", json=CHAT) as response:
            await anext(lines(response))
            response.close()
        async with asyncio.timeout(10):
            await server.workers[0].wait_cancelled()
        assert server.dispatch.models()[0].worker.active == 0


async def test_a_client_that_leaves_while_waiting_for_a_whole_answer_stops_the_worker(serve: Any) -> None:
    stepping = asyncio.Event()

    async def hold() -> None:
        stepping.set()
        await asyncio.Event().wait()

    async with serve(lambda: FakeWorker(before_step=hold)) as server:
        body = {**CHAT, "stream": False}
        asking = asyncio.create_task(server.post("/v1/chat/completions", body))
        await stepping.wait()
        asking.cancel()
        async with asyncio.timeout(10):
            await server.workers[0].wait_cancelled()


async def test_a_long_silence_is_filled_with_comments(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SILENCE_S", 0.01)
    go = asyncio.Event()
    steps = 0

    async def hold() -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            await go.wait()

    async with (
        serve(lambda: FakeWorker(before_step=hold)) as server,
        server.http.post(server.url + "/v1/chat/completions", json=CHAT) as response,
    ):
        seen = []
        async for line in lines(response):
            seen.append(line)
            if line == ": keep-alive":
                go.set()
    assert ": keep-alive" in seen
    assert seen[-1] == "data: [DONE]"


async def test_a_long_wait_for_the_first_text_is_filled_too(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SILENCE_S", 0.01)
    go = asyncio.Event()

    async def hold() -> None:
        await go.wait()

    async with (
        serve(lambda: FakeWorker(before_step=hold)) as server,
        server.http.post(server.url + "/v1/chat/completions", json=CHAT) as response,
    ):
        assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
        seen = []
        async for line in lines(response):
            seen.append(line)
            go.set()
    assert seen[0] == ": keep-alive"
    assert seen[-1] == "data: [DONE]"


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("opaque", [False, True])
async def test_a_failure_after_a_long_wait_is_an_error_event(
    serve: Any, monkeypatch: pytest.MonkeyPatch, raises: bool, opaque: bool
) -> None:
    monkeypatch.setattr(streaming, "SILENCE_S", 0.01)
    go = asyncio.Event()

    async def fail_late(_request: GenerateRequest, _on_route: OnRoute) -> AsyncIterator[list[Event]]:
        yield [STARTED]
        await go.wait()
        if raises:
            raise ModelLoadFailed("Not a model.")
        yield [Failed(Category.INTERNAL, "model_load_failed", "Not a model.")]

    async with serve(protection=ProtectionSettings(opaque_errors=opaque)) as server:
        server.dispatch.answer_batches = fail_late
        async with server.http.post(server.url + "/v1/chat/completions", json=CHAT) as response:
            assert response.status == 200
            seen = []
            async for line in lines(response):
                seen.append(line)
                go.set()
    *_, error, done = seen
    assert json.loads(error.removeprefix("data: "))["error"]["message"] == (OPAQUE if opaque else "Not a model.")
    assert done == "data: [DONE]"


async def test_a_client_that_does_not_read_is_cut_off(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "WRITE_TIMEOUT_S", 0.2)
    noticed = asyncio.Event()

    def watch(_logger: Any, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if entry["event"] == "client_stopped_reading":
            noticed.set()
        raise structlog.DropEvent

    structlog.configure(processors=[watch])

    def endless(request: GenerateRequest) -> bytes:
        return b"x" * 400

    async with serve(lambda: FakeWorker(answer=endless)) as server:
        body = json.dumps({"model": "m", "prompt": ["p"] * 60, "n": 16, "stream": True}).encode()
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            async with asyncio.timeout(20):
                await noticed.wait()
        assert server.dispatch.models()[0].worker.active == 0


async def test_an_exchange_without_a_terminal_event_fails(serve: Any) -> None:
    async with serve(catalog=None) as server:
        status, body = await server.post("/v1/chat/completions", CHAT)
        assert status == 503
        assert body["error"]["code"] == Category.UNAVAILABLE
