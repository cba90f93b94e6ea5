"""The models of this machine: one supervisor each, started at first use (shell)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from localai.node.catalog import Catalog
from localai.node.catalog_changes import changes
from localai.node.inference import Finished, GenerateEvent, GenerateRequest
from localai.node.loading import DEFAULT_SLOTS, expected_load_s
from localai.node.model_config import ModelConfig
from localai.node.model_memory import ModelMemory
from localai.node.prepared_request import StopWordFilter, prepared_request
from localai.node.residency import ResidencyRules
from localai.node.routing.replica import ReplicaLoad
from localai.node.routing.speed import SpeedMeter
from localai.node.supervisor import ModelSupervisor
from localai.node.workers.lifecycle import State, Statistics

Supervise = Callable[[ModelConfig], ModelSupervisor]


def unknown_size(config: ModelConfig) -> int:
    """For callers that have no files."""
    return 0


@dataclass(frozen=True, slots=True)
class Resources:
    """What the models of this machine may take."""

    rules: ResidencyRules = field(default_factory=ResidencyRules)
    size_of: Callable[[ModelConfig], int] = unknown_size
    """Bytes of a model's file; 0 when nobody can tell."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model and its worker, if it has had one."""

    config: ModelConfig
    worker: Statistics | None


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
        self._retired: list[asyncio.Task[None]] = []
        self.memory = ModelMemory(self._resources.rules, self._supervisors, self._resources.size_of)

    def replace(self, catalog: Catalog) -> None:
        """Offer these models from now on. Workers of models that are gone, or are loaded otherwise now, end."""
        difference = changes(self.catalog, catalog)
        self.catalog = catalog
        for name in (*difference.removed, *difference.outdated):
            if (supervisor := self._supervisors.pop(name, None)) is not None:
                supervisor.unload("its definition has changed or is gone")
                self._retired.append(asyncio.create_task(supervisor.aclose()))
        self._retired = [task for task in self._retired if not task.done()]

    def statuses(self) -> tuple[ModelStatus, ...]:
        """Every model with the state of its worker, in the catalogue's order."""
        return tuple(ModelStatus(config, self._statistics(config.name)) for config in self.catalog.models)

    def replica(self, name: str) -> ReplicaLoad:
        """How busy a model of the catalogue is here."""
        config = next(config for config in self.catalog.models if config.name == name)
        return self._replica(ModelStatus(config, self._statistics(name)))

    def replicas(self) -> tuple[ReplicaLoad, ...]:
        """How busy all models are."""
        return tuple(map(self._replica, self.statuses()))

    def supervisor(self, config: ModelConfig) -> ModelSupervisor:
        """The supervisor of a model, started at its first use.

        Raises:
            Unsupported: no installed backend can run it.
        """
        if config.name not in self._supervisors:
            supervisor = self._supervisors[config.name] = self._supervise(config)
            supervisor.watch(self._changed)
        return self._supervisors[config.name]

    async def generate_batches(self, request: GenerateRequest) -> AsyncGenerator[list[GenerateEvent], None]:
        """The events of one request; see ``ModelSupervisor``.

        Raises:
            LocalAIError: there is no such model here, or nothing can run it.
        """
        config = self.catalog.resolve(request.model)
        request = prepared_request(request, config)
        stop_words = StopWordFilter(config, request.choices)
        supervisor = self.supervisor(config)
        with self.memory.using(config):
            if supervisor.statistics().state in (State.IDLE, State.STOPPING):
                await self.memory.load(config)
            async with aclosing(supervisor.generate_batches(request)) as batches:
                async for batch in batches:
                    if isinstance(last := batch[-1], Finished):
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

    async def aclose(self) -> None:
        """End all workers."""
        await asyncio.gather(*self._retired, *(supervisor.aclose() for supervisor in self._supervisors.values()))

    def _changed(self) -> None:
        self.on_change()

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
            slots=facts.slots if facts else config.slots or DEFAULT_SLOTS,
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
