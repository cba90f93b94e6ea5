from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from localai.api.dialects.answer import AnswerHead
from localai.api.dialects.completions import CompletionRenderer
from localai.api.dialects.exchange import Exchange
from localai.api.middleware import DISPATCHED
from localai.api.routes.answering import answer_exchange, answer_task, missing_model_begun, model_for
from localai.api.routes.model_jobs import JOBS
from localai.api.sse import NDJSON
from localai.api.state import DISPATCH, SETTINGS
from localai.mesh.errors import InvalidRequest, LocalAIError, Unavailable
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch
from localai.node.inference import (
    Detokenized,
    DetokenizeRequest,
    Finished,
    GenerateRequest,
    Progress,
    RequestId,
    TextInput,
    Tokenized,
    TokenizeRequest,
    Usage,
)
from localai.node.model_config import ModelConfig
from localai.node.option_values import Address
from localai.node.settings import InstallSettings, Settings
from localai.node.supervisor import ModelSupervisor
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.connection import WorkerConnection
from localai.node.workers.frames import Ask, Load
from localai.node.workers.lifecycle import LifecycleConfig

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MODELS = (ModelConfig("a", "a.gguf", embeddings=True), ModelConfig("b", "b.gguf"))


class Node:
    """A dispatch over one kind of fake worker, and a server for one handler."""

    def __init__(self) -> None:
        self.workers: list[FakeWorker] = []
        self.app = web.Application()

    def supervise(self, config: ModelConfig) -> ModelSupervisor:
        async def spawn() -> WorkerConnection:
            self.workers.append(FakeWorker())
            return self.workers[-1]

        return ModelSupervisor(config.name, Load("m", 512, 2, 1), spawn, LifecycleConfig(backoff_s=(0.0,)))

    def asked(self) -> list[Any]:
        """What workers were asked."""
        return [frame.request for worker in self.workers for frame in worker.sent if isinstance(frame, Ask)]


@asynccontextmanager
async def serving(handler: Handler, catalog: Catalog | None = None) -> AsyncIterator[tuple[TestClient[Any, Any], Node]]:
    node = Node()
    dispatch = Dispatch(node.supervise, catalog or Catalog(MODELS))
    node.app[DISPATCH] = dispatch
    node.app[SETTINGS] = Settings(Address("127.0.0.1", 0), Path("models"), Path("data"))
    for path in ("/", "/of/{model:.+}"):
        node.app.router.add_get(path, handler)
    try:
        async with TestClient(TestServer(node.app)) as client:
            yield client, node
    finally:
        await dispatch.aclose(0.0)


def generation(model: str = "b") -> Exchange:
    return Exchange((GenerateRequest(RequestId("r"), model, TextInput("hello")),))


@pytest.mark.parametrize(
    ("path", "named", "usecase", "model"),
    [
        ("/of/org/c?model=d", "e", "chat", "e"),
        ("/of/org/c?model=d", "", "chat", "org/c"),
        ("/?model=d", None, "chat", "d"),
        ("/", None, "chat", "b"),
        ("/", None, "embeddings", "a"),
        ("/", None, "tts", "a"),
    ],
)
async def test_which_model_is_meant(path: str, named: str | None, usecase: str, model: str) -> None:
    async def handler(http: web.Request) -> web.Response:
        return web.Response(text=model_for(http, named, usecase))

    async with serving(handler) as (client, _), client.get(path) as response:
        assert await response.text() == model


async def test_no_model_at_all() -> None:
    async def handler(http: web.Request) -> web.Response:
        return web.Response(text=model_for(http, None, "chat"))

    async with serving(handler, Catalog()) as (client, _), client.get("/") as response:
        assert await response.text() == ""


@pytest.mark.parametrize("stream", [False, True])
async def test_a_generation_whole_and_as_a_stream(stream: bool) -> None:
    dispatched: list[bool] = []

    async def handler(http: web.Request) -> web.StreamResponse:
        renderer = CompletionRenderer(AnswerHead("id", 1, "b", 1), ("",))
        response = await answer_exchange(http, generation(), renderer, stream=stream, form=NDJSON)
        dispatched.append(http[DISPATCHED])
        return response

    async with serving(handler) as (client, node):
        async with client.get("/", headers={"X-LocalAI-Local-Only": "true"}) as response:
            lines = (await response.text()).splitlines()
            assert response.content_type == ("application/x-ndjson" if stream else "application/json")
        bodies = [json.loads(line) for line in lines if line != "[DONE]"]
        assert "".join(choice["text"] for body in bodies for choice in body["choices"]) == "hello"
        assert [request.local_only for request in node.asked()] == [True]
        assert dispatched == [True]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_anything_was_sent_is_raised(stream: bool) -> None:
    caught: list[LocalAIError] = []

    async def handler(http: web.Request) -> web.StreamResponse:
        renderer = CompletionRenderer(AnswerHead("id", 1, "none", 1), ("",))
        try:
            return await answer_exchange(http, generation("none"), renderer, stream=stream)
        except LocalAIError as error:
            caught.append(error)
            return web.Response(status=400)

    async with serving(handler) as (client, _), client.get("/") as response:
        assert response.status == 400
        assert [error.code for error in caught] == ["model_not_found"]


async def test_a_task_gives_all_its_events_or_its_failure() -> None:
    found: list[Any] = []

    async def handler(http: web.Request) -> web.Response:
        found.append(await answer_task(http, TokenizeRequest(RequestId("r"), "b", "ab")))
        found.append(await answer_task(http, DetokenizeRequest(RequestId("s"), "b", (97,))))
        assert http[DISPATCHED]
        try:
            await answer_task(http, DetokenizeRequest(RequestId("t"), "b", (999,)))
        except InvalidRequest as error:
            found.append(error.param)
        return web.Response()

    async with serving(handler) as (client, _), client.get("/") as response:
        assert response.status == 200
        *results, param = found
        assert [[event for event in events if not isinstance(event, Progress)] for events in results] == [
            [Tokenized((97, 98)), Finished((), Usage(2, 0))],
            [Detokenized(b"a"), Finished((), Usage(1, 0))],
        ]
        assert param == "tokens"


async def test_only_a_missing_model_is_looked_for() -> None:
    caught: list[LocalAIError] = []
    errors = (InvalidRequest("Not there.", code="model_not_found"), InvalidRequest("Wrong."), Unavailable("Later."))

    async def handler(http: web.Request) -> web.Response:
        for error in errors:
            try:
                with missing_model_begun(http, "gallery/model"):
                    raise error
            except LocalAIError as raised:
                caught.append(raised)
        with missing_model_begun(http, "gallery/model"):
            pass
        return web.Response()

    async with serving(handler) as (client, _), client.get("/") as response:
        assert response.status == 200
        assert caught == list(errors)


async def test_a_missing_model_may_begin_to_be_installed(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "index.yaml").write_text("- {name: a/b, license: MIT, overrides: {parameters: {model: m.gguf}}}")
    galleries = json.dumps([{"name": "mine", "url": f"file://{tmp_path}/index.yaml"}])
    install = InstallSettings(galleries=galleries, autoload=True)
    async with serve(install=install, models_path=tmp_path, data_path=tmp_path) as server:
        for path, body in (("/v1/completions", {"prompt": "x"}), ("/v1/tokenize", {"content": "x"})):
            status, error = await server.post(path, {"model": "a/b", **body})
            assert (status, error["error"]["code"]) == (503, "model_installing")
        await server.app[JOBS].wait_idle()
