"""The models of this machine: one supervisor each, started at first use (shell)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Set
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field

from localai.mesh.errors import ModelLoadFailed, NotFound, Unavailable
from localai.node.catalog import Catalog
from localai.node.catalog_changes import changes
from localai.node.features import EVERYTHING, Feature, check_features, check_needed
from localai.node.inference import Event, Finished, GenerateRequest, Request
from localai.node.loading import expected_load_s
from localai.node.model_config import ModelConfig
from localai.node.model_memory import ModelMemory
from localai.node.prepared_request import StopWordFilter, prepared_task
from localai.node.residency import ResidencyRules
from localai.node.routing.replica import ReplicaLoad
from localai.node.routing.speed import SpeedMeter
from localai.node.settings import DEFAULT_SLOTS
from localai.node.supervisor import ModelSupervisor
from localai.node.workers.lifecycle import State, Statistics

Supervise = Callable[[ModelConfig], ModelSupervisor]


def unknown_size(config: ModelConfig) -> int:
    """For callers that have no files."""
    return 0


def everything(config: ModelConfig) -> frozenset[Feature]:
    """For callers whose workers refuse by themselves."""
    return EVERYTHING


@dataclass(frozen=True, slots=True)
class Resources:
    """What the models of this machine may take."""

    rules: ResidencyRules = field(default_factory=ResidencyRules)
    size_of: Callable[[ModelConfig], int] = unknown_size
    """Bytes of a model's file; 0 when nobody can tell."""
    slots: int = DEFAULT_SLOTS
    """Requests that a model that does not say it answers side by side."""
    features_of: Callable[[ModelConfig], frozenset[Feature]] = everything
    """What the backend of a model can do."""


_SETTLED = (State.READY, State.IDLE, State.BROKEN, State.CLOSED)
_NOT_STOPPING = tuple(state for state in State if state is not State.STOPPING)
RETIRE_S = 60.0
"""What running answers get when their model has changed or is gone."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model and its worker, if it has had one."""

    config: ModelConfig
    worker: Statistics | None
    pid: int = 0
    """Its process; 0 when there is none."""


class LocalModels:
    """Runs requests here."""

    def __init__(
        self,
        supervise: Supervise,
        catalog: Catalog,
        resources: Resources | None = None,
    ) -> None:
        self.catalog = catalog
        """What can be asked for."""
        self.on_change: Callable[[], None] = _ignore
        """Called when a model is loaded, lost, or refuses requests."""
        self._supervise = supervise
        self._resources = resources or Resources()
        self._supervisors: dict[str, ModelSupervisor] = {}
        self._speeds: dict[str, SpeedMeter] = {}
        self._in_use: Counter[ModelSupervisor] = Counter()
        self._released = asyncio.Event()
        self._retired: dict[ModelSupervisor, asyncio.Task[None]] = {}
        self.memory = ModelMemory(self._resources.rules, self._supervisors, self._resources.size_of)

    def replace(self, catalog: Catalog, renewed: Set[str] = frozenset()) -> None:
        """Offer these models from now on. Workers of models that are gone, are loaded otherwise now, or whose file is
        in ``renewed`` end as soon as they have answered what they were asked, at latest after :data:`RETIRE_S`."""
        difference = changes(self.catalog, catalog)
        files_changed = [
            config.name
            for config in self.catalog.models
            if not renewed.isdisjoint((config.model_file, *config.companion_files))
        ]
        self.catalog = catalog
        for name in {*difference.removed, *difference.outdated, *files_changed}:
            if (supervisor := self._supervisors.pop(name, None)) is not None:
                counted_as = self.memory.retire(name, supervisor)
                self._retired[supervisor] = asyncio.create_task(self._retire(supervisor, counted_as))

    def statuses(self) -> tuple[ModelStatus, ...]:
        """Every model with the state of its worker, in the catalogue's order."""
        return tuple(self._status(config) for config in self.catalog.models)

    def replica(self, name: str) -> ReplicaLoad:
        """How busy a model of the catalogue is here."""
        config = next(config for config in self.catalog.models if config.name == name)
        return self._replica(ModelStatus(config, self._statistics(name)))

    def replicas(self) -> tuple[ReplicaLoad, ...]:
        """How busy the models are that others may use."""
        return tuple(self._replica(status) for status in self.statuses() if not status.config.is_private)

    def check_needed(self, model: str, needed: Set[Feature]) -> None:
        """See that a model can do what is needed.

        Raises:
            LocalAIError: there is no such model here.
            Unsupported: its backend cannot.
        """
        config = self.catalog.resolve(model)
        check_needed(needed, self._resources.features_of(config), model or config.name, config.backend)

    def supervisor(self, config: ModelConfig) -> ModelSupervisor:
        """The supervisor of a model, started at its first use.

        Raises:
            Unsupported: no installed backend can run it.
        """
        if config.name not in self._supervisors:
            supervisor = self._supervisors[config.name] = self._supervise(config)
            supervisor.watch(self._changed)
        return self._supervisors[config.name]

    async def answer_batches(self, request: Request) -> AsyncGenerator[list[Event], None]:
        """The events of one request; see ``ModelSupervisor``.

        Raises:
            LocalAIError: there is no such model here, or nothing can run it.
        """
        config = self.catalog.resolve(request.model)
        check_features(request, self._resources.features_of(config), config.backend)
        request = prepared_task(request, config)
        choices = request.choices if isinstance(request, GenerateRequest) else 0
        stop_words = StopWordFilter(config, choices)
        supervisor = self.supervisor(config)
        with self.memory.using(config), self._using(supervisor):
            if supervisor.statistics().state in (State.IDLE, State.STOPPING):
                await self.memory.load(config)
            async with aclosing(supervisor.answer_batches(request)) as batches:
                async for batch in batches:
                    if isinstance(last := batch[-1], Finished) and last.reasons:
                        meter = self._speeds.setdefault(config.name, SpeedMeter())
                        meter.finished(last, _streams(supervisor.statistics()))
                    yield stop_words.feed(batch)

    async def preload(self, name: str) -> None:
        """Load a model now.

        Raises:
            LocalAIError: there is no such model here, or nothing can run it.
        """
        config = self.catalog.resolve(name)
        self.supervisor(config)
        await self.memory.load(config)

    async def load(self, name: str) -> None:
        """Load a model; returns when it is in memory.

        Raises:
            LocalAIError: there is no such model here, or it cannot be loaded.
        """
        config = self.catalog.resolve(name)
        supervisor = self.supervisor(config)
        await self.memory.load(config)
        state = await supervisor.wait_state(*_SETTLED)
        if state is State.BROKEN:
            problem = supervisor.statistics().last_problem or "it is refused for a while. See the log of this node."
            raise ModelLoadFailed(f"failed to load model '{config.name}': {problem}")
        if state is not State.READY:
            message = f"Model '{config.name}' was unloaded while it was being loaded. Ask again to load it."
            raise Unavailable(message, retry_after_s=1.0)

    async def unload(self, name: str) -> None:
        """Take a model out of memory; returns when its worker has ended. What it is answering fails.

        Raises:
            NotFound: it is not loaded.
            LocalAIError: there is no such model here.
        """
        config = self.catalog.resolve(name)
        supervisor = self._supervisors.get(config.name)
        if supervisor is None or supervisor.statistics().state in (State.IDLE, State.CLOSED):
            message = f"Model '{config.name}' is not loaded. POST /backend/load loads it."
            raise NotFound(message, code="model_not_loaded", param="model")
        supervisor.unload("somebody asked for it")
        await supervisor.wait_state(*_NOT_STOPPING)

    async def aclose(self) -> None:
        """End all workers."""
        retired = dict(self._retired)
        for task in retired.values():
            task.cancel()
        await asyncio.gather(*retired.values(), return_exceptions=True)
        await asyncio.gather(*(supervisor.aclose() for supervisor in (*retired, *self._supervisors.values())))

    @contextmanager
    def _using(self, supervisor: ModelSupervisor) -> Iterator[None]:
        self._in_use[supervisor] += 1
        try:
            yield
        finally:
            self._in_use[supervisor] -= 1
            if not self._in_use[supervisor]:
                del self._in_use[supervisor]
                self._released.set()

    async def _retire(self, supervisor: ModelSupervisor, counted_as: str) -> None:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETIRE_S):
                    while supervisor in self._in_use:
                        self._released.clear()
                        await self._released.wait()
        except asyncio.CancelledError:
            pass  # the node stops: no more waiting
        supervisor.unload("its definition has changed or is gone")
        await supervisor.aclose()
        self.memory.forget(counted_as)
        del self._retired[supervisor]

    def _changed(self) -> None:
        self.on_change()

    def _status(self, config: ModelConfig) -> ModelStatus:
        supervisor = self._supervisors.get(config.name)
        return ModelStatus(config, supervisor.statistics(), supervisor.pid) if supervisor else ModelStatus(config, None)

    def _statistics(self, name: str) -> Statistics | None:
        supervisor = self._supervisors.get(name)
        return supervisor.statistics() if supervisor else None

    def _load_s(self, config: ModelConfig) -> float:
        supervisor = self._supervisors.get(config.name)
        if supervisor is not None and supervisor.last_load_s:
            return supervisor.last_load_s
        size = self._resources.size_of(config)
        return expected_load_s(size) if size else 0.0

    def _replica(self, status: ModelStatus) -> ReplicaLoad:
        config, worker = status.config, status.worker
        facts = worker.facts if worker else None
        meter = self._speeds.get(config.name) or SpeedMeter()
        return ReplicaLoad(
            model=config.name,
            context_size=facts.context_size if facts else max(0, config.context_size or 0),
            slots=facts.slots if facts else config.slots or self._resources.slots,
            active=worker.active + worker.waiting if worker else 0,
            loaded=worker is not None and worker.state is State.READY,
            refuses=worker is not None and worker.state is State.BROKEN,
            load_s=self._load_s(config),
            prompt_tps=meter.prompt_tps,
            decode_tps=meter.decode_tps,
        )


def _ignore() -> None:
    """Nobody wants to know."""


def _streams(worker: Statistics) -> int:
    """Requests in the engine's slots; the one that has just ended is not counted any more."""
    slots = worker.facts.slots if worker.facts else 1
    return min(worker.active + 1, slots)
