from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client.parser import text_string_to_metric_families

from localai.api.metrics import Metrics, measure
from localai.mesh.testing.fake_link import FakeSwarm
from localai.node.answer_report import AnswerReport, Outcome
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch
from localai.node.inference import Usage
from localai.node.model_config import ModelConfig
from localai.node.supervisor import ModelSupervisor
from localai.node.testing.fake_node import fake_node
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.lifecycle import State

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((name, frozenset(labels.items())))


def supervise(config: ModelConfig) -> ModelSupervisor:
    raise AssertionError("nothing is asked")


def metrics(*models: str) -> Metrics:
    return Metrics(Dispatch(supervise, Catalog(tuple(ModelConfig(name, f"{name}.gguf") for name in models))))


async def test_requests_are_counted_by_route_model_and_status() -> None:
    counted = metrics("m")
    for path in ("/v1/chat/completions", "/v1/chat/completions/"):
        counted.saw_request("POST", path, "m", 200, 0.3)
    counted.saw_request("BREW", None, "", 404, 0.001)
    series = read(counted.render().decode())
    route = "/v1/chat/completions"
    assert value(series, "api_call_count", method="POST", path=route) == 2
    assert value(series, "api_call_bucket", method="POST", path=route, le="0.25") == 0
    assert value(series, "api_call_bucket", method="POST", path=route, le="0.5") == 2
    assert value(series, "localai_requests_total", route=route, model="m", status="200") == 2
    assert value(series, "api_call_count", method="other", path="") == 1
    assert value(series, "localai_requests_total", route="", model="", status="404") == 1


async def test_answers_are_counted_with_their_tokens_and_times() -> None:
    counted = metrics("m")
    counted.saw_answer(AnswerReport("m", Outcome.FINISHED, 2.0, 0.2, 0.004, Usage(10, 5, 4)))
    counted.saw_answer(AnswerReport("m", Outcome.FAILED, 2.0))
    series = read(counted.render().decode())
    assert value(series, "localai_answers_total", model="m", outcome="finished") == 1
    assert value(series, "localai_answers_total", model="m", outcome="failed") == 1
    assert value(series, "localai_tokens_total", served_model="m", kind="prompt") == 10
    assert value(series, "localai_tokens_total", served_model="m", kind="completion") == 5
    assert value(series, "localai_cached_tokens_total", served_model="m") == 4
    assert value(series, "localai_time_to_first_token_seconds_sum", model="m") == 0.2
    assert value(series, "localai_inter_token_seconds_bucket", model="m", le="0.005") == 1


async def test_names_that_clients_make_up_are_one_series() -> None:
    counted = metrics("m")
    for number in range(50):
        counted.saw_request("POST", "/v1/chat/completions", f"made-up-{number}", 400, 0.001)
        counted.saw_answer(AnswerReport(f"made-up-{number}", Outcome.FAILED, 0.1))
    text = counted.render().decode()
    assert "made-up" not in text
    assert value(read(text), "localai_answers_total", model="other", outcome="failed") == 50


async def test_the_process_is_there_and_nothing_has_a_date_of_its_own() -> None:
    text = metrics().render().decode()
    series = read(text)
    assert (value(series, "process_resident_memory_bytes") or 0) > 0
    assert (value(series, "process_open_fds") or 0) > 0
    assert "_created" not in text


async def test_what_the_node_knows_of_its_workers(serve: Any) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        began.set()
        await release.wait()

    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    async with serve(lambda: FakeWorker(before_step=wait)) as server:
        counted = Metrics(server.dispatch)
        asked = asyncio.create_task(server.post("/v1/chat/completions", body))
        await began.wait()
        series = read(counted.render().decode())
        assert value(series, "localai_in_flight") == 1
        assert value(series, "localai_active", model="m") == 1
        assert value(series, "localai_queue", model="m") == 0
        assert value(series, "localai_worker_state", model="m", state="ready") == 1
        assert sum(value(series, "localai_worker_state", model="m", state=state.value) or 0 for state in State) == 1
        assert value(series, "localai_worker_state", model="org/other", state="idle") is None
        release.set()
        assert (await asked)[0] == 200
        assert value(read(counted.render().decode()), "localai_in_flight") == 0


@pytest.mark.parametrize("model", ["m", None])
async def test_a_request_is_counted_once_with_the_model_it_means(serve: Any, model: str | None) -> None:
    async with serve() as server:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        assert (await server.post("/v1/chat/completions", body))[0] == 200
        await server.post("/v1/chat/completions/", {**body, "model": "nothing"})
        await server.get("/nowhere/at/all")
        for _ in range(2):
            async with server.http.get(server.url + "/metrics") as response:
                text = await response.text()
        series = read(text)
        route = "/v1/chat/completions"
        assert value(series, "localai_requests_total", route=route, model="m", status="200") == 1
        assert value(series, "localai_requests_total", route=route, model="other", status="400") == 1
        assert value(series, "localai_requests_total", route="", model="", status="404") == 1
        assert value(series, "localai_answers_total", model="m", outcome="finished") == 1
        assert value(series, "localai_tokens_total", served_model="m", kind="completion") == 5
        assert "/metrics" not in text


class WatchedMetrics(Metrics):
    """Says when it has counted a request."""

    def __init__(self) -> None:
        super().__init__(Dispatch(supervise, Catalog()))
        self.counted = asyncio.Event()

    def saw_request(self, method: str, pattern: str | None, model: str, status: int, seconds: float) -> None:
        super().saw_request(method, pattern, model, status, seconds)
        self.counted.set()


async def test_a_client_that_leaves_is_counted_too() -> None:
    began = asyncio.Event()

    async def hang(http: web.Request) -> web.Response:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    watched = WatchedMetrics()
    app = web.Application(middlewares=[measure(watched)])
    app.router.add_get("/slow", hang)
    server = TestServer(app)
    await server.start_server()
    try:
        _, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await began.wait()
        writer.close()
        await watched.counted.wait()
    finally:
        await server.close()
    series = read(watched.render().decode())
    assert value(series, "localai_requests_total", route="/slow", model="", status="499") == 1


async def test_peers_are_counted() -> None:
    swarm = FakeSwarm()
    async with fake_node(swarm, 1) as node, fake_node(swarm, 2, ["theirs"]):
        await node.wait_models("theirs")
        counted = Metrics(node.dispatch)
        counted.saw_request("POST", "/v1/chat/completions", "theirs", 200, 0.1)
        series = read(counted.render().decode())
        assert value(series, "localai_peers", state="connected") == 1
        assert value(series, "localai_peers", state="away") == 0
        assert value(series, "localai_sessions") == 1
        route = "/v1/chat/completions"
        assert value(series, "localai_requests_total", route=route, model="theirs", status="200") == 1
