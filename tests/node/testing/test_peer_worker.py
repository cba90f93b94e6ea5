"""A peer keeps the promises of a worker: the same suite runs over a session, with a fake or a real worker behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from localai.mesh.errors import ModelLoadFailed, Unavailable, WireError
from localai.mesh.testing.fake_link import FakeSwarm
from localai.node.inference import GenerateRequest, RequestId, Tokens
from localai.node.testing.check_worker import chat, check_worker
from localai.node.testing.fake_node import FakeNode, fake_node
from localai.node.testing.fake_worker import FakeWorker
from localai.node.testing.peer_worker import PeerWorker, connect_peer
from localai.node.workers.connection import WorkerConnection, WorkerEnd
from localai.node.workers.frames import (
    FRAMES_VERSION,
    Ask,
    Cancel,
    Events,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
)
from localai.node.workers.process import spawn_worker

LOAD = Load("unused", 4096, 4, 1)
Kind = TypeVar("Kind", Hello, Heartbeat, Loaded, LoadFailed, Events)


def flowing(_request: GenerateRequest) -> bytes:
    return b"Rivers run from the hills down to the sea, and the sea gives the rain back to the hills."


@asynccontextmanager
async def asking_and_serving(
    make: Callable[[], WorkerConnection] = lambda: FakeWorker(answer=flowing),
) -> AsyncIterator[tuple[FakeNode, FakeNode]]:
    swarm = FakeSwarm()
    async with (
        asyncio.timeout(60),
        fake_node(swarm, 1) as asking,
        fake_node(swarm, 2, ["model"], make, load=LOAD) as far,
    ):
        await asking.wait_models("model")
        yield asking, far


async def receive(worker: PeerWorker, kind: type[Kind]) -> Kind:
    """The next frame of a kind."""
    while True:
        frames = await worker.receive()
        assert not isinstance(frames, WorkerEnd), frames
        for frame in frames:
            if isinstance(frame, kind):
                return frame


async def end_of(worker: PeerWorker) -> WorkerEnd:
    while not isinstance(received := await worker.receive(), WorkerEnd):
        pass
    return received


async def test_a_peer_with_a_fake_worker_conforms() -> None:
    async with asking_and_serving() as (asking, far):

        async def connect() -> WorkerConnection:
            return connect_peer(asking.peers, far.peer_id, "model")

        await check_worker(connect, LOAD)


@pytest.mark.e2e
async def test_a_peer_with_a_real_worker_conforms(tiny_model: Path) -> None:
    swarm = FakeSwarm()
    worker = await spawn_worker("llama-cpp", "model", 1)
    load = Load(str(tiny_model), LOAD.context_size, LOAD.slots, LOAD.threads)
    async with fake_node(swarm, 1) as asking, fake_node(swarm, 2, ["model"], lambda: worker, load=load) as far:
        await asking.wait_models("model")

        async def connect() -> WorkerConnection:
            return connect_peer(asking.peers, far.peer_id, "model")

        await check_worker(connect, load)


async def test_the_first_load_asks_for_one_token_and_the_next_for_none() -> None:
    async with asking_and_serving() as (asking, far):
        for _ in range(2):
            worker = connect_peer(asking.peers, far.peer_id, "model")
            assert await receive(worker, Hello) == Hello(FRAMES_VERSION, "peer", 0)
            worker.send(LOAD)
            loaded = await receive(worker, Loaded)
            assert (loaded.facts.slots, loaded.facts.context_size) == (4, 4096)
            (made,) = far.workers
            first = [frame.request for frame in made.sent if isinstance(frame, Ask)]
            assert [request.max_tokens for request in first if isinstance(request, GenerateRequest)] == [1]


async def test_a_load_that_fails_at_the_peer_fails_here() -> None:
    broken = ModelLoadFailed("The file is broken.")
    async with asking_and_serving(lambda: FakeWorker(load_error=broken)) as (asking, far):
        worker = connect_peer(asking.peers, far.peer_id, "model")
        worker.send(LOAD)
        failed = await receive(worker, LoadFailed)
        assert failed.error.message == "The file is broken."


async def test_heartbeats_count_what_is_the_askers() -> None:
    go = asyncio.Event()

    async def hold() -> None:
        await go.wait()

    async with asking_and_serving(lambda: FakeWorker(before_step=hold)) as (asking, far):
        worker = connect_peer(asking.peers, far.peer_id, "model")
        worker.send(Ask(chat("a")))
        worker.send(Ask(chat("a")))  # the same one: ignored
        while (await receive(worker, Heartbeat)).active != 1:
            pass
        worker.send(Cancel(RequestId("a")))
        while (await receive(worker, Heartbeat)).active != 0:
            pass
        go.set()
        worker.send(Ask(chat("b")))
        seen = (await receive(worker, Events)).events
        while not any(isinstance(event, Tokens) for _, event in seen):
            seen += (await receive(worker, Events)).events
        assert {name for name, _ in seen} == {"b"}


async def test_the_end_of_the_session_is_the_end_of_the_worker() -> None:
    async with asking_and_serving() as (asking, far):
        worker = connect_peer(asking.peers, far.peer_id, "model")
        worker.send(Ask(chat("a", max_tokens=None)))
        await receive(worker, Events)
        far.link.die()
        end = await end_of(worker)
        assert (end.exit_code, end.description) == (None, "connection lost")
        worker.send(Ask(chat("late")))
        worker.send(LOAD)
        assert await worker.receive() is end
        with pytest.raises(Unavailable):
            connect_peer(asking.peers, far.peer_id, "model")


async def test_both_ways_of_ending_end() -> None:
    async with asking_and_serving() as (asking, far):
        for end, reason in ((PeerWorker.terminate, "not needed any more"), (PeerWorker.kill, "ended by this node")):
            await asking.wait_models("model")
            worker = connect_peer(asking.peers, far.peer_id, "model")
            end(worker)
            assert await end_of(worker) == WorkerEnd(None, reason)


async def test_what_cannot_be_sent_is_refused_as_a_worker_refuses_it() -> None:
    async with asking_and_serving() as (asking, far):
        worker = connect_peer(asking.peers, far.peer_id, "model")
        with pytest.raises(WireError):
            worker.send(Ask(chat("a", text="x" * (1 << 20))))
