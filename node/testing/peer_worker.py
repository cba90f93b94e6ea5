"""One model of one peer in the shape of a worker, so that ``check_worker`` runs against peers (asyncio shell)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from typing import Any, assert_never

import msgspec

from localai.mesh.errors import Unavailable
from localai.mesh.ids import PeerId
from localai.node.inference import Event, Failed, GenerateRequest, Request, RequestId, TextInput, Tokens, is_terminal
from localai.node.peers.peers import Peers
from localai.node.peers.session import PeerSession
from localai.node.workers.connection import WorkerEnd
from localai.node.workers.frames import (
    FRAMES_VERSION,
    Ask,
    Cancel,
    Events,
    FromWorker,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    ModelFacts,
    ToWorker,
    to_worker_codec,
)


class PeerWorker:
    """Implements ``WorkerConnection`` over the session with a peer.

    ``Load`` is answered with what the peer's record says of the model; when it is not loaded there, a request for one
    token loads it first. What the peer is told to load is its own business.
    """

    def __init__(self, peers: Peers, session: PeerSession, model: str) -> None:
        self._peers = peers
        self._session = session
        self._model = model
        self._out: asyncio.Queue[FromWorker | WorkerEnd] = asyncio.Queue()
        self._end: WorkerEnd | None = None
        self._answering: dict[RequestId, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._completion_tokens = 0
        self._say(Hello(FRAMES_VERSION, "peer", 0))
        self._start(self._watch())

    # WorkerConnection

    def send(self, frame: ToWorker) -> None:
        """See ``WorkerConnection.send``."""
        to_worker_codec().encode(frame)
        if self._end is not None:
            return
        match frame:
            case Load():
                self._start(self._load())
            case Ask(request=request):
                self._generate(request)
            case Cancel(request_id=request_id):
                if (task := self._answering.pop(request_id, None)) is not None:
                    task.cancel()
            case _:
                assert_never(frame)

    async def receive(self) -> Sequence[FromWorker] | WorkerEnd:
        """See ``WorkerConnection.receive``."""
        if self._end is not None and self._out.empty():
            return self._end
        item = await self._out.get()
        return item if isinstance(item, WorkerEnd) else [item]

    def terminate(self) -> None:
        """See ``WorkerConnection.terminate``."""
        self._session.say_goodbye("not needed any more")

    def kill(self) -> None:
        """See ``WorkerConnection.kill``."""
        self._session.lose("ended by this node")

    # Inside

    def _say(self, frame: FromWorker) -> None:
        if self._end is None:
            self._out.put_nowait(frame)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch(self) -> None:
        """Pass heartbeats on until the session ends."""
        while (beat := await self._session.wait_heartbeat()) is not None:
            active = sum(replica.yours for replica in beat.replicas if replica.model == self._model)
            self._say(Heartbeat(active, 0, completion_tokens_total=self._completion_tokens))
        self._end = WorkerEnd(None, self._session.end_reason)
        self._out.put_nowait(self._end)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    async def _load(self) -> None:
        if self._facts() is None:
            prompt = TextInput("Hello")
            first = GenerateRequest(RequestId("load"), self._model, prompt, max_tokens=1, ignore_eos=True)
            async with aclosing(self._session.answer_batches(first)) as batches:
                async for batch in batches:
                    if isinstance(last := batch[-1], Failed):
                        self._say(LoadFailed(last))
                        return
        while (facts := self._facts()) is None:
            await self._peers.wait_changed()
        self._say(Loaded(facts))

    def _facts(self) -> ModelFacts | None:
        records = (status.record for status in self._peers.statuses() if status.peer == self._session.peer)
        models = (model for record in records if record is not None for model in record.models)
        return next((model.facts for model in models if model.name == self._model), None)

    def _generate(self, request: Request) -> None:
        if request.id not in self._answering:
            self._answering[request.id] = self._start(self._answer(request))

    async def _answer(self, request: Request) -> None:
        named = msgspec.structs.replace(request, model=self._model)
        async with aclosing(self._session.answer_batches(named)) as batches:
            async for batch in batches:
                self._pass_on(request.id, batch)

    def _pass_on(self, request_id: RequestId, batch: list[Event]) -> None:
        self._completion_tokens += sum(len(event.ids) for event in batch if isinstance(event, Tokens))
        if is_terminal(batch[-1]):
            del self._answering[request_id]
        self._say(Events(tuple((request_id, event) for event in batch)))


def connect_peer(peers: Peers, peer: PeerId, model: str) -> PeerWorker:
    """A model at a peer, as a worker.

    Raises:
        Unavailable: there is no session with the peer that can be used.
    """
    session = peers.session(peer)
    if session is None:
        raise Unavailable("There is no session with this peer. Wait until there is one.")
    return PeerWorker(peers, session, model)
