"""Takes a request, chooses who answers it, and gives its events (shell).

Today every answer comes from a worker on this machine. Peers join here: a choice among candidates in place of
the one supervisor, with the same rule that nothing is committed to the client before its first token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from enum import StrEnum

import structlog

from localai.mesh.errors import LocalAIError, Unavailable, WorkerLost
from localai.node.catalog import Catalog
from localai.node.inference import (
    Failed,
    Finished,
    GenerateEvent,
    GenerateRequest,
    Started,
    Tokens,
    failed_from_error,
    is_terminal,
)
from localai.node.model_config import ModelConfig
from localai.node.supervisor import ModelSupervisor
from localai.node.workers.lifecycle import Statistics

_LOG = structlog.get_logger()

ATTEMPTS = 2
"""Tries of one request while nothing of its answer has been given out."""


class Phase(StrEnum):
    """Where a node is in its life."""

    STARTING = "starting"
    READY = "ready"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model and its worker, if it has had one."""

    config: ModelConfig
    worker: Statistics | None


class Dispatch:
    """The node's front door for work."""

    def __init__(self, supervise: Callable[[ModelConfig], ModelSupervisor], catalog: Catalog | None = None) -> None:
        self._catalog = catalog or Catalog()
        self._phase = Phase.STARTING if catalog is None else Phase.READY
        self._supervise = supervise
        self._supervisors: dict[str, ModelSupervisor] = {}
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def catalog(self) -> Catalog:
        """What can be asked for here."""
        return self._catalog

    @property
    def phase(self) -> Phase:
        """Whether requests are taken."""
        return self._phase

    def open(self, catalog: Catalog) -> None:
        """Begin to take requests, for these models."""
        self._catalog = catalog
        self._phase = Phase.READY

    def default_model(self) -> str:
        """The name that a request without one means: the first in the catalogue; empty when there is none."""
        return next((config.name for config in self._catalog.models), "")

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model with the state of its worker, in the catalogue's order."""
        return tuple(
            ModelStatus(config, supervisor.statistics() if (supervisor := self._supervisors.get(config.name)) else None)
            for config in self._catalog.models
        )

    def supervisor(self, model: str) -> ModelSupervisor:
        """The supervisor of a model, started at its first use.

        Raises:
            InvalidRequest: there is no such model.
            Unsupported: no installed backend can run it.
            Unavailable: the node is stopping.
        """
        if self._phase is Phase.CLOSING:
            raise Unavailable("This node is shutting down. Ask another node, or try again later.")
        if self._phase is Phase.STARTING:
            raise Unavailable("This node is still installing its models. Try again soon.", retry_after_s=5.0)
        config = self._catalog.resolve(model)
        if config.name not in self._supervisors:
            self._supervisors[config.name] = self._supervise(config)
        return self._supervisors[config.name]

    async def generate_batches(self, request: GenerateRequest) -> AsyncGenerator[list[GenerateEvent], None]:
        """The events of one request, all that are ready at a time, ending with exactly one terminal event.

        It never raises an error of ours. Closing the generator early stops the work. One log line tells how it went.
        """
        account = _Account(request)
        self._enter()
        try:
            async with aclosing(self._attempts(request)) as batches:
                async for batch in batches:
                    account.saw(batch)
                    yield batch
        finally:
            self._leave()
            account.log()

    async def _attempts(self, request: GenerateRequest) -> AsyncGenerator[list[GenerateEvent], None]:
        attempt = _Attempt(retries_left=ATTEMPTS - 1)
        while True:
            try:
                supervisor = self.supervisor(request.model)
            except LocalAIError as error:
                yield [failed_from_error(error)]
                return
            async with aclosing(supervisor.generate_batches(request)) as batches:
                async for batch in batches:
                    if attempt.should_retry(batch):
                        _LOG.warning("request_retried", model=request.model)
                        break
                    if out := attempt.to_give_out(batch):
                        yield out
                else:
                    return

    # Ending

    def _enter(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()

    async def aclose(self, grace_s: float) -> None:
        """Refuse new requests, give running ones ``grace_s`` seconds, fail the rest, end all workers."""
        self._phase = Phase.CLOSING
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace_s)
        if self._in_flight:
            _LOG.warning("requests_cut_short", count=self._in_flight)
        await asyncio.gather(*(supervisor.aclose() for supervisor in self._supervisors.values()))


class _Attempt:
    """What has been given out of an answer so far, and so whether another try would be invisible."""

    def __init__(self, retries_left: int) -> None:
        self._retries_left = retries_left
        self._started = False
        self._committed = False

    def should_retry(self, batch: list[GenerateEvent]) -> bool:
        """True, once per retry, when the worker died before any token: ask again instead of passing this on."""
        last = batch[-1]
        if not isinstance(last, Failed) or last.code != WorkerLost.default_code or not self._retries_left:
            return False
        if self._committed or any(isinstance(event, Tokens) for event in batch):
            return False
        self._retries_left -= 1
        return True

    def to_give_out(self, batch: list[GenerateEvent]) -> list[GenerateEvent]:
        """The batch without a second Started; it may be empty then."""
        self._committed = self._committed or any(isinstance(event, Tokens) for event in batch)
        if not any(isinstance(event, Started) for event in batch):
            return batch
        again, self._started = self._started, True
        return [event for event in batch if not (again and isinstance(event, Started))]


class _Account:
    """What the log line of one request says."""

    def __init__(self, request: GenerateRequest) -> None:
        self._request = request
        self._began = time.monotonic()
        self._first_token: float | None = None
        self._end: GenerateEvent | None = None

    def saw(self, batch: list[GenerateEvent]) -> None:
        if self._first_token is None and any(isinstance(event, Tokens) for event in batch):
            self._first_token = time.monotonic()
        if is_terminal(batch[-1]):
            self._end = batch[-1]

    def log(self) -> None:
        now = time.monotonic()
        ttft_ms = round((self._first_token - self._began) * 1000, 1) if self._first_token is not None else None
        fields = {"model": self._request.model, "ttft_ms": ttft_ms, "total_ms": round((now - self._began) * 1000, 1)}
        match self._end:
            case Finished(usage=usage):
                _LOG.info(
                    "request_finished",
                    **fields,
                    prompt_tokens=usage.prompt_tokens,
                    cached_tokens=usage.cached_tokens,
                    completion_tokens=usage.completion_tokens,
                )
            case Failed(code=code, message=message):
                _LOG.warning("request_failed", **fields, code=code, error=message)
            case _:
                _LOG.info("request_abandoned", **fields)
