"""The other nodes of the swarm, as this one knows them: sessions with all members, records of all nodes (shell)."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

import structlog

from localai.mesh.control import Joined, Left, Ready, RecordChanged, RecordExpired
from localai.mesh.errors import Unavailable, WireError
from localai.mesh.ids import PeerId, short_id
from localai.mesh.link import Link, LinkEvent, LinkStatistics, PeerStream
from localai.node.peers.record import NodeRecord, decode_record, encode_record
from localai.node.peers.session import PeerSession, Service, SessionTiming
from localai.node.peers.session_frames import PROTOCOL
from localai.node.request_defaults import NO_DEFAULTS, RequestDefaults
from localai.node.routing.replica import Candidate, in_flight_now
from localai.node.sharing.chunks import ChunkList
from localai.node.sharing.copier import OnBytes, copy_file

_LOG = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PeersTiming:
    """How often things are tried, in seconds."""

    look_s: float = 1.0
    """Between looks whether this node's record has changed."""
    reopen_s: tuple[float, ...] = (0.1, 0.3, 1.0, 2.0, 5.0, 15.0, 60.0)
    """Before the first, second, ... try to have a session again with a member that stays; the last one for all others.
    One that breaks now and then is back at once, one with whom nothing works costs one try a minute."""
    healthy_s: float = 10.0
    """After a session of this length the next try counts as the first."""
    session: SessionTiming = field(default_factory=SessionTiming)


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One member, for pages."""

    peer: PeerId
    connected: bool
    usable: bool
    round_trip_s: float
    in_flight: int
    record: NodeRecord | None


StreamHandler = Callable[[PeerStream], Coroutine[Any, Any, None]]
"""Serves one stream that a member opened, to its end."""


class Peers:
    """Keeps one session with every member, from its making until ``aclose``."""

    def __init__(
        self,
        link: Link,
        service: Service,
        describe: Callable[[], NodeRecord],
        program: str,
        timing: PeersTiming | None = None,
        handlers: Mapping[str, StreamHandler] | None = None,
    ) -> None:
        self._handlers = dict(handlers or {})
        self._timing = timing or PeersTiming()
        self._link = link
        self._service = service
        self._describe = describe
        self._program = program
        self._members: set[PeerId] = set()
        self._records: dict[PeerId, NodeRecord] = {}
        self._sessions: dict[PeerId, PeerSession] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keepers: dict[PeerId, asyncio.Task[None]] = {}
        self._published = b""
        self._changed = asyncio.Event()
        for work in (self._watch(), self._accept(), self._publish()):
            self.start(work)

    @property
    def peer_id(self) -> PeerId:
        """Who this node is."""
        return self._link.peer_id

    def statistics(self) -> LinkStatistics:
        """How the mesh process is."""
        return self._link.statistics()

    # What routing and pages ask

    def session(self, peer: PeerId) -> PeerSession | None:
        """The session with a peer, if there is one that can be used."""
        session = self._sessions.get(peer)
        return session if session is not None and session.is_usable else None

    def candidates(self, model: str) -> list[Candidate]:
        """Peers that offer ``model`` now."""
        found = []
        for peer, session in self._sessions.items():
            if not session.is_usable:
                continue
            for load in session.replicas():
                if load.model == model:
                    in_flight = in_flight_now(load, session.in_flight()[model])
                    found.append(Candidate(peer, load, in_flight, session.round_trip_s))
        return found

    def models(self) -> set[str]:
        """Names that some usable peer offers."""
        usable = (session for session in self._sessions.values() if session.is_usable)
        return {load.model for session in usable for load in session.replicas()}

    def defaults(self, model: str) -> RequestDefaults:
        """What requests for ``model`` mean where they say nothing, by the record of the first usable peer that has it.

        Peers whose definitions differ are told apart by nothing but their ids: give models that differ another name.
        """
        for peer in sorted(self._sessions):
            if self._sessions[peer].is_usable and (record := self._records.get(peer)) is not None:
                for offered in record.models:
                    if offered.name == model:
                        return offered.defaults or NO_DEFAULTS
        return NO_DEFAULTS

    def find(self, name: str) -> PeerId | None:
        """The member with this id, or whose id ends like this."""
        matches = [peer for peer in self._members if peer == name or (len(name) >= 4 and peer.endswith(name))]
        return matches[0] if len(matches) == 1 else None

    def holders(self, sha256: bytes) -> tuple[PeerId, ...]:
        """Connected members that give the file with this hash."""
        records = self._records
        return tuple(peer for peer in self._members if peer in records and sha256 in records[peer].files)

    async def copy_file(self, sha256: bytes, partial: Path, on_bytes: OnBytes) -> ChunkList:
        """Fill ``partial`` with this file from the members that give it; see ``sharing/copier.py``.

        Raises:
            LocalAIError: nobody gives it, or it did not come.
        """
        return await copy_file(sha256, partial, self.holders(sha256), self._link, on_bytes)

    def statuses(self) -> tuple[PeerStatus, ...]:
        """Everybody known, connected ones first."""
        known = sorted(self._members | self._records.keys(), key=lambda peer: (peer not in self._members, peer))
        return tuple(self._status(peer) for peer in known)

    async def wait_changed(self) -> None:
        """Wait until a member comes or goes, a session comes up or ends, or the models or record of a peer change."""
        self._changed.clear()
        await self._changed.wait()

    # Running

    def tell(self) -> None:
        """Something that the others should know at once has changed, such as that this node is about to stop."""
        self._publish_now()
        for session in self._sessions.values():
            session.beat_soon()

    async def aclose(self) -> None:
        """Say goodbye to everybody and leave the swarm."""
        for session in list(self._sessions.values()):
            session.say_goodbye("the node stops")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.aclose()

    async def _watch(self) -> None:
        while True:
            for event in await self._link.receive():
                self._take(event)

    def _take(self, event: LinkEvent) -> None:
        match event:
            case Ready():
                _LOG.info("mesh_ready", node=short_id(event.peer), addresses=event.addresses)
                for warning in event.warnings:
                    _LOG.warning("mesh_limited", problem=warning)
            case Joined(peer=peer):
                self._members.add(peer)
                if self._link.peer_id < peer:
                    self._keepers[peer] = self.start(self._keep_open(peer))
            case Left(peer=peer, reason=reason):
                self._members.discard(peer)
                _LOG.info("peer_left", peer=short_id(peer), reason=reason)
                if (session := self._sessions.get(peer)) is not None:
                    session.lose(reason)
                if (keeper := self._keepers.pop(peer, None)) is not None:
                    keeper.cancel()  # the peer may be back before it would notice
            case RecordChanged(author=author, body=body):
                self._record(author, body)
            case RecordExpired(author=author):
                self._records.pop(author, None)
            case _:
                assert_never(event)
        self._changed.set()

    def _record(self, author: PeerId, body: bytes) -> None:
        try:
            self._records[author] = decode_record(body)
        except WireError as error:
            _LOG.warning("peer_record_unreadable", peer=short_id(author), error=error.message, detail=error.detail)

    # Sessions

    async def _accept(self) -> None:
        while True:
            self._accepted(await self._link.accept())

    def _accepted(self, stream: PeerStream) -> None:
        handler = self._speak if stream.protocol == PROTOCOL else self._handlers.get(stream.protocol)
        if handler is None:
            stream.writer.close()
            return
        # Closed here too: a task that is cancelled before its first step runs nothing of its body.
        self.start(handler(stream)).add_done_callback(lambda _: stream.writer.close())

    async def _keep_open(self, peer: PeerId) -> None:
        """Have a session until cancelled."""
        loop, timing = asyncio.get_running_loop(), self._timing
        tries = 0
        while True:
            began = loop.time()
            try:
                stream = await self._link.open(peer, PROTOCOL)
            except Unavailable as error:
                _LOG.debug("session_not_opened", peer=short_id(peer), error=error.message, detail=error.detail)
            else:
                await self._speak(stream)
            tries = 1 if loop.time() - began >= timing.healthy_s else tries + 1
            await asyncio.sleep(timing.reopen_s[min(tries, len(timing.reopen_s)) - 1])

    async def _speak(self, stream: PeerStream) -> None:
        peer = stream.peer
        if (before := self._sessions.get(peer)) is not None:
            before.lose("came back")
        session = self._sessions[peer] = PeerSession(
            stream, self._service, self._program, self._timing.session, self._changed.set
        )
        _LOG.debug("session_opened", peer=short_id(peer))
        try:
            await session.run()
        except Exception as error:  # a mistake of ours must not end the other sessions
            _LOG.exception("session_crashed", peer=short_id(peer), kind=type(error).__name__)
        finally:
            if self._sessions.get(peer) is session:
                del self._sessions[peer]
            self._changed.set()
            _LOG.info("session_ended", peer=short_id(peer), reason=session.end_reason)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that ends with this object."""
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("swarm_task_crashed", exc_info=error)

    # Our record

    async def _publish(self) -> None:
        while True:
            self._publish_now()
            await asyncio.sleep(self._timing.look_s)

    def _publish_now(self) -> None:
        body = encode_record(self._describe())
        if body != self._published:
            self._published = body
            self._link.publish(body)

    def _status(self, peer: PeerId) -> PeerStatus:
        session = self._sessions.get(peer)
        return PeerStatus(
            peer=peer,
            connected=peer in self._members,
            usable=session is not None and session.is_usable,
            round_trip_s=session.round_trip_s if session else 0.0,
            in_flight=sum(session.in_flight().values()) if session else 0,
            record=self._records.get(peer),
        )
