"""A swarm in memory: links whose streams are socketpairs (asyncio shell)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from localai.mesh.control import Joined, Left, Ready, RecordChanged, RecordExpired
from localai.mesh.errors import Unavailable
from localai.mesh.identity import Identity, identity_from_private_key
from localai.mesh.ids import PeerId
from localai.mesh.link import LinkEvent, LinkStatistics, PeerStream


@dataclass(slots=True)
class FakeSwarm:
    """Links that are members of one network. Everybody is connected with everybody unless a test cuts them."""

    links: dict[PeerId, FakeLink] = field(default_factory=dict)

    def link(self, seed: int, protocols: Sequence[str], kind: type[FakeLink] | None = None) -> FakeLink:
        """A node joins; ``seed``, 0 to 255, makes its identity. ``kind``: a link that behaves in another way."""
        link = (kind or FakeLink)(self, identity_from_private_key(bytes([seed]) * 32), tuple(protocols))
        for other in self.links.values():
            other.meet(link)
            link.meet(other)
        self.links[link.peer_id] = link
        return link

    def cut(self, one: FakeLink, other: FakeLink) -> None:
        """The connection between two breaks, as when a cable is pulled."""
        one.lose(other.peer_id, "connection lost")
        other.lose(one.peer_id, "connection lost")

    def mend(self, one: FakeLink, other: FakeLink) -> None:
        """They are connected again."""
        one.meet(other)
        other.meet(one)

    def remove(self, link: FakeLink, reason: str) -> None:
        """A node is gone."""
        self.links.pop(link.peer_id, None)
        for other in self.links.values():
            other.lose(link.peer_id, reason)
            other.tell(RecordExpired(link.peer_id))


@dataclass(slots=True)
class FakeLink:
    """Implements ``Link``."""

    swarm: FakeSwarm
    identity: Identity
    protocols: tuple[str, ...]
    _events: asyncio.Queue[LinkEvent] = field(default_factory=asyncio.Queue)
    _accepted: asyncio.Queue[PeerStream] = field(default_factory=asyncio.Queue)
    _members: dict[PeerId, FakeLink] = field(default_factory=dict)
    _streams: list[PeerStream] = field(default_factory=list)
    _body: bytes | None = None

    def __post_init__(self) -> None:
        self.tell(Ready(self.peer_id, (), ()))

    @property
    def peer_id(self) -> PeerId:
        """See ``Link``."""
        return self.identity.peer_id

    async def receive(self) -> Sequence[LinkEvent]:
        """See ``Link``."""
        events = [await self._events.get()]
        while not self._events.empty():
            events.append(self._events.get_nowait())
        return events

    def publish(self, body: bytes) -> None:
        """See ``Link``."""
        self._body = body
        for other in self._members.values():
            other.tell(RecordChanged(self.peer_id, body))

    async def open(self, peer: PeerId, protocol: str) -> PeerStream:
        """See ``Link``."""
        other = self._members.get(peer)
        if other is None:
            raise Unavailable("The peer is not connected.")
        ours, theirs = socket.socketpair()
        try:
            stream = PeerStream(peer, protocol, *await asyncio.open_connection(sock=ours))
        except BaseException:
            theirs.close()
            raise
        if protocol not in other.protocols:
            theirs.close()
            return stream
        try:
            far = PeerStream(self.peer_id, protocol, *await asyncio.open_connection(sock=theirs))
        except BaseException:
            stream.writer.transport.abort()
            raise
        self._streams.append(stream)
        other._streams.append(far)
        other._accepted.put_nowait(far)
        return stream

    async def accept(self) -> PeerStream:
        """See ``Link``."""
        return await self._accepted.get()

    def statistics(self) -> LinkStatistics:
        """See ``Link``."""
        return LinkStatistics(0, 0, tuple(self._members), (), (), (), {})

    async def aclose(self) -> None:
        """See ``Link``."""
        self.die("left: the node stops")

    # For tests

    def die(self, reason: str = "connection lost") -> None:
        """Be gone at once, as after a kill."""
        for stream in self._streams:
            stream.writer.transport.abort()
        self._streams.clear()
        self._members.clear()
        self.swarm.remove(self, reason)

    def meet(self, other: FakeLink) -> None:
        """A connection with ``other`` comes up, on this side; harmless when there is one."""
        if other.peer_id in self._members:
            return
        self._members[other.peer_id] = other
        self.tell(Joined(other.peer_id, ()))
        if other._body is not None:
            self.tell(RecordChanged(other.peer_id, other._body))

    def lose(self, peer: PeerId, reason: str) -> None:
        """The connection with a peer is gone, on this side."""
        if self._members.pop(peer, None) is None:
            return
        for stream in [stream for stream in self._streams if stream.peer == peer]:
            stream.writer.transport.abort()
            self._streams.remove(stream)
        self.tell(Left(peer, reason))

    def tell(self, event: LinkEvent) -> None:
        """Queue an event."""
        self._events.put_nowait(event)
