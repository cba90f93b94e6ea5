"""Executes what ``residency.py`` decides: makes room before loads, and watches what is loaded (shell)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil
import structlog

from localai.node.model_config import ModelConfig
from localai.node.residency import Evict, Load, Newcomer, ResidencyRules, Resident, Wait, make_room, watch
from localai.node.supervisor import ModelSupervisor
from localai.node.workers.lifecycle import State

_LOG = structlog.get_logger()

_LOADING = frozenset({State.STARTING, State.LOADING})
_RUNNING = _LOADING | {State.READY}
_NOT_STOPPING = tuple(state for state in State if state is not State.STOPPING)


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """What the machine has."""

    free_bytes: int
    used_share: float
    """0 to 1."""


def read_memory() -> MemoryReading:
    """The machine's memory now."""
    memory = psutil.virtual_memory()
    return MemoryReading(memory.available, memory.percent / 100)


@dataclass(slots=True)
class _Use:
    """How one model is used."""

    last_used: float
    running: dict[int, float] = field(default_factory=dict)
    """Number of a request -> when it began, in order."""


class ModelMemory:
    """The models of one node and their supervisors, by name."""

    def __init__(
        self,
        rules: ResidencyRules,
        supervisors: Mapping[str, ModelSupervisor],
        size_of: Callable[[ModelConfig], int],
        read: Callable[[], MemoryReading] = read_memory,
    ) -> None:
        self.rules = rules
        """What limits the models now."""
        self._supervisors = supervisors
        self._size_of = size_of
        self._read = read
        self._configs: dict[str, ModelConfig] = {}
        self._uses: dict[str, _Use] = {}
        self._retired: dict[str, ModelSupervisor] = {}
        self._numbers = itertools.count()
        self._deciding = asyncio.Lock()
        self._interval_s = 0.0
        self._changed = asyncio.Event()

    @contextmanager
    def using(self, config: ModelConfig) -> Iterator[None]:
        """A request is in the model inside the block."""
        self._configs[config.name] = config
        use = self._uses.setdefault(config.name, _Use(time.monotonic()))
        number = next(self._numbers)
        use.running[number] = use.last_used = time.monotonic()
        try:
            yield
        finally:
            del use.running[number]
            use.last_used = time.monotonic()

    def retire(self, name: str, supervisor: ModelSupervisor) -> str:
        """The supervisor of a model is to end, and another one may take its name: count it on its own from now on.

        Returns the name to :meth:`forget` when it has ended.
        """
        own_name = f"{name} (before its change, {next(self._numbers)})"
        self._retired[own_name] = supervisor
        self._configs[own_name] = self._configs.pop(name, ModelConfig(name, name))
        self._uses[own_name] = self._uses.pop(name, _Use(time.monotonic()))
        return own_name

    def forget(self, own_name: str) -> None:
        """A retired supervisor has ended."""
        for known in (self._retired, self._configs, self._uses):
            known.pop(own_name, None)

    async def load(self, config: ModelConfig) -> None:
        """See to it that the model is being loaded, after making room for it; returns when its worker starts."""
        supervisor = self._supervisors[config.name]
        self._configs[config.name] = config
        self._uses.setdefault(config.name, _Use(time.monotonic()))
        retries = 0
        while (state := supervisor.statistics().state) not in _RUNNING:
            if state is State.STOPPING:
                await supervisor.wait_state(*_NOT_STOPPING)  # whoever comes first may have begun the next load
                continue
            async with self._deciding:
                room = self._room(config, retries)
                match room:
                    case Evict(models=models):
                        await self._evict(models, config.name)
                    case Load(over_limit=over_limit):
                        if over_limit:
                            _LOG.warning("model_limit_exceeded", model=config.name, limit=self.rules.max_active)
                        supervisor.preload()
                        return
                    case Wait():
                        pass
            if isinstance(room, Wait):
                retries += 1
                await asyncio.sleep(room.seconds)

    def change(self, rules: ResidencyRules, interval_s: float) -> None:
        """From now on other rules, and another interval of ``keep_watch``."""
        self.rules, self._interval_s = rules, interval_s
        self._changed.set()

    async def keep_watch(self, interval_s: float) -> None:
        """Unload what is idle, hung, or too much, for ever. Sleeps while no rule asks for it."""
        self._interval_s = interval_s
        while True:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s if self._is_watching else None):
                    await self._changed.wait()
            if self._is_watching:
                self._look()

    @property
    def _is_watching(self) -> bool:
        rules = self.rules
        return not (rules.idle_s is None and rules.busy_s is None and rules.memory_threshold is None)

    def _look(self) -> None:
        for unload in watch(self._residents(), self.rules, self._read().used_share, time.monotonic()):
            _LOG.warning("model_unloaded", model=unload.model, reason=unload.reason, force=unload.force)
            self._supervisor(unload.model).unload(unload.reason)

    def _supervisor(self, name: str) -> ModelSupervisor:
        return self._retired.get(name) or self._supervisors[name]

    def _room(self, config: ModelConfig, retries: int) -> Load | Evict | Wait:
        newcomer = Newcomer(config.name, config.concurrency_groups, self._size_of(config))
        return make_room(newcomer, self._residents(), self.rules, retries, self._read().free_bytes)

    async def _evict(self, models: tuple[str, ...], newcomer: str) -> None:
        for model in models:
            _LOG.info("model_evicted", model=model, newcomer=newcomer)
            self._supervisor(model).unload(f"model '{newcomer}' needs its place")
        await asyncio.gather(*(self._supervisor(model).wait_state(*_NOT_STOPPING) for model in models))

    def _residents(self) -> list[Resident]:
        found = []
        for name, use in self._uses.items():
            config, supervisor = self._configs[name], self._retired.get(name) or self._supervisors.get(name)
            if supervisor is None or (state := supervisor.statistics().state) not in _RUNNING:
                continue
            found.append(
                Resident(
                    model=name,
                    last_used=use.last_used,
                    oldest_request=min(use.running.values(), default=None),
                    is_loading=state in _LOADING,
                    is_pinned=config.pinned,
                    groups=config.concurrency_groups,
                    memory_bytes=self._size_of(config),
                )
            )
        return found
