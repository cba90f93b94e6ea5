"""Room for models, over fake workers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from structlog.testing import capture_logs

from localai.node.catalog import Catalog
from localai.node.inference import Event, Failed, Finished, GenerateRequest, RequestId, TextInput
from localai.node.local_models import LocalModels, Resources
from localai.node.model_config import ModelConfig
from localai.node.model_memory import MemoryReading, ModelMemory, read_memory
from localai.node.residency import ResidencyRules
from localai.node.supervisor import ModelSupervisor
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.connection import WorkerConnection
from localai.node.workers.frames import Load
from localai.node.workers.lifecycle import LifecycleConfig, State

NUMBERS = itertools.count()
CATALOG = Catalog(
    (
        ModelConfig("a", "a.gguf"),
        ModelConfig("b", "b.gguf"),
        ModelConfig("c", "c.gguf", pinned=True),
        ModelConfig("d", "d.gguf", concurrency_groups=frozenset({"gpu"})),
        ModelConfig("e", "e.gguf", concurrency_groups=frozenset({"gpu"})),
    )
)


@asynccontextmanager
async def machine(rules: ResidencyRules, hold: Callable[[], FakeWorker] = FakeWorker) -> AsyncIterator[LocalModels]:
    def supervise(config: ModelConfig) -> ModelSupervisor:
        async def spawn() -> WorkerConnection:
            return hold()

        return ModelSupervisor(config.name, Load("m", 512, 2, 1), spawn, LifecycleConfig(backoff_s=(0.0,)))

    models = LocalModels(supervise, CATALOG, Resources(rules))
    try:
        async with asyncio.timeout(15):
            yield models
    finally:
        await models.aclose()


async def ask(models: LocalModels, model: str, tokens: int = 3) -> list[Event]:
    request = GenerateRequest(RequestId(str(next(NUMBERS))), model, TextInput("hello"), max_tokens=tokens)
    return [event async for batch in models.answer_batches(request) for event in batch]


def loaded(models: LocalModels) -> list[str]:
    return [
        status.config.name
        for status in models.statuses()
        if status.worker is not None and status.worker.state is State.READY
    ]


async def test_the_least_recently_used_makes_room() -> None:
    async with machine(ResidencyRules(max_active=2)) as models:
        for model in "abab":
            await ask(models, model)
        assert loaded(models) == ["a", "b"]
        await ask(models, "d")
        assert loaded(models) == ["b", "d"]
        await ask(models, "a")
        assert loaded(models) == ["a", "d"]


async def test_pinned_ones_stay_and_the_limit_gives_way() -> None:
    async with machine(ResidencyRules(max_active=1, max_retries=0)) as models:
        await ask(models, "c")
        with capture_logs() as logs:
            assert isinstance((await ask(models, "a"))[-1], Finished)
        assert loaded(models) == ["a", "c"]
        assert "model_limit_exceeded" in [line["event"] for line in logs]


async def test_one_of_a_group_at_a_time() -> None:
    async with machine(ResidencyRules()) as models:
        for model in "ade":
            await ask(models, model)
        assert loaded(models) == ["a", "e"]


async def test_a_busy_model_is_waited_for() -> None:
    go = asyncio.Event()

    async def step() -> None:
        await go.wait()

    async with machine(
        ResidencyRules(max_active=1, retry_interval_s=0.01, max_retries=1000), lambda: FakeWorker(before_step=step)
    ) as models:
        first = asyncio.create_task(ask(models, "a"))
        await models.supervisor(CATALOG.models[0]).wait_state(State.READY)
        second = asyncio.create_task(ask(models, "b"))
        await asyncio.sleep(0)
        assert loaded(models) == ["a"]
        go.set()
        assert isinstance((await first)[-1], Finished)
        assert isinstance((await second)[-1], Finished)
        assert loaded(models) == ["b"]


async def test_many_models_at_once_never_exceed_the_limit() -> None:
    async with machine(ResidencyRules(max_active=1, retry_interval_s=0.001, max_retries=100_000)) as models:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(loaded(models)))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        ends = await asyncio.gather(*(ask(models, model) for _ in range(4) for model in "abd"))
        watching.cancel()
        assert most == 1
        assert all(isinstance(events[-1], Finished) for events in ends)


async def test_a_hung_request_is_ended_and_an_idle_model_unloaded() -> None:
    never = asyncio.Event()

    async def hang() -> None:
        await never.wait()

    rules = ResidencyRules(busy_s=0.05, idle_s=0.05)
    async with machine(rules, lambda: FakeWorker(before_step=hang)) as models:
        watching = asyncio.create_task(models.memory.keep_watch(0.01))
        events = await ask(models, "a")
        assert isinstance(events[-1], Failed)
        assert "has been running for more than 0.05 s" in events[-1].message
        await models.preload("b")
        await models.supervisor(CATALOG.models[1]).wait_state(State.READY)
        await models.supervisor(CATALOG.models[1]).wait_state(State.IDLE)
        watching.cancel()


async def test_full_memory_unloads_what_is_idle() -> None:
    async with machine(ResidencyRules()) as models:
        await ask(models, "a")
        memory = ModelMemory(
            ResidencyRules(memory_threshold=0.5), models._supervisors, lambda _: 1, lambda: MemoryReading(0, 0.9)
        )
        with memory.using(CATALOG.models[0]):
            pass
        watching = asyncio.create_task(memory.keep_watch(0.001))
        await models.supervisor(CATALOG.models[0]).wait_state(State.IDLE)
        watching.cancel()


async def test_rules_that_change_count_at_once() -> None:
    async with machine(ResidencyRules()) as models:
        await ask(models, "a")
        watching = asyncio.create_task(models.memory.keep_watch(1000.0))
        await asyncio.sleep(0)
        assert loaded(models) == ["a"]  # nobody watches
        models.memory.change(ResidencyRules(idle_s=1000.0), 1000.0)
        await asyncio.sleep(0)
        models.memory.change(ResidencyRules(idle_s=0.0), 1000.0)
        await models.supervisor(CATALOG.models[0]).wait_state(State.IDLE)
        assert models.memory.rules.idle_s == 0.0
        watching.cancel()


async def test_the_limit_that_has_changed_holds_for_the_next_model() -> None:
    async with machine(ResidencyRules()) as models:
        await ask(models, "a")
        models.memory.change(ResidencyRules(max_active=1), 1.0)
        await ask(models, "b")
        assert loaded(models) == ["b"]


async def test_a_client_that_leaves_while_it_waits_leaves_nothing() -> None:
    async with machine(ResidencyRules(max_active=1)) as models:
        await ask(models, "c")  # pinned: nobody else can come in
        request = GenerateRequest(RequestId("x"), "a", TextInput("hello"))
        async with aclosing(models.answer_batches(request)) as batches:
            waiting = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        assert loaded(models) == ["c"]


def test_the_machine_has_memory() -> None:
    reading = read_memory()
    assert reading.free_bytes > 0
    assert 0 < reading.used_share < 1


class SlowEnd(FakeWorker):
    """Takes its time to end."""

    def terminate(self) -> None:
        asyncio.get_running_loop().call_later(0.05, self._finish, 0)


async def test_requests_that_come_while_a_model_is_stopping_are_all_answered() -> None:
    async with machine(ResidencyRules(), SlowEnd) as models:
        await ask(models, "a")
        models.supervisor(CATALOG.models[0]).unload("to make room")
        answers = await asyncio.gather(*(ask(models, "a") for _ in range(3)))
        assert all(isinstance(answer[-1], Finished) for answer in answers)
        assert models.memory._residents()[0].oldest_request is None


async def test_workers_that_only_finish_their_answers_still_count() -> None:
    go = asyncio.Event()

    async def hold() -> None:
        await go.wait()

    rules = ResidencyRules(max_active=1, busy_s=0.0)
    async with machine(rules, lambda: FakeWorker(before_step=hold)) as models:
        before = models.supervisor(CATALOG.models[0])
        asking = asyncio.create_task(ask(models, "a"))
        await before.wait_state(State.READY)
        models.replace(CATALOG, renewed={"a.gguf"})
        (retired,) = models.memory._residents()
        assert retired.model.startswith("a (before its change")
        assert retired.oldest_request is not None
        models.memory._look()
        (*_, failed) = await asking
        assert isinstance(failed, Failed), "the watchdog ends the worker that is hung, not the one after it"
        await before.wait_state(State.CLOSED)
        go.set()
        assert isinstance((await ask(models, "a"))[-1], Finished)
        assert [resident.model for resident in models.memory._residents()] == ["a"]
