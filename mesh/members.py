"""The membership stream with each peer: proof, records, pings (trio shell).

The node with the smaller id opens it as soon as there is a connection, and again when it broke while the connection
stayed. A peer that cannot show its proof, or does not try, is reported and counted; one that falls silent is
disconnected, which also ends every other stream with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import assert_never

import structlog
import trio

from localai.mesh.errors import LocalAIError, Unavailable, WireError
from localai.mesh.host.host import Host, HostStream
from localai.mesh.ids import PeerId
from localai.mesh.membership_frames import (
    GREETING_TIMEOUT_S,
    MAX_MEMBERSHIP_FRAME_BYTES,
    MEMBERSHIP_VERSION,
    PING_S,
    PROTOCOL,
    SILENCE_S,
    Greeting,
    Leaving,
    MembershipFrame,
    Ping,
    Pong,
    Record,
    membership_codec,
)
from localai.mesh.wire import FrameDecoder

_LOG = structlog.get_logger()

MAX_UNSENT_FRAMES = 2048
"""Frames waiting for one member. A full set of records fits; one that does not read so much is dropped."""
REOPEN_S = 0.5
LEAVE_TIMEOUT_S = 0.5
MAX_OPENINGS = 6
"""Tries on one connection before it is closed. On a dead path each takes the time limit of opening a stream."""
MAX_ADDRESSES = 8
MAX_ADDRESS_CHARS = 128
"""A member may have 256 remembered at the next start, all in one frame."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take, in seconds; see ``membership_frames.py``."""

    greeting_s: float = GREETING_TIMEOUT_S
    ping_s: float = PING_S
    silence_s: float = SILENCE_S
    reopen_s: float = REOPEN_S


class NotAMember(Unavailable):
    """The peer did not show that it holds the network token."""

    default_code = "not_a_member"


@dataclass(frozen=True, slots=True)
class MemberEvents:
    """What the swarm wants to hear."""

    joined: Callable[[PeerId, tuple[str, ...]], None]
    left: Callable[[PeerId, str], None]
    stranger: Callable[[PeerId], None]
    record: Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Proofs:
    """Making and checking the proof of membership; see ``membership_proof.py``."""

    make: Callable[[PeerId], bytes]
    check: Callable[[PeerId, bytes], bool]


@dataclass(frozen=True, slots=True)
class OwnSide:
    """What a new member is told: where this node can be dialled, and every sealed record that it has."""

    addresses: Callable[[], Sequence[str]]
    records: Callable[[], Sequence[bytes]]


@dataclass(slots=True, eq=False)
class _Member:
    peer: PeerId
    stream: HostStream
    outbox: trio.MemorySendChannel[MembershipFrame]
    heard: float
    reason: str = "connection lost"
    pings: int = 0
    replaced: bool = False
    does_not_read: bool = False
    writing: trio.Lock = field(default_factory=trio.Lock)
    """A frame may take several writes."""


@dataclass(slots=True)
class _Reader:
    """Frames out of a stream."""

    stream: HostStream
    decoder: FrameDecoder = field(default_factory=lambda: FrameDecoder(MAX_MEMBERSHIP_FRAME_BYTES))
    waiting: list[bytes] = field(default_factory=list)

    async def next_frames(self) -> list[MembershipFrame]:
        """At least one; empty at the end of the stream."""
        codec = membership_codec()
        while not self.waiting:
            data = await self.stream.read()
            if not data:
                return []
            self.waiting = self.decoder.feed(data)
        payloads, self.waiting = self.waiting, []
        return [codec.decode(payload) for payload in payloads]


class Members:
    """Everybody who has shown that they belong here."""

    def __init__(
        self,
        host: Host,
        proofs: Proofs,
        events: MemberEvents,
        own: OwnSide,
        timing: Timing = Timing(),
    ) -> None:
        self._host = host
        self._proofs = proofs
        self._events = events
        self._own = own
        self._timing = timing
        self._members: dict[PeerId, _Member] = {}
        self._opening: set[PeerId] = set()
        self._expected: dict[PeerId, object] = {}
        self.counts: Counter[str] = Counter()
        host.serve(PROTOCOL, self._accept)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._members

    def peers(self) -> tuple[PeerId, ...]:
        """Members that are connected now."""
        return tuple(self._members)

    async def connected(self, peer: PeerId) -> None:
        """Runs after each new connection: opens the stream, or sees to it that the peer does."""
        if self._host.peer_id > peer:
            await self._expect(peer)
            return
        if peer in self._opening:
            return
        self._opening.add(peer)
        try:
            for _ in range(MAX_OPENINGS):
                if not self._host.is_connected(peer) or not await self._open(peer):
                    return
                await trio.sleep(self._timing.reopen_s)
            _LOG.debug("membership_given_up", peer=peer)
            await self._host.disconnect(peer)  # so that it is dialled again
        finally:
            self._opening.discard(peer)

    async def _expect(self, peer: PeerId) -> None:
        latest = self._expected[peer] = object()  # of several connections, the last one counts
        await trio.sleep(2 * self._timing.greeting_s)
        if self._expected[peer] is not latest:
            return
        del self._expected[peer]
        if peer not in self._members and self._host.is_connected(peer):
            self._refuse(peer)

    def send_record(self, sealed: bytes) -> None:
        """Tell every member of a record directly."""
        for member in list(self._members.values()):
            self._put(member, Record(sealed))

    async def leave(self, reason: str) -> None:
        """Tell everybody that this node goes; returns in bounded time."""
        farewell = membership_codec().encode(Leaving(reason))
        with trio.move_on_after(LEAVE_TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                for member in list(self._members.values()):
                    nursery.start_soon(_say, member, farewell)

    # Greeting

    async def _open(self, peer: PeerId) -> bool:
        """One stream from its start to its end; False when another one would not help."""
        try:
            stream = await self._host.open_stream(peer, PROTOCOL)
        except Unavailable as error:
            _LOG.debug("membership_not_opened", peer=peer, detail=error.detail)
            if "not supported" not in error.detail:
                return True
            self._refuse(peer)
            return False
        try:
            return await self._meet(peer, stream, opener=True)
        except LocalAIError as error:
            _LOG.debug("membership_failed", peer=peer, error=error.message, detail=error.detail)
            return True
        finally:
            with trio.CancelScope(shield=True):
                await stream.reset()

    async def _accept(self, peer: PeerId, stream: HostStream) -> None:
        await self._meet(peer, stream, opener=False)

    async def _meet(self, peer: PeerId, stream: HostStream, *, opener: bool) -> bool:
        """Exchange proofs, then converse; False when the peer was refused."""
        reader = _Reader(stream)
        try:
            with trio.fail_after(self._timing.greeting_s):
                if opener:
                    await self._greet(peer, stream)
                greeting, later = await self._greeting(peer, reader)
                if not opener:
                    await self._greet(peer, stream)
        except (NotAMember, WireError, trio.TooSlowError):
            self._refuse(peer)
            return False
        await self._converse(peer, reader, greeting, later)
        return True

    async def _greet(self, peer: PeerId, stream: HostStream) -> None:
        greeting = Greeting(MEMBERSHIP_VERSION, self._proofs.make(peer), tuple(self._own.addresses()))
        await stream.write(membership_codec().encode(greeting))

    async def _greeting(self, peer: PeerId, reader: _Reader) -> tuple[Greeting, list[MembershipFrame]]:
        frames = await reader.next_frames()
        if not frames:
            if reader.stream.connection_lost:
                raise Unavailable("The connection to a peer broke before it could greet.")
            raise NotAMember("A peer ended the membership stream at once.")
        first, *later = frames
        if not isinstance(first, Greeting) or first.version != MEMBERSHIP_VERSION:
            raise NotAMember("A peer speaks another version of the membership protocol.")
        if not self._proofs.check(peer, first.proof):
            raise NotAMember("A peer has another network token or network id.")
        return first, later

    def _refuse(self, peer: PeerId) -> None:
        self.counts["strangers_refused"] += 1
        self._events.stranger(peer)
        _LOG.debug("stranger_refused", peer=peer)

    # Conversation

    async def _converse(
        self,
        peer: PeerId,
        reader: _Reader,
        greeting: Greeting,
        later: list[MembershipFrame],
    ) -> None:
        outbox, inbox = trio.open_memory_channel[MembershipFrame](MAX_UNSENT_FRAMES)
        member = _Member(peer, reader.stream, outbox, trio.current_time())
        # No await from here to ``joined``: another stream of this peer would get in between.
        if (before := self._members.pop(peer, None)) is not None:
            before.replaced = True
            self._events.left(peer, "came back")
        self._members[peer] = member
        try:
            self._events.joined(peer, _bounded(greeting.addresses))
            for sealed in self._own.records():
                self._put(member, Record(sealed))
            async with trio.open_nursery() as nursery:
                if before is not None:
                    nursery.start_soon(_end, before.stream, reader.stream)
                nursery.start_soon(self._write, member, inbox)
                nursery.start_soon(self._ping, member)
                frames = later or await reader.next_frames()
                while frames:
                    member.heard = trio.current_time()
                    for frame in frames:
                        self._frame(member, frame)
                    frames = await reader.next_frames()
                nursery.cancel_scope.cancel()
        except* LocalAIError as group:
            _LOG.debug("membership_broke", peer=peer, errors=[repr(error) for error in group.exceptions])
        finally:
            if not member.replaced:
                del self._members[peer]
                self._events.left(peer, member.reason)
                with trio.CancelScope(shield=True):
                    await self._host.disconnect(peer)

    def _frame(self, member: _Member, frame: MembershipFrame) -> None:
        match frame:
            case Record(sealed=sealed):
                self._events.record(sealed)
            case Ping(number=number):
                self._put(member, Pong(number))
            case Leaving(reason=reason):
                member.reason = f"left: {reason[:100]}" if reason else "left"
            case Pong() | Greeting():
                pass
            case _:
                assert_never(frame)

    def _put(self, member: _Member, frame: MembershipFrame) -> None:
        try:
            member.outbox.send_nowait(frame)
        except trio.WouldBlock:
            member.does_not_read = True  # the next look at the clock ends it
        except trio.BrokenResourceError:
            pass

    async def _write(self, member: _Member, inbox: trio.MemoryReceiveChannel[MembershipFrame]) -> None:
        codec = membership_codec()
        with inbox:
            async for frame in inbox:
                async with member.writing:
                    await member.stream.write(codec.encode(frame))

    async def _ping(self, member: _Member) -> None:
        while True:
            await trio.sleep(self._timing.ping_s / 2)
            silent = trio.current_time() - member.heard > self._timing.silence_s
            if silent or member.does_not_read:
                if member.reason == "connection lost":
                    member.reason = f"silent for {self._timing.silence_s:g} s" if silent else "does not read"
                await self._host.disconnect(member.peer)  # wakes the reader, which a cancelled read would not do safely
                return
            member.pings += 1
            if member.pings % 2:
                self._put(member, Ping(member.pings))


def _bounded(addresses: Sequence[str]) -> tuple[str, ...]:
    return tuple(address for address in addresses if len(address) <= MAX_ADDRESS_CHARS)[:MAX_ADDRESSES]


async def _say(member: _Member, data: bytes) -> None:
    with suppress(Unavailable):
        async with member.writing:
            await member.stream.write(data)


async def _end(stream: HostStream, successor: HostStream) -> None:
    """A peer that greets anew has forgotten the stream before; on another connection, it has lost the one before."""
    await stream.reset()
    if not stream.shares_connection(successor):
        await stream.close_connection()
