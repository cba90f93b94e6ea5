"""The shell around the lifecycle machine, over the fake worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest
import uvloop
from structlog.testing import capture_logs

from localai.mesh.errors import Category, ModelLoadFailed, RateLimited, SetupError
from localai.node import event_queue
from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Event,
    Failed,
    Finished,
    GenerateRequest,
    Progress,
    RequestId,
    Sampling,
    TextInput,
    Tokens,
)
from localai.node.supervisor import ModelSupervisor
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.connection import WorkerConnection, WorkerEnd
from localai.node.workers.frames import Ask, FromWorker, Hello, Load, ToWorker
from localai.node.workers.lifecycle import LifecycleConfig, State

LOAD = Load("m.gguf", 512, 2, 1)
FAST = LifecycleConfig(backoff_s=(0.0,), stop_timeout_s=0.2)


def ask(name: str, text: str = "hello", **changes: object) -> GenerateRequest:
    prompt = ChatInput((ChatMessage("user", text),))
    return GenerateRequest(RequestId(name), "m", prompt, Sampling(temperature=0), **changes)  # type: ignore[arg-type]  # the tests name real fields


class Farm:
    """Starts fake workers and keeps them."""

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        self.workers: list[FakeWorker] = []

    async def spawn(self) -> WorkerConnection:
        self.workers.append(FakeWorker(**self.fields))  # type: ignore[arg-type]  # the tests name real fields
        return self.workers[-1]


@asynccontextmanager
async def running(farm: Farm, config: LifecycleConfig = FAST) -> AsyncIterator[ModelSupervisor]:
    supervisor = ModelSupervisor("m", LOAD, farm.spawn, config)
    try:
        async with asyncio.timeout(20):
            yield supervisor
    finally:
        await supervisor.aclose()
        supervisor.validate()
        assert not supervisor._pending


async def collect(supervisor: ModelSupervisor, request: GenerateRequest) -> list[Event]:
    return [event async for batch in supervisor.answer_batches(request) for event in batch]


def text(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Tokens))


async def test_the_first_request_loads_the_model_and_is_answered() -> None:
    farm = Farm()
    async with running(farm) as supervisor:
        events = await collect(supervisor, ask("a"))
        assert events[0] == Progress("loading", 0, 1000)
        assert text(events) == b"hello"
        assert isinstance(events[-1], Finished)
        assert supervisor.statistics().state is State.READY
        assert farm.workers[0].sent[0] == LOAD


async def test_many_requests_at_once_each_get_one_end() -> None:
    farm = Farm()
    async with running(farm) as supervisor:
        answers = await asyncio.gather(*(collect(supervisor, ask(f"r{i}", f"text {i}")) for i in range(64)))
    assert [text(events) for events in answers] == [f"text {i}".encode() for i in range(64)]
    assert all(sum(isinstance(event, (Finished, Failed)) for event in events) == 1 for events in answers)
    assert len(farm.workers) == 1


async def test_closing_the_stream_cancels_the_work() -> None:
    farm = Farm()
    async with running(farm) as supervisor:
        async with aclosing(supervisor.answer_batches(ask("a", "x" * 400))) as batches:
            async for batch in batches:
                if text(batch):
                    break
        assert farm.workers[0].cancelled == [RequestId("a")]
        assert supervisor.statistics().active == 0


async def test_a_reader_that_is_cancelled_cancels_the_work() -> None:
    held = asyncio.Event()

    async def hold() -> None:
        held.set()
        await asyncio.Event().wait()

    farm = Farm(before_step=hold)
    async with running(farm) as supervisor:
        task = asyncio.create_task(collect(supervisor, ask("a")))
        await held.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert farm.workers[0].cancelled == [RequestId("a")]


async def test_a_dead_worker_fails_its_requests_and_the_next_is_served_by_another() -> None:
    farm = Farm()
    async with running(farm) as supervisor:
        events: list[Event] = []
        async for batch in supervisor.answer_batches(ask("a", "x" * 400)):
            events += batch
            if text(batch):
                farm.workers[0].die()
        last = events[-1]
        assert isinstance(last, Failed)
        assert (last.category, last.code) == (Category.UNAVAILABLE, "worker_lost")
        assert "signal 9" in last.message
        assert text(await collect(supervisor, ask("b"))) == b"hello"
        assert len(farm.workers) == 2


async def test_a_model_that_cannot_be_loaded_fails_with_its_reason() -> None:
    farm = Farm(load_error=ModelLoadFailed("Not a model."))
    async with running(farm) as supervisor:
        (_, failed) = await collect(supervisor, ask("a"))
        assert isinstance(failed, Failed)
        assert (failed.code, failed.message) == ("model_load_failed", "Not a model.")
        await supervisor.wait_state(State.BROKEN)
        (refused,) = await collect(supervisor, ask("b"))
        assert isinstance(refused, Failed)
        assert refused.code == "model_cooldown"
        assert refused.retry_after_s is not None


async def test_a_worker_that_cannot_be_started_ends_at_the_breaker() -> None:
    async def spawn() -> WorkerConnection:
        raise SetupError("No such program.")

    supervisor = ModelSupervisor("m", LOAD, spawn, FAST)
    last = (await collect(supervisor, ask("a")))[-1]
    assert isinstance(last, Failed)
    assert "3 times in a row" in last.message
    await supervisor.aclose()


async def test_a_missing_model_file_fails_at_once_with_its_reason() -> None:
    async def spawn() -> WorkerConnection:
        raise ModelLoadFailed("The file is missing.")

    supervisor = ModelSupervisor("m", LOAD, spawn, FAST)
    last = (await collect(supervisor, ask("a")))[-1]
    assert isinstance(last, Failed)
    assert last.message == "The file is missing."
    assert supervisor.statistics().state is State.BROKEN
    await supervisor.aclose()


async def test_a_worker_of_another_version_is_not_used() -> None:
    class Older(FakeWorker):
        def __post_init__(self) -> None:
            self._say(Hello(0, "fake", 0))

    async def spawn() -> WorkerConnection:
        return Older()

    supervisor = ModelSupervisor("m", LOAD, spawn, FAST)
    last = (await collect(supervisor, ask("a")))[-1]
    assert isinstance(last, Failed)
    await supervisor.aclose()


async def test_a_reader_that_stops_reading_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_queue, "MAX_UNREAD_EVENTS", 20)
    farm = Farm()
    async with running(farm) as supervisor:
        async with aclosing(supervisor.answer_batches(ask("slow", "x" * 400))) as batches:
            await anext(batches)
            assert text(await collect(supervisor, ask("other", "y" * 200))) == b"y" * 200
            rest = [event async for batch in batches for event in batch]
        assert isinstance(rest[-1], Failed)
        assert "too slowly" in rest[-1].message
        assert farm.workers[0].cancelled == [RequestId("slow")]


async def test_a_prompt_that_fits_no_frame_is_refused_and_nothing_stays_behind() -> None:
    farm = Farm()
    async with running(farm) as supervisor:
        await collect(supervisor, ask("warm"))
        huge = GenerateRequest(RequestId("big"), "m", TextInput("x" * (1 << 20)))
        (failed,) = await collect(supervisor, huge)
        assert isinstance(failed, Failed)
        assert failed.category is Category.TOO_LARGE
        assert text(await collect(supervisor, ask("after"))) == b"hello"
        assert supervisor.statistics().active == 0


async def test_preload_and_unload() -> None:
    farm = Farm()
    async with running(farm) as supervisor:
        supervisor.preload()
        await supervisor.wait_state(State.READY)
        supervisor.unload()
        await supervisor.wait_state(State.IDLE)
        assert text(await collect(supervisor, ask("a"))) == b"hello"
        assert len(farm.workers) == 2
        assert any("UnloadRequested" in line for line in supervisor.story())


async def test_closing_fails_what_is_open() -> None:
    held = asyncio.Event()

    async def hold() -> None:
        held.set()
        await asyncio.Event().wait()

    farm = Farm(before_step=hold)
    async with running(farm) as supervisor:
        task = asyncio.create_task(collect(supervisor, ask("a")))
        await held.wait()
        await supervisor.aclose()
        last = (await task)[-1]
        assert isinstance(last, Failed)
        assert "shutting down" in last.message


async def test_a_frozen_worker_is_killed_and_replaced() -> None:
    class Frozen(FakeWorker):
        """Says hello and nothing more."""

        def send(self, frame: object) -> None:
            pass

    frozen: list[FakeWorker] = []

    async def spawn() -> WorkerConnection:
        frozen.append(Frozen() if not frozen else FakeWorker())
        return frozen[-1]

    supervisor = ModelSupervisor("m", LOAD, spawn, LifecycleConfig(silence_timeout_s=0.1))
    assert text(await collect(supervisor, ask("a"))) == b"hello"
    assert len(frozen) == 2
    await supervisor.aclose()


async def test_a_mistake_while_starting_or_reading_is_an_end_like_any_other() -> None:
    class Confused(FakeWorker):
        async def receive(self) -> Sequence[FromWorker] | WorkerEnd:
            await super().receive()
            raise ZeroDivisionError("a mistake of ours")

    attempts = 0

    async def spawn() -> WorkerConnection:
        nonlocal attempts
        attempts += 1
        match attempts:
            case 1:
                raise OSError(24, "Too many open files")
            case 2:
                return Confused()
            case _:
                return FakeWorker()

    supervisor = ModelSupervisor("m", LOAD, spawn, FAST)
    async with asyncio.timeout(20):
        assert text(await collect(supervisor, ask("a"))) == b"hello"
        assert attempts == 3
        await supervisor.aclose()


async def test_a_mistake_in_every_start_does_not_keep_the_node_from_ending() -> None:
    async def spawn() -> WorkerConnection:
        raise OSError(24, "Too many open files")

    supervisor = ModelSupervisor("m", LOAD, spawn, FAST)
    async with asyncio.timeout(20):
        assert isinstance((await collect(supervisor, ask("a")))[-1], Failed)
        await supervisor.aclose()


async def test_a_path_that_cannot_be_sent_is_a_load_failure() -> None:
    farm = Farm()
    supervisor = ModelSupervisor("m", Load("bad-\udcff.gguf", 512, 2, 1), farm.spawn, FAST)
    async with asyncio.timeout(20):
        last = (await collect(supervisor, ask("a")))[-1]
        assert isinstance(last, Failed)
        assert "Rename" in last.message
        await supervisor.aclose()


async def test_a_worker_that_does_not_keep_up_refuses_with_a_time_to_come_back() -> None:
    class Full(FakeWorker):
        def send(self, frame: ToWorker) -> None:
            if isinstance(frame, Ask):
                raise RateLimited("It does not keep up.", retry_after_s=1.0)
            super().send(frame)

    async def spawn() -> WorkerConnection:
        return Full()

    supervisor = ModelSupervisor("m", LOAD, spawn, FAST)
    async with asyncio.timeout(20):
        last = (await collect(supervisor, ask("a")))[-1]
        assert isinstance(last, Failed)
        assert last.category is Category.RATE_LIMITED
        await asyncio.sleep(0)  # the machine is told in the loop's next round
        assert supervisor.statistics().active == 0
        await supervisor.aclose()


def test_a_time_that_has_passed_already_is_as_good_as_any_other() -> None:
    """After a suspended machine wakes up, everything is overdue; uvloop's handles are others then."""

    async def scenario() -> None:
        farm = Farm()
        async with running(farm, LifecycleConfig(backoff_s=(0.0,), silence_timeout_s=0.0)) as supervisor:
            (*_, failed) = await collect(supervisor, ask("a"))
            assert isinstance(failed, Failed)

    with capture_logs() as logs:
        uvloop.run(scenario())
    assert "worker_task_crashed" not in [line["event"] for line in logs]
