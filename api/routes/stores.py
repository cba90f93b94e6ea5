"""``POST`` to the vector stores of this node (shell).

They live in this process and are lost when it ends. One thread does all the arithmetic, one request after the other,
while the others are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from aiohttp import web

from localai.api.bodies import decode_body
from localai.api.operations import Operation
from localai.api.responses import json_response
from localai.api.routes.paths import add_route
from localai.api.schemas.stores import EntriesResponse, FindBody, KeysBody, MatchesResponse, SetBody, StoreBody
from localai.mesh.errors import Unsupported
from localai.node.vector_store import VectorStores

BACKEND = "local-store"
_ERRORS = (404, 409, 501)
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Stores:
    vectors: VectorStores = field(default_factory=VectorStores)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "stores"))


_STORES = web.AppKey("stores", _Stores)


def add_to(app: web.Application) -> None:
    """Register the paths of this file, and what they need."""
    app[_STORES] = _Stores()
    app.cleanup_ctx.append(_end_thread)
    for path, handler, operation in (
        ("set", set_entries, Operation(body=SetBody, empty=True, errors=_ERRORS)),
        ("get", get_entries, Operation(body=KeysBody, answer=EntriesResponse, errors=_ERRORS)),
        ("find", find_entries, Operation(body=FindBody, answer=MatchesResponse, errors=_ERRORS)),
        ("delete", delete, Operation(body=KeysBody, empty=True, errors=_ERRORS)),
    ):
        add_route(app.router, "POST", f"/stores/{path}", handler, operation)


async def set_entries(http: web.Request) -> web.Response:
    """Put texts in under their vectors."""
    body = decode_body(await http.read(), SetBody)
    await _run(http, body, _vectors(http).set, body.store, body.keys, body.values)
    return web.Response()


async def get_entries(http: web.Request) -> web.Response:
    """The texts of vectors that are there, in the order of the request."""
    body = decode_body(await http.read(), KeysBody)
    entries = await _run(http, body, _vectors(http).get, body.store, body.keys)
    return json_response(EntriesResponse([entry.key for entry in entries], [entry.value for entry in entries]))


async def find_entries(http: web.Request) -> web.Response:
    """The texts whose vectors are most like one."""
    body = decode_body(await http.read(), FindBody)
    matches = await _run(http, body, _vectors(http).find, body.store, body.key, body.topk)
    return json_response(
        MatchesResponse(
            [match.entry.key for match in matches],
            [match.entry.value for match in matches],
            [match.similarity for match in matches],
        )
    )


async def delete(http: web.Request) -> web.Response:
    """Take vectors and their texts out."""
    body = decode_body(await http.read(), KeysBody)
    await _run(http, body, _vectors(http).delete, body.store, body.keys)
    return web.Response()


def _vectors(http: web.Request) -> VectorStores:
    return http.app[_STORES].vectors


async def _run(http: web.Request, body: StoreBody, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    if body.backend not in ("", BACKEND):
        message = f"The only backend of stores here is '{BACKEND}'. Leave 'backend' out."
        raise Unsupported(message, code="unsupported_field", param="backend")
    return await asyncio.get_running_loop().run_in_executor(http.app[_STORES].thread, lambda: work(*args, **kwargs))


async def _end_thread(app: web.Application) -> AsyncIterator[None]:
    yield
    app[_STORES].thread.shutdown()
