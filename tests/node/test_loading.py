from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from localai.mesh.errors import Category, Unsupported
from localai.node.inference import Event, Failed, Finished, GenerateRequest, RequestId, TextInput, Tokens
from localai.node.loading import check_backend, default_threads, load_frame, missing_backends
from localai.node.model_config import ModelConfig, parse_definitions
from localai.node.option_values import Address
from localai.node.settings import DEFAULT_SLOTS, Settings
from localai.node.supervisor import ModelSupervisor
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.connection import WorkerConnection
from localai.node.workers.lifecycle import LifecycleConfig

BARE = ModelConfig("m", "sub/m.gguf")


def settings(**changes: int) -> Settings:
    return Settings(Address("127.0.0.1", 8080), Path("/models"), Path("/data"), **changes)  # type: ignore[arg-type]  # the tests name real fields


def test_without_any_wish_the_machine_decides() -> None:
    load = load_frame(BARE, settings(), cores=8)
    assert load.model_path == "/models/sub/m.gguf"
    assert (load.context_size, load.slots, load.threads) == (0, DEFAULT_SLOTS, 7)


def test_settings_of_the_node_count_where_the_model_says_nothing() -> None:
    load = load_frame(BARE, settings(threads=3, context_size=1000, slots=1), cores=8)
    assert (load.context_size, load.threads, load.slots) == (1000, 3, 1)


def test_the_definition_wins() -> None:
    config = ModelConfig("m", "m.gguf", context_size=512, threads=2, slots=16)
    load = load_frame(config, settings(threads=3, context_size=1000, slots=1), cores=8)
    assert (load.context_size, load.slots, load.threads) == (512, 16, 2)


@pytest.mark.parametrize(("slots", "side_by_side"), [(1, False), (2, True)])
async def test_a_definition_says_how_many_run_at_once_and_the_queue_is_bounded(slots: int, side_by_side: bool) -> None:
    """Three requests for room for two: what runs at once are the slots, and the third is told to come again."""
    text = f"{{name: m, parameters: {{model: m.gguf}}, options: ['parallel:{slots}']}}"
    (config,) = parse_definitions(text, "m.yaml").models
    order: list[str] = []

    async def spawn() -> WorkerConnection:
        return FakeWorker()

    async def ask(name: str) -> Event:
        request = GenerateRequest(RequestId(name), "m", TextInput("four"))
        last: Event | None = None
        async for batch in supervisor.answer_batches(request):
            for last in batch:
                if isinstance(last, Tokens):
                    order.extend(name * len(last.data))
        assert last is not None
        return last

    load = load_frame(config, settings(), cores=1)
    supervisor = ModelSupervisor("m", load, spawn, LifecycleConfig(max_requests=2))
    try:
        async with asyncio.timeout(20):
            first, second, third = await asyncio.gather(ask("a"), ask("b"), ask("c"))
    finally:
        await supervisor.aclose()
    assert isinstance(first, Finished)
    assert isinstance(second, Finished)
    assert isinstance(third, Failed)
    assert third.category is Category.RATE_LIMITED
    assert sorted(order) == list("aaaabbbb")
    assert (order != list("aaaabbbb")) is side_by_side


def test_the_trained_maximum_is_left_to_the_model() -> None:
    assert load_frame(BARE, settings(context_size=-1), cores=1).context_size == -1
    assert load_frame(BARE, settings(context_size=-5), cores=1).context_size == -1


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (8, 7)])
def test_one_core_stays_free(cores: int, threads: int) -> None:
    assert default_threads(cores) == threads


def test_a_backend_that_is_not_here_is_named() -> None:
    check_backend(BARE, frozenset({"llama-cpp"}))
    with pytest.raises(Unsupported, match=r"'vllm'.*llama-cpp"):
        check_backend(ModelConfig("m", "m", backend="vllm"), frozenset({"llama-cpp"}))


def test_backends_that_are_not_here_are_found() -> None:
    wanted = ("llama-cpp", "localai@llama-cpp", "LLAMA-CPP", "vllm", "mine@whisper", "/backends/x@llama-cpp")
    missing = ("vllm", "mine@whisper", "/backends/x@llama-cpp")
    assert missing_backends(wanted, frozenset({"llama-cpp"})) == missing
    assert missing_backends((), frozenset()) == ()
