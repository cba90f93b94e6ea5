"""Probes and facts about this node (shell)."""

from __future__ import annotations

from aiohttp import web

from localai.api.operations import Operation
from localai.api.responses import json_response
from localai.api.routes.paths import add_route
from localai.api.schemas.system import LoadedModel, ModelState, NotReady, SystemBody, VersionBody
from localai.api.state import DISPATCH, SETTINGS, VERSION
from localai.node.dispatch import Phase
from localai.node.local_models import ModelStatus
from localai.node.workers.lifecycle import State
from localai.node.workers.process import BACKENDS

_REASONS = {Phase.STARTING: "startup preload in progress", Phase.CLOSING: "shutting down"}


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    add_route(router, "GET", "/healthz", healthz, Operation(empty=True))
    add_route(router, "GET", "/readyz", readyz, Operation(empty=True))
    add_route(router, "GET", "/version", version, Operation(answer=VersionBody))
    add_route(router, "GET", "/system", system, Operation(answer=SystemBody))


async def healthz(http: web.Request) -> web.Response:
    """The process lives."""
    return web.Response()


async def readyz(http: web.Request) -> web.Response:
    """Requests are taken."""
    phase = http.app[DISPATCH].phase
    if phase is Phase.READY:
        return web.Response()
    return json_response(NotReady(phase, _REASONS[phase]), status=503)


async def version(http: web.Request) -> web.Response:
    """Which program this is."""
    return json_response(VersionBody(http.app[VERSION]))


async def system(http: web.Request) -> web.Response:
    """Models and their workers."""
    dispatch = http.app[DISPATCH]
    states = [model_state(status) for status in dispatch.models()]
    loaded = [LoadedModel(state.id, state.backend) for state in states if state.state == State.READY]
    backends = [] if http.app[SETTINGS].entry_only else sorted(BACKENDS)
    return json_response(SystemBody(backends, loaded, http.app[VERSION], dispatch.phase, states))


def model_state(status: ModelStatus) -> ModelState:
    """A model's line in ``/system``."""
    config, worker = status.config, status.worker
    if worker is None:
        return ModelState(id=config.name, backend=config.backend, description=config.description, state=State.IDLE)
    facts, beat = worker.facts, worker.heartbeat
    return ModelState(
        id=config.name,
        backend=config.backend,
        description=config.description,
        state=worker.state,
        load_per_mille=worker.load_per_mille,
        active=worker.active,
        waiting=worker.waiting,
        slots=facts.slots if facts else 0,
        context_size=facts.context_size if facts else 0,
        prompt_tokens_total=beat.prompt_tokens_total if beat else 0,
        completion_tokens_total=beat.completion_tokens_total if beat else 0,
        problem=worker.last_problem,
    )
