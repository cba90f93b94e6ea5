"""The node's side of the mesh process: starts it, keeps it alive, and speaks with it (asyncio shell).

``Link`` is what the node and the explorer use; ``MeshLink`` is the real one, ``localai.mesh.testing.FakeLink`` one in
memory, and ``localai.mesh.testing.check_link`` what both promise. When the mesh process dies it is started again on the
same port with everything it knew of others, and this node's record; its members come back by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, assert_never

import structlog

from localai.mesh.child import Child, child_environment, spawn_child
from localai.mesh.control import (
    CONTROL_VERSION,
    CannotStart,
    Configure,
    Counted,
    Expose,
    Exposed,
    FromMesh,
    Joined,
    KnownPeer,
    Left,
    Publish,
    Ready,
    RecordChanged,
    RecordExpired,
    ToMesh,
    from_mesh_codec,
    inbound_codec,
    to_mesh_codec,
)
from localai.mesh.errors import LocalAIError, SetupError, Unavailable, WireError
from localai.mesh.identity import Identity
from localai.mesh.ids import NetworkId, PeerId
from localai.mesh.network_token import NetworkToken
from localai.mesh.wire import FrameDecoder

_LOG = structlog.get_logger()

START_TIMEOUT_S = 30.0
OPEN_TIMEOUT_S = 10.0
MAX_UNREAD_EVENTS = 16_384
MAX_UNACCEPTED = 256
MAX_KNOWN = 256
RESTART_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Before the first, second, ... restart in a row."""
HEALTHY_S = 30.0
"""After so long without a death the next restart counts as the first."""
_READ_BYTES = 65_536
_PREAMBLE_TIMEOUT_S = 5.0

LinkEvent: TypeAlias = Ready | Joined | Left | RecordChanged | RecordExpired


@dataclass(frozen=True, slots=True)
class PeerStream:
    """One stream with a peer. Its end is no success by itself: what is inside must say that it is complete."""

    peer: PeerId
    protocol: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """A snapshot for pages and logs."""

    pid: int
    restarts: int
    members: tuple[PeerId, ...]
    listen: tuple[str, ...]
    addresses: tuple[str, ...]
    warnings: tuple[str, ...]
    counts: dict[str, int]


class Link(Protocol):
    """One node's place in the swarm."""

    @property
    def peer_id(self) -> PeerId:
        """Who this node is."""

    async def receive(self) -> Sequence[LinkEvent]:
        """Wait for the next events, at least one.

        Every ``Joined`` is followed by a ``Left`` of the same peer before the next ``Joined`` of it.
        """

    def publish(self, body: bytes) -> None:
        """Say this of our node from now on, at most :data:`localai.mesh.records.MAX_BODY_BYTES`."""

    async def open(self, peer: PeerId, protocol: str) -> PeerStream:
        """A stream to a member.

        Raises:
            Unavailable: it could not be opened. A stream that ends at once was refused by the other side.
        """

    async def accept(self) -> PeerStream:
        """Wait for the next stream that a member opens to us."""

    def statistics(self) -> LinkStatistics:
        """How it is."""

    async def aclose(self) -> None:
        """Leave the swarm. Open streams end."""


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """Everything about a node's place in a swarm."""

    identity: Identity
    token: NetworkToken
    network_id: NetworkId
    protocols: tuple[str, ...]
    """Stream protocols that this node accepts."""
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    fallback_listen: tuple[str, ...] = ()
    """Tried when ``listen`` cannot be had, such as a port remembered from before that another program has now."""
    known: tuple[KnownPeer, ...] = ()
    bootstrap: tuple[str, ...] = ()
    mdns: bool = True
    dht_server: bool = False
    log_level: str = "info"


@dataclass(slots=True)
class _State:
    """What survives the mesh process."""

    body: bytes | None = None
    met: dict[PeerId, tuple[str, ...]] = field(default_factory=dict)
    """Everybody who has joined, the latest last."""
    members: dict[PeerId, None] = field(default_factory=dict)
    authors: set[PeerId] = field(default_factory=set)
    ready: Ready | None = None
    counts: dict[str, int] = field(default_factory=dict)
    restarts: int = 0
    listen: tuple[str, ...] = ()
    fallbacks: list[tuple[str, ...]] = field(default_factory=list)


class MeshLink:
    """Implements ``Link`` over a mesh process. Make it with :func:`start_mesh`."""

    def __init__(self, settings: MeshSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._inbound_path = str(folder / "in")
        self._state = _State(
            listen=settings.listen,
            fallbacks=[settings.fallback_listen] if settings.fallback_listen not in ((), settings.listen) else [],
        )
        self._events: asyncio.Queue[LinkEvent] = asyncio.Queue(MAX_UNREAD_EVENTS)
        self._accepted: asyncio.Queue[PeerStream] = asyncio.Queue(MAX_UNACCEPTED)
        self._child: Child | None = None
        self._paths: dict[tuple[PeerId, str], asyncio.Future[str]] = {}
        self._started: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._server: asyncio.Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._greeting: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def start(self) -> None:
        """Start the mesh process and wait until it listens; see :func:`start_mesh`."""
        self._server = await asyncio.start_unix_server(self._inbound, self._inbound_path, limit=_READ_BYTES)
        self._task = asyncio.create_task(self._keep_running())
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await asyncio.shield(self._started)
        except TimeoutError as error:
            raise SetupError(f"The mesh process did not start within {START_TIMEOUT_S:g} s. Try again.") from error

    @property
    def peer_id(self) -> PeerId:
        """See ``Link``."""
        return self._settings.identity.peer_id

    async def receive(self) -> Sequence[LinkEvent]:
        """See ``Link``."""
        events = [await self._events.get()]
        while not self._events.empty():
            events.append(self._events.get_nowait())
        return events

    def publish(self, body: bytes) -> None:
        """See ``Link``."""
        self._state.body = body
        self._send(Publish(body))

    async def open(self, peer: PeerId, protocol: str) -> PeerStream:
        """See ``Link``."""
        if peer not in self._state.members:
            raise Unavailable("The peer is not connected.")
        key = (peer, protocol)
        if (path := self._paths.get(key)) is None:
            path = self._paths[key] = asyncio.get_running_loop().create_future()
            self._send(Expose(peer, protocol))
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(await asyncio.shield(path), limit=_READ_BYTES)
        except (TimeoutError, OSError) as error:
            raise Unavailable("A stream to a peer could not be opened.", detail=repr(error)) from error
        return PeerStream(peer, protocol, reader, writer)

    async def accept(self) -> PeerStream:
        """See ``Link``."""
        return await self._accepted.get()

    def statistics(self) -> LinkStatistics:
        """See ``Link``."""
        state, ready = self._state, self._state.ready
        return LinkStatistics(
            pid=self._child.pid if self._child else 0,
            restarts=state.restarts,
            members=tuple(state.members),
            listen=ready.listen if ready else (),
            addresses=ready.addresses if ready else (),
            warnings=ready.warnings if ready else (),
            counts=dict(state.counts),
        )

    def known(self) -> dict[PeerId, tuple[str, ...]]:
        """Where the members that were met are or were, for the next start."""
        return dict(self._state.met)

    async def aclose(self) -> None:
        """See ``Link``."""
        self._closing.set()
        if self._child is not None:
            self._child.close_input()  # it says goodbye and exits
        if self._task is not None:
            await self._task
        if self._server is not None:
            self._server.close()
        for task in self._greeting:
            task.cancel()
        while not self._accepted.empty():
            self._accepted.get_nowait().writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # The process

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while not self._closing.is_set():
            began = loop.time()
            try:
                again = await self._run_once()
            except Exception as error:  # a mistake of ours, or nonsense from the child: another one may do better
                _LOG.exception("mesh_process_unusable", kind=type(error).__name__)
                again = True
            self._forget_connections()
            if not again:
                return
            deaths = 1 if loop.time() - began > HEALTHY_S else deaths + 1
            self._state.restarts += self._state.ready is not None
            with contextlib.suppress(TimeoutError):
                pause_s = RESTART_PAUSES_S[min(deaths, len(RESTART_PAUSES_S)) - 1]
                await asyncio.wait_for(self._closing.wait(), pause_s)

    async def _run_once(self) -> bool:
        """One process from start to end; False when there is no point in another one."""
        try:
            child = await spawn_child(
                "mesh", [sys.executable, "-m", "localai.mesh.process"], child_environment(os.environ, {})
            )
        except LocalAIError as error:
            if self._state.ready is None:
                self._fail_start(error)
                return False
            _LOG.error("mesh_start_failed", error=error.message, detail=error.detail)
            return True
        self._child = child
        listen = self._state.listen
        try:
            if self._closing.is_set():  # while it was being started
                child.close_input()
            self._send(self._configuration())
            if self._state.body is not None:
                self._send(Publish(self._state.body))
            await self._read(child)
        finally:
            self._child = None
            if not self._closing.is_set():
                child.kill()
            code = await child.wait()
        if self._closing.is_set():
            return False
        if self._state.ready is None and self._state.listen == listen:  # it did not even say why
            self._fail_start(SetupError("The mesh process ended while it started.", detail=child.last_words))
            return False
        _LOG.warning("mesh_process_ended", exit_code=code, last_words=child.last_words)
        return True

    async def _read(self, child: Child) -> None:
        decoder, codec = FrameDecoder(), from_mesh_codec()
        with contextlib.suppress(ConnectionError):
            while data := await child.reader.read(_READ_BYTES):
                for payload in decoder.feed(data):
                    self._frame(codec.decode(payload))

    def _configuration(self) -> Configure:
        settings = self._settings
        return Configure(
            version=CONTROL_VERSION,
            private_key=settings.identity.private_key.reveal(),
            token=settings.token.text.reveal(),
            network_id=settings.network_id,
            listen=self._state.listen,
            protocols=settings.protocols,
            inbound_path=self._inbound_path,
            folder=tempfile.mkdtemp(prefix="o", dir=self._folder),
            known=(*settings.known, *(KnownPeer(peer, addresses) for peer, addresses in self._state.met.items())),
            bootstrap=settings.bootstrap,
            mdns=settings.mdns,
            dht_server=settings.dht_server,
            log_level=settings.log_level,
        )

    def _send(self, frame: ToMesh) -> None:
        if self._child is not None:
            self._child.write(to_mesh_codec().encode(frame))

    def _frame(self, frame: FromMesh) -> None:
        state = self._state
        match frame:
            case Ready():
                state.ready = frame
                state.listen = frame.listen  # after a restart others look for us there
                if not self._started.done():
                    self._started.set_result(frame)
                self._tell(frame)
            case CannotStart():
                self._cannot_start(frame)
            case Joined():
                state.members[frame.peer] = None
                state.met.pop(frame.peer, None)
                state.met[frame.peer] = frame.addresses
                if len(state.met) > MAX_KNOWN:
                    del state.met[next(iter(state.met))]
                self._tell(frame)
            case Left():
                state.members.pop(frame.peer, None)
                self._tell(frame)
            case RecordChanged():
                state.authors.add(frame.author)
                self._tell(frame)
            case RecordExpired():
                state.authors.discard(frame.author)
                self._tell(frame)
            case Exposed():
                self._exposed(frame)
            case Counted():
                state.counts = frame.counts
            case _:
                assert_never(frame)

    def _tell(self, event: LinkEvent) -> None:
        if isinstance(event, RecordChanged) and self._events.qsize() > MAX_UNREAD_EVENTS // 2:
            return  # the next one says the same and more; members can send as many as they like
        self._events.put_nowait(event)

    def _cannot_start(self, frame: CannotStart) -> None:
        state = self._state
        if state.ready is not None:
            # It worked before, so the port that we had is taken now: ask for what the settings say.
            _LOG.error("mesh_cannot_start", error=frame.message, detail=frame.detail)
            state.listen = self._settings.fallback_listen or self._settings.listen
        elif state.fallbacks:
            state.listen = state.fallbacks.pop()
        else:
            self._fail_start(SetupError(frame.message, code="mesh", detail=frame.detail))

    def _fail_start(self, error: LocalAIError) -> None:
        self._closing.set()
        if not self._started.done():
            self._started.set_exception(error)

    def _exposed(self, frame: Exposed) -> None:
        future = self._paths.get((frame.peer, frame.protocol))
        if future is None or future.done():
            return
        if frame.path:
            future.set_result(frame.path)
            return
        del self._paths[frame.peer, frame.protocol]
        future.set_exception(ConnectionError(frame.problem))
        future.exception()  # seen, even when nobody waits any more

    def _forget_connections(self) -> None:
        """The process is gone, and with it every connection and every socket."""
        for peer in self._state.members:
            self._tell(Left(peer, "the mesh process of this node ended"))
        for author in self._state.authors:
            self._tell(RecordExpired(author))
        self._state.members.clear()
        self._state.authors.clear()
        for future in self._paths.values():
            if not future.done():
                future.set_exception(ConnectionError("the mesh process ended"))
                future.exception()
        self._paths.clear()

    # Streams from peers

    async def _inbound(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._greeting.add(task)
        try:
            async with asyncio.timeout(_PREAMBLE_TIMEOUT_S):
                size = int.from_bytes(await reader.readexactly(4), "big")
                frame = inbound_codec().decode(await reader.readexactly(min(size, 4096)))
            self._accepted.put_nowait(PeerStream(frame.peer, frame.protocol, reader, writer))
        except (TimeoutError, WireError, OSError, EOFError, asyncio.QueueFull) as error:
            _LOG.warning("peer_stream_dropped", error=repr(error)[:200])
            writer.close()
        finally:
            self._greeting.discard(task)


async def start_mesh(settings: MeshSettings) -> MeshLink:
    """A running mesh process and the link to it.

    Raises:
        SetupError: it cannot start with these settings.
    """
    link = MeshLink(settings, Path(tempfile.mkdtemp(prefix="localai-")))
    try:
        await link.start()
    except BaseException:
        await link.aclose()
        raise
    return link
