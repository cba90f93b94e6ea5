"""The front door, over fake workers: retries, phases, the log line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from structlog.testing import capture_logs

from localai.mesh.errors import Category
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Failed,
    Finished,
    GenerateEvent,
    GenerateRequest,
    RequestId,
    Sampling,
    Started,
    Tokens,
)
from localai.node.model_config import ModelConfig
from localai.node.supervisor import ModelSupervisor
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.connection import WorkerConnection
from localai.node.workers.frames import Load
from localai.node.workers.lifecycle import LifecycleConfig, State

CATALOG = Catalog((ModelConfig("m", "m.gguf"), ModelConfig("other", "o.gguf")))
Make = Callable[[], FakeWorker]


def ask(name: str, model: str = "m", text: str = "hello") -> GenerateRequest:
    prompt = ChatInput((ChatMessage("user", text),))
    return GenerateRequest(RequestId(name), model, prompt, Sampling(temperature=0))


@asynccontextmanager
async def node(
    make: Make = FakeWorker, catalog: Catalog | None = CATALOG, context_size: int = 512
) -> AsyncIterator[Dispatch]:
    def supervise(config: ModelConfig) -> ModelSupervisor:
        async def spawn() -> WorkerConnection:
            return make()

        load = Load(config.model_file, context_size, 2, 1)
        return ModelSupervisor(config.name, load, spawn, LifecycleConfig(backoff_s=(0.0,)))

    dispatch = Dispatch(supervise, catalog)
    try:
        async with asyncio.timeout(20):
            yield dispatch
    finally:
        await dispatch.aclose(0.0)


async def collect(dispatch: Dispatch, request: GenerateRequest) -> list[GenerateEvent]:
    return [event async for batch in dispatch.generate_batches(request) for event in batch]


def text(events: list[GenerateEvent]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Tokens))


async def test_an_answer_and_its_log_line() -> None:
    async with node() as dispatch:
        with capture_logs() as logs:
            events = await collect(dispatch, ask("a"))
        assert text(events) == b"hello"
        (line,) = [entry for entry in logs if entry["event"] == "request_finished"]
        assert (line["model"], line["prompt_tokens"], line["completion_tokens"]) == ("m", 12, 5)
        assert 0 < line["ttft_ms"] <= line["total_ms"]


async def test_models_are_listed_with_their_workers() -> None:
    async with node() as dispatch:
        assert [status.worker for status in dispatch.models()] == [None, None]
        await collect(dispatch, ask("a", "other"))
        first, second = dispatch.models()
        assert first.worker is None
        assert second.worker is not None
        assert second.worker.state is State.READY


async def test_an_unknown_model_is_one_failed_event() -> None:
    async with node() as dispatch:
        (failed,) = await collect(dispatch, ask("a", "nothing"))
        assert isinstance(failed, Failed)
        assert (failed.code, failed.param) == ("model_not_found", "model")


class Fragile:
    """Makes workers of which the first ``deaths`` die when they have produced ``after`` tokens."""

    def __init__(self, deaths: int, after: int) -> None:
        self.deaths = deaths
        self.after = after
        self.made: list[FakeWorker] = []

    def __call__(self) -> FakeWorker:
        if len(self.made) < self.deaths:
            steps = iter(range(self.after + 1))

            async def step() -> None:
                await asyncio.sleep(0)
                if next(steps, None) == self.after:
                    worker.die()
                    await asyncio.Event().wait()

            worker = FakeWorker(before_step=step)
        else:
            worker = FakeWorker()
        self.made.append(worker)
        return worker


async def test_a_worker_that_dies_before_the_first_token_is_not_noticed() -> None:
    fragile = Fragile(deaths=1, after=0)
    async with node(fragile) as dispatch:
        events = await collect(dispatch, ask("a"))
        assert text(events) == b"hello"
        assert sum(isinstance(event, Started) for event in events) == 1
        assert len(fragile.made) == 2


async def test_after_the_first_token_the_client_is_told() -> None:
    fragile = Fragile(deaths=1, after=2)
    async with node(fragile) as dispatch:
        events = await collect(dispatch, ask("a"))
        assert text(events) == b"he"
        last = events[-1]
        assert isinstance(last, Failed)
        assert (last.category, last.code) == (Category.UNAVAILABLE, "worker_lost")


async def test_only_so_many_tries() -> None:
    fragile = Fragile(deaths=2, after=0)
    async with node(fragile) as dispatch:
        (*_, last) = await collect(dispatch, ask("a"))
        assert isinstance(last, Failed)
        assert last.code == "worker_lost"


async def test_a_second_start_is_announced_once() -> None:
    class DiesAfterStarted(FakeWorker):
        """Ends as soon as it has begun, before any token."""

        def _emit(self, events: list[tuple[RequestId, GenerateEvent]]) -> None:
            super()._emit([item for item in events if not isinstance(item[1], (Tokens, Finished))])
            if any(isinstance(event, Started) for _, event in events):
                self.die()

    made: list[FakeWorker] = []

    def make() -> FakeWorker:
        made.append(FakeWorker() if made else DiesAfterStarted())
        return made[-1]

    async with node(make) as dispatch:
        events = await collect(dispatch, ask("a"))
        assert text(events) == b"hello"
        assert sum(isinstance(event, Started) for event in events) == 1


async def test_a_retry_that_only_starts_at_first_goes_on() -> None:
    """Two long prompts share a step: the second try of one of them begins with nothing but a Started."""
    made: list[FakeWorker] = []

    def make() -> FakeWorker:
        steps = iter(range(1))

        async def step() -> None:
            await asyncio.sleep(0)
            if worker is made[0] and next(steps, None) is None:
                worker.die()
                await asyncio.Event().wait()

        worker = FakeWorker(before_step=step, answer=lambda _: b"hi")
        made.append(worker)
        return worker

    async with node(make, context_size=2048) as dispatch:
        answers = await asyncio.gather(*(collect(dispatch, ask(name, text="x" * 700)) for name in "ab"))
        assert [text(events) for events in answers] == [b"hi", b"hi"]
        assert all(isinstance(events[-1], Finished) for events in answers)
        assert len(made) == 2


async def test_a_client_that_leaves_is_logged_and_cancelled() -> None:
    made: list[FakeWorker] = []

    def make() -> FakeWorker:
        made.append(FakeWorker())
        return made[-1]

    async with node(make) as dispatch:
        with capture_logs() as logs:
            async with aclosing(dispatch.generate_batches(ask("a", text="x" * 300))) as batches:
                async for batch in batches:
                    if text(batch):
                        break
        assert made[0].cancelled == [RequestId("a")]
        assert [entry["event"] for entry in logs if entry["event"].startswith("request_")] == ["request_abandoned"]


async def test_a_node_that_is_still_starting_says_so_and_then_opens() -> None:
    async with node(catalog=None) as dispatch:
        assert str(dispatch.phase) == "starting"
        (failed,) = await collect(dispatch, ask("a"))
        assert isinstance(failed, Failed)
        assert failed.retry_after_s == 5.0
        dispatch.open(CATALOG)
        assert str(dispatch.phase) == "ready"
        assert text(await collect(dispatch, ask("b"))) == b"hello"


async def test_closing_lets_running_answers_finish_and_refuses_new_ones() -> None:
    go = asyncio.Event()
    stepping = asyncio.Event()

    async def hold() -> None:
        stepping.set()
        await go.wait()

    async with node(lambda: FakeWorker(before_step=hold)) as dispatch:
        running = asyncio.create_task(collect(dispatch, ask("a")))
        await stepping.wait()
        closing = asyncio.create_task(dispatch.aclose(10.0))
        await asyncio.sleep(0)
        assert str(dispatch.phase) == "closing"
        (refused,) = await collect(dispatch, ask("b"))
        assert isinstance(refused, Failed)
        assert "shutting down" in refused.message
        go.set()
        assert text(await running) == b"hello"
        await closing


async def test_closing_fails_what_takes_too_long() -> None:
    stepping = asyncio.Event()

    async def hold() -> None:
        stepping.set()
        await asyncio.Event().wait()

    async with node(lambda: FakeWorker(before_step=hold)) as dispatch:
        running = asyncio.create_task(collect(dispatch, ask("a")))
        await stepping.wait()
        await dispatch.aclose(0.01)
        (*_, last) = await running
        assert isinstance(last, Failed)
        assert "shutting down" in last.message
