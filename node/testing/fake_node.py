"""A whole node in memory: a real dispatch over fake workers, in a fake swarm (asyncio shell)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from localai.mesh.ids import PeerId
from localai.mesh.testing.fake_link import FakeLink, FakeSwarm
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch, RoutingRules
from localai.node.model_config import ModelConfig
from localai.node.peers.peers import Peers, PeersTiming
from localai.node.peers.session import SessionTiming
from localai.node.peers.session_frames import PROTOCOL
from localai.node.supervisor import ModelSupervisor
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.connection import WorkerConnection
from localai.node.workers.frames import Load
from localai.node.workers.lifecycle import LifecycleConfig

QUICK = PeersTiming(look_s=0.01, reopen_s=(0.01,), session=SessionTiming(heartbeat_s=0.01))
"""Everything that comes in turns comes soon; nothing is given up sooner."""
LOAD = Load("m", 512, 2, 1)


@dataclass(slots=True)
class FakeNode:
    """One node and what it is made of."""

    dispatch: Dispatch
    peers: Peers
    link: FakeLink
    workers: list[FakeWorker] = field(default_factory=list)
    """Every worker that it has started, in order."""

    @property
    def peer_id(self) -> PeerId:
        """Who it is."""
        return self.link.peer_id

    async def wait_peers(self, condition: Callable[[Peers], bool]) -> None:
        """Wait until a condition on what it knows of others holds."""
        while not condition(self.peers):
            await self.peers.wait_changed()

    async def wait_models(self, *names: str) -> None:
        """Wait until the others offer exactly these models."""
        await self.wait_peers(lambda peers: peers.models() == set(names))


@asynccontextmanager
async def fake_node(
    swarm: FakeSwarm,
    seed: int,
    models: Sequence[str | ModelConfig] = (),
    make: Callable[[], WorkerConnection] = FakeWorker,
    *,
    rules: RoutingRules | None = None,
    timing: PeersTiming = QUICK,
    load: Load = LOAD,
) -> AsyncIterator[FakeNode]:
    """A node that has joined; it leaves at the end. ``make`` starts its workers, all with ``load``.

    A name in ``models`` is a model whose definition says nothing else.
    """
    workers: list[FakeWorker] = []

    def supervise(config: ModelConfig) -> ModelSupervisor:
        async def spawn() -> WorkerConnection:
            worker = make()
            if isinstance(worker, FakeWorker):
                workers.append(worker)
            return worker

        return ModelSupervisor(config.name, load, spawn, LifecycleConfig(backoff_s=(0.0,)))

    catalog = Catalog(
        tuple(each if isinstance(each, ModelConfig) else ModelConfig(each, f"{each}.gguf") for each in models)
    )
    dispatch = Dispatch(supervise, catalog, rules, "fake 1")
    link = swarm.link(seed, (PROTOCOL,))
    peers = Peers(link, dispatch, dispatch.record, "fake 1", timing)
    dispatch.connect(peers)
    try:
        yield FakeNode(dispatch, peers, link, workers)
    finally:
        await dispatch.aclose(0.0)
