"""The models of this machine, over fake workers: how busy each is said to be, and what answers teach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from localai.mesh.errors import InvalidRequest, ModelLoadFailed, NotFound, Unavailable, Unsupported
from localai.node import local_models as local_models_module
from localai.node.catalog import Catalog
from localai.node.features import Feature
from localai.node.inference import Event, Failed, Finished, GenerateRequest, RequestId, TextInput
from localai.node.local_models import LocalModels, Resources
from localai.node.model_config import ModelConfig
from localai.node.routing.replica import ReplicaLoad
from localai.node.supervisor import ModelSupervisor
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.connection import WorkerConnection
from localai.node.workers.frames import Load, ToWorker
from localai.node.workers.lifecycle import LifecycleConfig, State


async def never() -> None:
    """A step that does not come to its end."""
    await asyncio.Event().wait()


CATALOG = Catalog((ModelConfig("m", "m.gguf", slots=3, context_size=99), ModelConfig("other", "o.gguf")))


def ask(name: str, model: str = "m", text: str = "a text of some length", **changes: object) -> GenerateRequest:
    return GenerateRequest(RequestId(name), model, TextInput(text), **changes)  # type: ignore[arg-type]  # the tests name real fields


@asynccontextmanager
async def local_models(make: Callable[[], FakeWorker] = FakeWorker, size: int = 0) -> AsyncIterator[LocalModels]:
    def supervise(config: ModelConfig) -> ModelSupervisor:
        if config.backend != "llama-cpp":
            raise Unsupported("No such backend.")

        async def spawn() -> WorkerConnection:
            return make()

        return ModelSupervisor(config.name, Load("m", 512, 2, 1), spawn, LifecycleConfig(backoff_s=(0.0,)))

    models = LocalModels(supervise, CATALOG, Resources(size_of=lambda _: size, slots=7))
    try:
        async with asyncio.timeout(15):
            yield models
    finally:
        await models.aclose()


async def collect(models: LocalModels, request: GenerateRequest) -> list[Event]:
    return [event async for batch in models.answer_batches(request) for event in batch]


async def test_before_its_first_use_a_model_is_what_its_definition_says() -> None:
    async with local_models(size=2_200_000_000) as models:
        assert models.replicas() == (
            ReplicaLoad("m", context_size=99, slots=3, load_s=2.5),
            ReplicaLoad("other", slots=7, load_s=2.5),
        )
        assert models.replica("other") == models.replicas()[1]
        assert [status.worker for status in models.statuses()] == [None, None]


async def test_after_it_what_was_learnt() -> None:
    async with local_models(size=599_700_000_000) as models:
        await collect(models, ask("a"))
        replica = models.replica("m")
        assert (replica.context_size, replica.slots, replica.loaded, replica.active) == (512, 2, True, 0)
        assert 0 < replica.load_s < 600
        assert replica.prompt_tps > 0
        assert replica.decode_tps > 0
        assert models.replica("other") == ReplicaLoad("other", slots=7, load_s=600.0)


async def test_requests_in_work_and_waiting_are_counted() -> None:
    go = asyncio.Event()

    async def hold() -> None:
        await go.wait()

    async with local_models(lambda: FakeWorker(before_step=hold)) as models:
        asking = [asyncio.create_task(collect(models, ask(str(number)))) for number in range(4)]
        await models.supervisor(CATALOG.models[0]).wait_state(State.READY)
        assert models.replica("m").active == 4
        go.set()
        await asyncio.gather(*asking)
        assert models.replica("m").active == 0


async def test_a_model_that_cannot_be_loaded_refuses() -> None:
    changes: list[bool] = []
    async with local_models(lambda: FakeWorker(load_error=ModelLoadFailed("Broken."))) as models:
        models.on_change = lambda: changes.append(models.replica("m").refuses)
        (*_, failed) = await collect(models, ask("a"))
        assert isinstance(failed, Failed)
        await models.supervisor(CATALOG.models[0]).wait_state(State.BROKEN)
        replica = models.replica("m")
        assert (replica.refuses, replica.loaded) == (True, False)
        assert changes[-1] is True


async def test_changes_are_told_to_whoever_listens_now() -> None:
    """One that came after the model was first used, too."""
    changes: list[bool] = []
    async with local_models() as models:
        models.supervisor(CATALOG.models[0])
        models.on_change = lambda: changes.append(models.replica("m").loaded)
        await collect(models, ask("a"))
        assert changes[-1] is True


async def test_what_cannot_be_answered_is_an_error() -> None:
    async with local_models() as models:
        with pytest.raises(InvalidRequest):
            await collect(models, ask("a", "unknown"))
        models.catalog = Catalog((ModelConfig("m", "m.gguf", "another-backend"),))
        with pytest.raises(Unsupported):
            await collect(models, ask("a"))


async def test_one_supervisor_for_each_model() -> None:
    async with local_models() as models:
        first, second = CATALOG.models
        assert models.supervisor(first) is models.supervisor(first)
        assert models.supervisor(first) is not models.supervisor(second)


async def test_another_catalogue_ends_the_workers_of_what_is_gone_or_loaded_otherwise() -> None:
    async with local_models() as models:
        for name in ("m", "other"):
            await collect(models, ask(name, model=name))
        before = models.supervisor(CATALOG.models[0]), models.supervisor(CATALOG.models[1])
        models.replace(Catalog((ModelConfig("m", "m.gguf", slots=3, context_size=99, description="new words"),)))
        assert models.supervisor(models.catalog.models[0]) is before[0], "its worker is still right"
        await before[1].wait_state(State.CLOSED)
        models.replace(Catalog((ModelConfig("m", "another.gguf"),)))
        await before[0].wait_state(State.CLOSED)
        assert (await collect(models, ask("again")))[-1]
        assert models.supervisor(models.catalog.models[0]) is not before[0]


async def test_what_is_being_answered_is_answered_to_its_end() -> None:
    go = asyncio.Event()

    async def hold() -> None:
        await go.wait()

    async with local_models(lambda: FakeWorker(before_step=hold)) as models:
        before = models.supervisor(CATALOG.models[0])
        asking = asyncio.create_task(collect(models, ask("a")))
        await before.wait_state(State.READY)
        models.replace(CATALOG, renewed={"m.gguf"})
        assert models.supervisor(CATALOG.models[0]) is not before
        go.set()
        assert isinstance((await asking)[-1], Finished)
        await before.wait_state(State.CLOSED)


async def test_the_end_of_the_node_does_not_wait_for_them() -> None:
    async with local_models(lambda: FakeWorker(before_step=never)) as models:
        before = models.supervisor(CATALOG.models[0])
        asking = asyncio.create_task(collect(models, ask("a")))
        await before.wait_state(State.READY)
        models.replace(Catalog())
    assert isinstance((await asking)[-1], Failed)
    assert before.statistics().state is State.CLOSED


async def test_answers_that_take_too_long_are_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_models_module, "RETIRE_S", 0.0)
    async with local_models(lambda: FakeWorker(before_step=never)) as models:
        before = models.supervisor(CATALOG.models[0])
        asking = asyncio.create_task(collect(models, ask("a")))
        await before.wait_state(State.READY)
        models.replace(Catalog())
        (*_, failed) = await asking
        assert isinstance(failed, Failed)
        assert "its definition has changed or is gone" in failed.message


async def test_load_waits_for_the_model_and_unload_for_its_end() -> None:
    async with local_models(lambda: FakeWorker(pid=7)) as models:
        with pytest.raises(NotFound, match="POST /backend/load loads it"):
            await models.unload("m")
        await models.load("m")
        assert models.replica("m").loaded
        assert [status.pid for status in models.statuses()] == [7, 0]
        await models.load("m")
        await models.unload("m")
        assert [status.pid for status in models.statuses()] == [0, 0]
        with pytest.raises(NotFound):
            await models.unload("m")
        with pytest.raises(InvalidRequest):
            await models.load("nothing")


async def test_a_load_that_fails_says_why_and_so_does_the_next() -> None:
    async with local_models(lambda: FakeWorker(load_error=ModelLoadFailed("Not a model."))) as models:
        for _ in range(2):
            with pytest.raises(ModelLoadFailed, match=r"^failed to load model 'm': Not a model\.$"):
                await models.load("m")
        await models.unload("m")  # it may be tried again at once
        assert models.statuses()[0].worker is not None


class NeverLoaded(FakeWorker):
    """Takes for ever to load."""

    def send(self, frame: ToWorker) -> None:
        if not isinstance(frame, Load):
            super().send(frame)


async def test_a_load_that_somebody_ends_says_so() -> None:
    async with local_models(NeverLoaded) as models:
        loading = asyncio.create_task(models.load("m"))
        await models.supervisor(CATALOG.models[0]).wait_state(State.LOADING)
        await models.unload("m")
        with pytest.raises(Unavailable, match="was unloaded while it was being loaded"):
            await loading


async def test_what_a_model_can_do_is_known_before_it_is_loaded() -> None:
    def supervise(config: ModelConfig) -> ModelSupervisor:
        raise AssertionError("nothing is loaded")

    resources = Resources(features_of=lambda _: frozenset({Feature.EMBED}))
    models = LocalModels(supervise, Catalog((ModelConfig("m", "m.gguf"),)), resources)
    models.check_needed("m", {Feature.EMBED})
    for name in ("m", "m.gguf", ""):
        with pytest.raises(Unsupported, match=f"model '{name or 'm'}'"):
            models.check_needed(name, {Feature.MEDIA})
    with pytest.raises(InvalidRequest):
        models.check_needed("nobody", {Feature.EMBED})
