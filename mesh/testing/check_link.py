"""The conformance suite of links: what every implementation of ``Link`` promises.

``await check_link(join)`` raises AssertionError at the first broken promise. ``join(seed)`` lets a node join, with
:data:`PROTOCOL` among the protocols it accepts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from localai.mesh.control import Joined, Left, Ready, RecordChanged, RecordExpired
from localai.mesh.errors import Unavailable
from localai.mesh.ids import PeerId
from localai.mesh.link import Link, LinkEvent, PeerStream

PROTOCOL = "/localai/check/1"
TIMEOUT_S = 40.0

Join = Callable[[int], Awaitable[Link]]


@dataclass(slots=True)
class Watcher:
    """Reads a link's events and keeps what they say."""

    link: Link
    ready: Ready | None = None
    members: dict[PeerId, Joined] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    records: dict[PeerId, bytes] = field(default_factory=dict)
    broken: str = ""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            for event in await self.link.receive():
                self._take(event)
            self._changed.set()

    def _take(self, event: LinkEvent) -> None:
        match event:
            case Ready():
                self.ready = event
            case Joined(peer=peer):
                if peer in self.members:
                    self.broken = f"{peer} joined twice"
                self.members[peer] = event
            case Left(peer=peer):
                if self.members.pop(peer, None) is None:
                    self.broken = f"{peer} left without having joined"
                self.left.append(event)
            case RecordChanged(author=author, body=body):
                self.records[author] = body
            case RecordExpired(author=author):
                self.records.pop(author, None)

    async def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition on what was seen holds."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"timed out waiting for {what}: {self.link.statistics()}") from None
        assert not self.broken, self.broken


async def check_link(join: Join) -> None:
    """Run every check on two nodes."""
    first, second = Watcher(await join(1)), Watcher(await join(2))
    readers = [asyncio.create_task(watcher.run()) for watcher in (first, second)]
    try:
        await _meet(first, second)
        await _records_travel(first, second)
        await _records_are_replaced(first, second)
        await _streams_carry_bytes(first, second)
        await _streams_carry_much(first, second)
        await _answers_come_after_a_half_close(first, second)
        await _an_end_is_seen(first, second)
        await _unknown_protocols_and_peers_are_refused(first, second)
        await _leaving_is_told(first, second)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await asyncio.gather(first.link.aclose(), second.link.aclose())


async def connect(opener: Link, acceptor: Link, protocol: str = PROTOCOL) -> tuple[PeerStream, PeerStream]:
    """A stream, seen from both sides."""
    async with asyncio.timeout(TIMEOUT_S):
        near, far = await asyncio.gather(opener.open(acceptor.peer_id, protocol), acceptor.accept())
    assert near.peer == acceptor.peer_id
    assert far.peer == opener.peer_id
    assert near.protocol == far.protocol == protocol
    return near, far


async def _meet(first: Watcher, second: Watcher) -> None:
    for one, other in ((first, second), (second, first)):
        await one.wait(lambda one=one: one.ready is not None, "Ready")  # type: ignore[misc]  # bound at once
        assert one.ready is not None
        assert one.ready.peer == one.link.peer_id
        peer = other.link.peer_id
        await one.wait(lambda one=one, peer=peer: peer in one.members, "Joined")  # type: ignore[misc]  # bound at once
        assert one.link.statistics().members == (peer,)


async def _records_travel(first: Watcher, second: Watcher) -> None:
    first.link.publish(b"I am the first")
    second.link.publish(b"I am the second")
    await first.wait(lambda: first.records.get(second.link.peer_id) == b"I am the second", "the second's record")
    await second.wait(lambda: second.records.get(first.link.peer_id) == b"I am the first", "the first's record")


async def _records_are_replaced(first: Watcher, second: Watcher) -> None:
    for number in range(5):
        first.link.publish(b"state %d" % number)
    await second.wait(lambda: second.records.get(first.link.peer_id) == b"state 4", "the newest record")


async def _streams_carry_bytes(first: Watcher, second: Watcher) -> None:
    for one, other in ((first, second), (second, first)):
        near, far = await connect(one.link, other.link)
        for message in (b"x", b"hello" * 100):
            near.writer.write(message)
            assert await far.reader.readexactly(len(message)) == message
            far.writer.write(message[::-1])
            assert await near.reader.readexactly(len(message)) == message[::-1]
        near.writer.close()
        far.writer.close()


async def _streams_carry_much(first: Watcher, second: Watcher) -> None:
    near, far = await connect(first.link, second.link)
    data = bytes(range(256)) * 8192  # 2 MiB

    async def send(stream: PeerStream) -> None:
        stream.writer.write(data)
        await stream.writer.drain()

    async with asyncio.timeout(TIMEOUT_S):
        results = await asyncio.gather(
            send(near), send(far), far.reader.readexactly(len(data)), near.reader.readexactly(len(data))
        )
    assert results[2] == results[3] == data
    near.writer.close()
    far.writer.close()


async def _answers_come_after_a_half_close(first: Watcher, second: Watcher) -> None:
    near, far = await connect(first.link, second.link)
    near.writer.write(b"question")
    near.writer.write_eof()
    async with asyncio.timeout(TIMEOUT_S):
        assert await far.reader.readexactly(8) == b"question"
        far.writer.write(b"answer")
        far.writer.close()
        assert await near.reader.read() == b"answer"
    near.writer.close()


async def _an_end_is_seen(first: Watcher, second: Watcher) -> None:
    near, far = await connect(first.link, second.link)
    far.writer.close()
    async with asyncio.timeout(TIMEOUT_S):
        assert await near.reader.read() == b""
    near.writer.close()


async def _unknown_protocols_and_peers_are_refused(first: Watcher, second: Watcher) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        stream = await first.link.open(second.link.peer_id, "/localai/unknown/1")
        assert await stream.reader.read() == b""
    stream.writer.close()
    try:
        await first.link.open(first.link.peer_id, PROTOCOL)
    except Unavailable:
        return
    raise AssertionError("a stream to somebody who is no member was opened")


async def _leaving_is_told(first: Watcher, second: Watcher) -> None:
    near, far = await connect(second.link, first.link)
    left = first.link.peer_id
    await first.link.aclose()
    await second.wait(lambda: left not in second.members, "Left")
    assert second.left[-1].reason.startswith("left"), second.left
    async with asyncio.timeout(TIMEOUT_S):
        with contextlib.suppress(ConnectionError):
            assert await near.reader.read() == b""
    near.writer.close()
    far.writer.close()
    assert second.link.statistics().members == ()
