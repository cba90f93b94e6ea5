from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from localai.mesh.errors import ModelLoadFailed
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.lifecycle import State

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize("prefix", ["/backend", "/v1/backend"])
async def test_from_loading_to_its_end(serve: Any, prefix: str) -> None:
    async with serve(lambda: FakeWorker(pid=os.getpid())) as server:
        assert await server.post(f"{prefix}/load", {"model": "m"}) == (
            200,
            {"loaded": ["m"], "message": "model loaded"},
        )
        status, body = await server.get(f"{prefix}/monitor?model=m")
        assert (status, body["state"]) == (200, 2)
        assert body["memory"]["total"] == sum(body["memory"]["breakdown"].values()) > 0
        assert await server.post(f"{prefix}/shutdown", {"model": "m"}) == (200, {"message": "model stopped"})
        assert server.dispatch.models()[0].worker.state is State.IDLE
        status, body = await server.get(f"{prefix}/monitor?model=m")
        assert (status, body["error"]["code"]) == (404, "model_not_loaded")


async def test_the_old_form_of_the_question_is_a_body(serve: Any) -> None:
    async with serve() as server:
        await server.post("/backend/load", {"model": "m"})
        assert await server.get("/backend/monitor", json={"model": "m"}) == (200, {"state": 2})  # no process, no memory


async def test_a_process_that_has_gone_has_no_memory(serve: Any) -> None:
    async with serve(lambda: FakeWorker(pid=2**31 - 1)) as server:
        await server.post("/backend/load", {"model": "m"})
        assert await server.get("/backend/monitor?model=m") == (200, {"state": 2})


async def test_a_model_that_answers_is_busy(serve: Any) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        began.set()
        await release.wait()

    async with serve(lambda: FakeWorker(before_step=wait)) as server:
        await server.post("/backend/load", {"model": "m"})
        asked = asyncio.create_task(server.post("/v1/chat/completions", CHAT))
        await began.wait()
        assert await server.get("/backend/monitor?model=m") == (200, {"state": 1})
        release.set()
        assert (await asked)[0] == 200


async def test_a_load_that_fails_says_so_and_the_monitor_does_too(serve: Any) -> None:
    async with serve(lambda: FakeWorker(load_error=ModelLoadFailed("Not a model."))) as server:
        status, body = await server.post("/backend/load", {"model": "m"})
        assert (status, body["error"]["code"]) == (500, "model_load_failed")
        assert body["error"]["message"] == "failed to load model 'm': Not a model."
        status, body = await server.get("/backend/monitor?model=m")
        assert (status, body) == (200, {"state": -1, "problem": "Not a model."})


async def test_shutdown_ends_what_is_being_answered(serve: Any) -> None:
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    async with serve(lambda: FakeWorker(before_step=hang)) as server:
        asked = asyncio.create_task(server.post("/v1/chat/completions", {**CHAT, "stream": True}))
        await began.wait()
        assert (await server.post("/backend/shutdown", {"model": "m"}))[0] == 200
        status, body = await asked
        assert status == 503
        assert "was unloaded" in body["error"]["message"]


async def test_a_model_that_is_being_loaded(serve: Any) -> None:
    told = asyncio.Event()

    class NeverLoaded(FakeWorker):
        def send(self, frame: Any) -> None:
            """Take for ever to load."""
            told.set()

    async with serve(NeverLoaded) as server:
        loading = asyncio.create_task(server.post("/backend/load", {"model": "m"}))
        await told.wait()
        assert await server.get("/backend/monitor?model=m") == (200, {})
        assert (await server.post("/backend/shutdown", {"model": "m"}))[0] == 200
        status, body = await loading
        assert (status, "while it was being loaded" in body["error"]["message"]) == (503, True)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "words"),
    [
        ("GET", "/backend/monitor", None, 400, "invalid_request", "model query parameter is required"),
        ("GET", "/backend/monitor?model=x", None, 404, "model_not_found", "There is no model 'x' on this machine"),
        ("GET", "/backend/monitor?model=m", None, 404, "model_not_loaded", "backend m is not currently loaded"),
        ("POST", "/backend/shutdown", {}, 400, "missing_field", "model is required"),
        ("POST", "/backend/shutdown", {"model": "x"}, 404, "model_not_found", "GET /system lists"),
        ("POST", "/backend/shutdown", {"model": "m"}, 404, "model_not_loaded", "is not loaded"),
        ("POST", "/backend/load", {}, 400, "missing_field", "model is required"),
        ("POST", "/backend/load", {"model": "x"}, 404, "model_not_found", "There is no model 'x'"),
        ("POST", "/backend/load", {"model": 1}, 400, "invalid_type", "'model'"),
    ],
)
async def test_what_cannot_be_done(
    serve: Any, method: str, path: str, body: Any, status: int, code: str, words: str
) -> None:
    async with serve() as server:
        async with server.http.request(method, server.url + path, json=body) as response:
            answer = (await response.json())["error"]
            assert (response.status, answer["code"]) == (status, code)
        assert words in answer["message"]
        assert "model" in (answer["param"] or "")


async def test_before_the_models_are_there(serve: Any) -> None:
    async with serve(catalog=None) as server:
        status, body = await server.post("/backend/load", {"model": "m"})
        assert (status, body["error"]["code"]) == (503, "unavailable")
