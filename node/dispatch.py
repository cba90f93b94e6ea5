"""Takes a request, chooses who answers it, and gives its events (shell).

Candidates are this machine and every peer that offers the model; ``routing`` decides. Nothing is committed to the
client before its first token, so until then a failing node is replaced without a trace.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Set
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
import structlog

from localai.mesh.errors import InvalidRequest, LocalAIError, NotFound, Unavailable
from localai.mesh.ids import PeerId, short_id
from localai.node.answer_report import AnswerReport, Outcome, token_gap_s
from localai.node.catalog import Catalog
from localai.node.features import Feature
from localai.node.inference import (
    Event,
    Failed,
    Finished,
    Request,
    Tokens,
    failed_from_error,
    is_terminal,
)
from localai.node.local_models import LocalModels, ModelStatus, Resources, Supervise
from localai.node.model_config import ModelConfig
from localai.node.peers.peers import Peers
from localai.node.peers.record import ModelRecord, NodeRecord
from localai.node.request_defaults import NO_DEFAULTS
from localai.node.residency import ResidencyRules
from localai.node.routing.decide import Choice, decide
from localai.node.routing.failover import Attempts
from localai.node.routing.replica import Candidate, ReplicaLoad
from localai.node.routing.score import work_of

_LOG = structlog.get_logger()


class Phase(StrEnum):
    """Where a node is in its life."""

    STARTING = "starting"
    READY = "ready"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers a request, and why."""

    node: str
    """Short id of the node."""
    is_local: bool
    candidates: int
    expected_s: float
    attempt: int
    """1 for the first try."""


@dataclass(frozen=True, slots=True)
class RoutingRules:
    """What limits the choice. ``serves`` says whether other members are answered at all."""

    serves: bool = True
    at_random: bool = False
    target: str = ""
    """Full or short id of the only member that may answer; empty for any."""


OnRoute = Callable[[Route], None]


def ignore_route(route: Route) -> None:
    """For callers that do not ask who answers."""


def _ignore_catalog(catalog: Catalog) -> None:
    """Nobody wants to know."""


def _ignore_report(report: AnswerReport) -> None:
    """Nobody counts."""


def _unknown_content(config: ModelConfig) -> bytes:
    """Nobody has hashed anything."""
    return b""


class Dispatch:
    """The node's front door for work."""

    def __init__(
        self,
        supervise: Supervise,
        catalog: Catalog | None = None,
        rules: RoutingRules | None = None,
        program: str = "",
        resources: Resources | None = None,
    ) -> None:
        self._local = LocalModels(supervise, catalog or Catalog(), resources)
        self._rules = rules or RoutingRules()
        self._program = program
        self._phase = Phase.STARTING if catalog is None else Phase.READY
        self._peers: Peers | None = None
        self.on_catalog: Callable[[Catalog], None] = _ignore_catalog
        """Told of the models whenever they have changed."""
        self.content_of: Callable[[ModelConfig], bytes] = _unknown_content
        """The hash of what a model is made of; empty while it is not known."""
        self.on_answer: Callable[[AnswerReport], None] = _ignore_report
        """Told of every answer at its end, those for peers too."""
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def catalog(self) -> Catalog:
        """What this machine can be asked for."""
        return self._local.catalog

    @property
    def phase(self) -> Phase:
        """Whether requests are taken."""
        return self._phase

    @property
    def is_busy(self) -> bool:
        """Whether an answer is under way, ours or a peer's."""
        return self._in_flight > 0

    @property
    def in_flight(self) -> int:
        """Answers that are under way, ours and those of peers."""
        return self._in_flight

    @property
    def residency(self) -> ResidencyRules:
        """Which models stay in memory."""
        return self._local.memory.rules

    def change_residency(self, rules: ResidencyRules, interval_s: float) -> None:
        """From now on other rules, looked at in this interval by ``keep_watch``."""
        self._local.memory.change(rules, interval_s)

    @property
    def peers(self) -> Peers | None:
        """The swarm; None when this node is alone."""
        return self._peers

    def open(self, catalog: Catalog, renewed: Set[str] = frozenset()) -> None:
        """Take requests for these models from now on; may be called again when they have changed.

        ``renewed`` names model files that are not what they were.
        """
        self._local.replace(catalog, renewed)
        self._phase = Phase.READY
        self.on_catalog(catalog)
        if self._peers is not None:
            self._peers.tell()

    def connect(self, peers: Peers) -> None:
        """Let peers answer too."""
        self._peers = peers
        self._local.on_change = peers.tell

    def announce(self) -> None:
        """What this node says of itself has changed: tell the swarm."""
        if self._peers is not None:
            self._peers.tell()

    def model_names(self) -> list[str]:
        """Everything that can be asked for, here or in the swarm, sorted."""
        names = set(self.catalog.names())
        return sorted(names | (self._peers.models() if self._peers is not None else set()))

    def find_model(self, name: str) -> str | None:
        """The name under which a model is listed; None when nobody has it."""
        if name in self.catalog.names():
            return name
        config = self.catalog.find(name)
        if config is not None:
            return config.name
        return name if self._peers is not None and name in self._peers.models() else None

    def default_model(self) -> str:
        """The name that a request without one means: our first, else the swarm's first; empty when there is none."""
        return next(iter([config.name for config in self.catalog.models] or self.model_names()), "")

    async def keep_watch(self, interval_s: float) -> None:
        """Unload models by the rules of ``residency.py``, for ever."""
        await self._local.memory.keep_watch(interval_s)

    async def preload(self, name: str) -> None:
        """Load a model of this machine into memory.

        Raises:
            LocalAIError: there is no such model here, or nothing can run it.
        """
        await self._local.preload(name)

    async def load(self, name: str) -> None:
        """Load a model of this machine into memory; returns when it is there.

        Raises:
            LocalAIError: there is no such model here, or it cannot be loaded.
        """
        self.check_open()
        await self._local.load(name)

    async def unload(self, name: str) -> None:
        """Take a model of this machine out of memory; returns when its worker has ended.

        Raises:
            NotFound: it is not loaded.
            LocalAIError: there is no such model here.
        """
        self.check_open()
        await self._local.unload(name)

    def check_open(self) -> None:
        """See that requests are taken.

        Raises:
            Unavailable: not yet, or not any more.
        """
        if self._phase is Phase.STARTING:
            raise Unavailable("This node is still installing its models. Try again soon.", retry_after_s=5.0)
        if self._phase is Phase.CLOSING:
            raise Unavailable("This node is shutting down. Ask another node, or try again later.")

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model of this machine with the state of its worker, in the catalogue's order."""
        return self._local.statuses()

    # What peers ask (the Service of a session)

    @property
    def serves(self) -> bool:
        """Whether other members are answered."""
        return self._rules.serves

    @property
    def draining(self) -> bool:
        """Whether this node is about to stop."""
        return self._phase is Phase.CLOSING

    def replicas(self) -> tuple[ReplicaLoad, ...]:
        """Models of this machine that members may use, and how busy they are."""
        return self._local.replicas() if self._phase is Phase.READY else ()

    def refuses(self, model: str) -> LocalAIError | None:
        """Why a member gets no answer from this model: it is private, which is said as if it were not there."""
        config = self.catalog.find(model)
        is_hidden = config is None or config.is_private  # an empty name would mean the first model, whatever that is
        return missing_model(model) if is_hidden and self._phase is Phase.READY else None

    def definition(self, name: str) -> ModelConfig:
        """What requests for a model mean where they say nothing; of a model of others, as far as they tell."""
        config = self.catalog.find(name)
        if config is None:
            peers = self._peers
            name = self.catalog.target(name)
            config = ModelConfig(name, name, defaults=peers.defaults(name) if peers is not None else NO_DEFAULTS)
        return config

    def record(self) -> NodeRecord:
        """What this node says of itself to the swarm."""
        models = tuple(
            ModelRecord(
                name=status.config.name,
                backend=status.config.backend,
                facts=status.worker.facts if status.worker else None,
                defaults=status.config.defaults if status.config.defaults != NO_DEFAULTS else None,
                content=self.content_of(status.config),
            )
            for status in (self.models() if self._phase is Phase.READY else ())
            if not status.config.is_private
        )
        return NodeRecord(program=self._program, serves=self.serves, draining=self.draining, models=models)

    # Requests

    def check_answerable(self, model: str, needed: Set[Feature] = frozenset(), *, local_only: bool = False) -> None:
        """See that a request could be answered, before work is put into it. Of members everything is expected.

        Raises:
            LocalAIError: nobody has the model.
            Unsupported: only this machine has it, and its backend cannot do what is needed.
        """
        candidates = self._candidates(model, local_only=local_only)
        if not candidates:
            raise self._nobody(model, local_only=local_only)
        if all(candidate.peer is None for candidate in candidates):
            self._local.check_needed(model, needed)

    async def answer_batches(
        self, request: Request, on_route: OnRoute = ignore_route
    ) -> AsyncGenerator[list[Event], None]:
        """The events of one request, all that are ready at a time, ending with exactly one terminal event.

        It never raises an error of ours. Closing the generator early stops the work. One log line tells how it went.
        ``on_route`` is told who answers, for each try.
        """
        account = _Account(request)

        def routed(route: Route) -> None:
            account.route = route
            on_route(route)

        self._enter()
        try:
            async with aclosing(self._attempts(request, routed)) as batches:
                async for batch in batches:
                    account.saw(batch)
                    yield batch
        finally:
            self._leave()
            account.log()
            self.on_answer(account.report())

    async def _attempts(self, request: Request, on_route: OnRoute) -> AsyncGenerator[list[Event], None]:
        attempts = Attempts()
        failed: Failed | None = None
        while True:
            try:
                choice = self._choose(request, attempts.excluded(failed) if attempts.tried else frozenset())
            except LocalAIError as error:
                yield [failed or failed_from_error(error)]
                return
            chosen = choice.chosen.candidate
            attempts.begin(chosen.peer)
            on_route(self._route(choice, len(attempts.tried)))
            async with aclosing(self._ask(chosen, request)) as batches:
                async for batch in batches:
                    if (failed := attempts.should_move_on(batch)) is not None:
                        _LOG.warning("request_moves_on", model=request.model, code=failed.code, error=failed.message)
                        break
                    if out := attempts.to_give_out(batch):
                        yield out
                else:
                    return

    async def _ask(self, candidate: Candidate, request: Request) -> AsyncGenerator[list[Event], None]:
        try:
            if candidate.peer is None:
                source = self._local.answer_batches(request)
            else:
                session = self._peers.session(candidate.peer) if self._peers is not None else None
                if session is None:
                    raise Unavailable("The node that was to answer is gone.", code="peer_lost")
                source = session.answer_batches(msgspec.structs.replace(request, model=candidate.load.model))
            async with aclosing(source) as batches:
                async for batch in batches:
                    yield batch
        except LocalAIError as error:
            yield [failed_from_error(error)]

    def _choose(self, request: Request, excluded: frozenset[PeerId | None]) -> Choice:
        """Who answers next.

        Raises:
            LocalAIError: nobody can; it says why.
        """
        if self._phase is Phase.CLOSING:
            raise Unavailable("This node is shutting down. Ask another node, or try again later.")
        candidates = [
            each for each in self._candidates(request.model, local_only=request.local_only) if each.peer not in excluded
        ]
        choice = decide(candidates, work_of(request), random.randrange, at_random=self._rules.at_random)
        if choice is None:
            raise self._nobody(request.model, local_only=request.local_only)
        return choice

    def _candidates(self, model: str, *, local_only: bool) -> list[Candidate]:
        peers = self._peers if not local_only else None
        target = self._target() if not local_only else None
        name = self.catalog.target(model or self.default_model())
        config = self.catalog.find(name)
        if config is not None and config.is_private:
            peers = None
        found: list[Candidate] = []
        if config is not None and target is None and self._phase is Phase.READY:
            load = self._local.replica(config.name)
            found.append(Candidate(None, load, load.active))
        if peers is not None:
            found += peers.candidates(config.name if config is not None else name)
        return found if target is None else [candidate for candidate in found if candidate.peer == target]

    def _target(self) -> PeerId | None:
        """The only member that may answer, if one is named.

        Raises:
            NotFound: it is not here.
        """
        if not self._rules.target:
            return None
        target = self._peers.find(self._rules.target) if self._peers is not None else None
        if target is None:
            message = f"Node not found: no member with the id '{self._rules.target[:80]}' is connected."
            raise NotFound(message, code="node_not_found")
        return target

    def _nobody(self, model: str, *, local_only: bool) -> LocalAIError:
        """Why no node can answer."""
        peers = self._peers if not local_only else None
        if self._phase is Phase.STARTING:
            return Unavailable("This node is still installing its models. Try again soon.", retry_after_s=5.0)
        if peers is not None and not self.catalog.models and not peers.models():
            message = "No node of the swarm that has models is connected yet. Try again soon."
            return Unavailable(message, code="no_nodes", retry_after_s=2.0)
        try:
            self.catalog.resolve(model)
        except InvalidRequest as error:
            if peers is None or not model:
                return error
            return missing_model(model)
        except LocalAIError as error:
            return error
        return Unavailable(f"No node can answer for model '{model[:100]}' now. Try again soon.", retry_after_s=1.0)

    def _route(self, choice: Choice, attempt: int) -> Route:
        chosen = choice.chosen
        peer = chosen.candidate.peer
        own = short_id(self._peers.peer_id) if self._peers is not None else ""
        return Route(
            node=short_id(peer) if peer is not None else own,
            is_local=peer is None,
            candidates=len(choice.considered),
            expected_s=chosen.estimate.total_s,
            attempt=attempt,
        )

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
        if self._peers is not None:
            self._peers.tell()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace_s)
        if self._in_flight:
            _LOG.warning("requests_cut_short", count=self._in_flight)
        await self._local.aclose()
        if self._peers is not None:
            await self._peers.aclose()


def missing_model(name: str) -> InvalidRequest:
    """There is no model of this name that the asker may use."""
    message = f"The model '{name[:100]}' does not exist here or in the swarm. Call GET /v1/models to see what does."
    return InvalidRequest(message, code="model_not_found", param="model")


@dataclass(slots=True)
class _Account:
    """What the log line of one request says."""

    request: Request
    route: Route | None = None
    _began: float = field(default_factory=time.monotonic)
    _first_token: float | None = None
    _end: Event | None = None
    _ended: float | None = None

    def saw(self, batch: list[Event]) -> None:
        if self._first_token is None and any(isinstance(event, Tokens) for event in batch):
            self._first_token = time.monotonic()
        if is_terminal(batch[-1]):
            self._end, self._ended = batch[-1], time.monotonic()

    def log(self) -> None:
        fields = self._fields(time.monotonic())
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

    def report(self) -> AnswerReport:
        ended = self._ended or time.monotonic()
        first_s = self._first_token - self._began if self._first_token is not None else None
        model, total_s = self.request.model, ended - self._began
        match self._end:
            case Finished(usage=usage):
                gap_s = None if first_s is None else token_gap_s(self.request, usage, total_s - first_s)
                return AnswerReport(model, Outcome.FINISHED, total_s, first_s, gap_s, usage)
            case Failed():
                return AnswerReport(model, Outcome.FAILED, total_s, first_s)
            case _:
                return AnswerReport(model, Outcome.ABANDONED, total_s, first_s)

    def _fields(self, now: float) -> dict[str, object]:
        ttft_ms = round((self._first_token - self._began) * 1000, 1) if self._first_token is not None else None
        fields: dict[str, object] = {
            "model": self.request.model,
            "ttft_ms": ttft_ms,
            "total_ms": round((now - self._began) * 1000, 1),
        }
        if (route := self.route) is not None and route.node:
            fields |= {
                "node": route.node if not route.is_local else "here",
                "candidates": route.candidates,
                "expected_s": round(route.expected_s, 2),
                "attempt": route.attempt,
            }
        return fields
