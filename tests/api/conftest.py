"""A real server over fake workers, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from localai.api.app import answer_headers, make_app
from localai.api.connection_rules import ConnectionLimits
from localai.api.server import GuardedRunner
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch
from localai.node.features import EVERYTHING, Feature
from localai.node.local_models import Resources
from localai.node.model_config import ModelConfig
from localai.node.option_values import Address
from localai.node.settings import Settings
from localai.node.supervisor import ModelSupervisor
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.connection import WorkerConnection
from localai.node.workers.frames import Load
from localai.node.workers.lifecycle import LifecycleConfig

LIMITS = ConnectionLimits()
CATALOG = Catalog((ModelConfig("m", "m.gguf"), ModelConfig("org/other", "o.gguf")))


@dataclass
class Server:
    """A running server."""

    url: str
    http: aiohttp.ClientSession
    dispatch: Dispatch
    app: web.Application
    workers: list[FakeWorker] = field(default_factory=list)

    async def post(self, path: str, body: Any, **options: Any) -> tuple[int, Any]:
        """Status and decoded JSON of a request."""
        async with self.http.post(self.url + path, json=body, **options) as response:
            return response.status, await response.json()

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        """Status and decoded JSON of a request."""
        async with self.http.get(self.url + path, **options) as response:
            return response.status, await response.json()


Serve = Callable[..., Any]


@pytest.fixture
def serve() -> Serve:
    """``async with serve(make_worker, settings..., catalog=..., features=...) as server``.

    ``features`` is what the backends are known to do before they are asked.
    """

    @asynccontextmanager
    async def serving(
        make: Callable[[], FakeWorker] = FakeWorker,
        catalog: Catalog | None = CATALOG,
        limits: ConnectionLimits = LIMITS,
        features: frozenset[Feature] = EVERYTHING,
        **settings: Any,
    ) -> AsyncIterator[Server]:
        workers: list[FakeWorker] = []

        def supervise(config: ModelConfig) -> ModelSupervisor:
            async def spawn() -> WorkerConnection:
                workers.append(make())
                return workers[-1]

            return ModelSupervisor(config.name, Load("m", 512, 2, 1), spawn, LifecycleConfig(backoff_s=(0.0,)))

        paths = {"models_path": Path("models"), "data_path": Path("data")}
        whole = Settings(Address("127.0.0.1", 0), **{**paths, **settings})
        resources = Resources(whole.residency, features_of=lambda _config: features)
        dispatch = Dispatch(supervise, catalog, resources=resources)
        app = make_app(dispatch, whole)
        runner = GuardedRunner(
            app,
            limits,
            headers=answer_headers(whole),
            max_body_bytes=whole.upload_limit_bytes,
            opaque=whole.protection.opaque_errors,
            shutdown_timeout_s=0.1,
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
                yield Server(url, http, dispatch, app, workers)
        finally:
            await dispatch.aclose(0.0)
            await runner.cleanup()

    return serving
