"""The worker of one model: how it is, loading it, ending it (shell)."""

from __future__ import annotations

import asyncio

from aiohttp import web

from localai.api.bodies import decode_body
from localai.api.operations import Operation, Query
from localai.api.responses import json_response
from localai.api.routes.paths import add_route
from localai.api.schemas.monitor import BackendLoaded, BackendStatus, BackendStopped, MemoryUsage, NamedModel
from localai.api.state import DISPATCH
from localai.mesh.errors import InvalidRequest, NotFound
from localai.node.local_models import ModelStatus
from localai.node.process_memory import read_process_memory
from localai.node.workers.lifecycle import State, Statistics

PREFIXES = ("/backend", "/v1/backend")
_MONITOR = Operation(answer=BackendStatus, errors=(404,), query=(Query("model", "Name of the model."),))
_SHUTDOWN = Operation(body=NamedModel, answer=BackendStopped, errors=(404,))
_LOAD = Operation(body=NamedModel, answer=BackendLoaded, errors=(404, 500, 501))
_LOADING, _BUSY, _READY, _FAILED = 0, 1, 2, -1


def add_routes(router: web.UrlDispatcher) -> None:
    """Register the paths of this file."""
    for prefix in PREFIXES:
        add_route(router, "GET", f"{prefix}/monitor", monitor, _MONITOR)
        add_route(router, "POST", f"{prefix}/shutdown", shutdown, _SHUTDOWN)
        add_route(router, "POST", f"{prefix}/load", load, _LOAD)


async def monitor(http: web.Request) -> web.Response:
    """How the worker of a model is, and the memory it takes."""
    named = http.query.get("model", "") or decode_body(await http.read(), NamedModel).model
    if not named:
        raise InvalidRequest("model query parameter is required. Add ?model=NAME.", param="model")
    status = _status_here(http, named)
    worker = status.worker
    if worker is None or worker.state in (State.IDLE, State.CLOSED):
        message = f"backend {status.config.name} is not currently loaded. POST /backend/load loads it."
        raise NotFound(message, code="model_not_loaded", param="model")
    memory = await asyncio.to_thread(read_process_memory, status.pid) if status.pid else None
    usage = MemoryUsage(memory.total_bytes, memory.parts) if memory is not None else None
    state = _state_number(worker)
    return json_response(BackendStatus(state, usage, worker.last_problem if state == _FAILED else ""))


async def shutdown(http: web.Request) -> web.Response:
    """Take a model out of memory. What it is answering fails."""
    await http.app[DISPATCH].unload(await _named_here(http))
    return json_response(BackendStopped())


async def load(http: web.Request) -> web.Response:
    """Load a model into memory; the answer comes when it is there."""
    name = await _named_here(http)
    await http.app[DISPATCH].load(name)
    return json_response(BackendLoaded([name]))


async def _named_here(http: web.Request) -> str:
    named = decode_body(await http.read(), NamedModel).model
    if not named:
        raise InvalidRequest("model is required. Name it in the body.", code="missing_field", param="model")
    return _status_here(http, named).config.name


def _status_here(http: web.Request, named: str) -> ModelStatus:
    """A model of this machine.

    Raises:
        NotFound: it is not one.
        Unavailable: it is not known yet which there are.
    """
    dispatch = http.app[DISPATCH]
    dispatch.check_open()
    config = dispatch.catalog.find(named)
    for status in dispatch.models():
        if status.config == config:
            return status
    message = f"There is no model '{named[:100]}' on this machine. GET /system lists those that are."
    raise NotFound(message, code="model_not_found", param="model")


def _state_number(worker: Statistics) -> int:
    match worker.state:
        case State.READY:
            return _BUSY if worker.active else _READY
        case State.BACKOFF | State.BROKEN:
            return _FAILED
        case _:
            return _LOADING
