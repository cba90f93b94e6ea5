"""Gossip between real hosts on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from libp2p.peer.id import ID

from localai.mesh.host import patches
from localai.mesh.host.gossip import MAX_RPC_BYTES, Gossip
from localai.mesh.testing.hosts import LoopbackHost, loopback_hosts, wait_until

TOPIC, NEXT_TOPIC = "now", "next"


@pytest.fixture
def anyio_backend() -> str:
    """libp2p runs on trio."""
    return "trio"


@pytest.fixture(autouse=True)
def patched() -> None:
    """As in the mesh process."""
    patches.apply()


@dataclass(slots=True, eq=False)
class Speaker:
    """A host that gossips, and what it heard."""

    running: LoopbackHost
    gossip: Gossip
    heard: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def speakers(*seeds: int) -> AsyncIterator[tuple[Speaker, ...]]:
    """Hosts that gossip on one topic, and nobody connected."""
    found: list[Speaker] = []

    @asynccontextmanager
    async def gossiping(running: LoopbackHost) -> AsyncIterator[None]:
        heard: list[bytes] = []
        speaker = Speaker(running, Gossip(running.host, heard.append), heard)
        async with speaker.gossip.run():
            await speaker.gossip.set_topics([TOPIC])
            found.append(speaker)
            yield

    async with loopback_hosts(*seeds, inside=gossiping):
        yield tuple(found)


async def connect(one: Speaker, other: Speaker) -> None:
    host = other.running.host
    await one.running.host.dial(host.peer_id, host.listening())
    await wait_until(lambda: all(knows(*pair) for pair in ((one, other), (other, one))))


def knows(one: Speaker, other: Speaker, topic: str = TOPIC) -> bool:
    """One can send to the other, and has heard that it listens to the topic."""
    peer, pubsub = ID.from_base58(other.running.host.peer_id), one.gossip._pubsub
    return peer in pubsub.peers and peer in pubsub.peer_topics.get(topic, ())


async def say(speaker: Speaker, data: bytes, *listeners: Speaker) -> None:
    """Again and again until they have heard it: what is said before a mesh has formed, within a second, is lost."""
    with trio.fail_after(10):
        while not all(data in listener.heard for listener in listeners):
            await speaker.gossip.publish(data)
            with trio.move_on_after(0.2):
                await wait_until(lambda: all(data in listener.heard for listener in listeners))


async def test_a_message_goes_along_a_line_of_three() -> None:
    async with speakers(1, 2, 3) as (first, middle, last):
        await connect(first, middle)
        await connect(middle, last)
        await say(first, b"hello", middle, last)
        await say(last, b"hello yourself", middle, first)


async def test_only_topics_of_the_time_are_heard() -> None:
    async with speakers(1, 2) as (one, other):
        await connect(one, other)
        await other.gossip.set_topics([TOPIC, NEXT_TOPIC])
        await one.gossip.set_topics([NEXT_TOPIC, TOPIC])
        await wait_until(lambda: knows(one, other, NEXT_TOPIC) and knows(other, one, NEXT_TOPIC))
        await say(one, b"to the next topic", other)
        await say(other, b"to the one before", one)
        await other.gossip.set_topics([NEXT_TOPIC])
        await wait_until(lambda: not knows(one, other))
        await one.gossip.set_topics([TOPIC, NEXT_TOPIC])
        await one.gossip.publish(b"nobody hears this")
        await one.gossip.set_topics([NEXT_TOPIC])
        await say(one, b"the end", other)
        assert b"nobody hears this" not in other.heard


async def test_without_a_topic_nothing_is_sent() -> None:
    async with speakers(1) as (one,):
        await one.gossip.set_topics([])
        await one.gossip.publish(b"to nobody")
        assert one.heard == []


async def test_a_message_at_the_limit_of_a_record_arrives() -> None:
    data = bytes(range(256)) * 256
    assert len(data) < MAX_RPC_BYTES // 8
    async with speakers(1, 2) as (one, other):
        await connect(one, other)
        await say(one, data, other)


async def test_broken_streams_are_mended() -> None:
    async with speakers(1, 2) as (one, other):
        await connect(one, other)
        for connection in one.running.host._network.get_connections():
            for stream in connection.get_streams():
                await stream.reset()
        async with trio.open_nursery() as nursery:

            async def keep_mending(speaker: Speaker, far: Speaker) -> None:
                while True:
                    await speaker.gossip.repair([far.running.host.peer_id])
                    await trio.sleep(0.05)

            nursery.start_soon(keep_mending, one, other)
            nursery.start_soon(keep_mending, other, one)
            await say(one, b"from one", other)
            await say(other, b"from the other", one)
            nursery.cancel_scope.cancel()


async def test_a_peer_that_is_gone_cannot_be_mended() -> None:
    async with speakers(1, 2) as (one, other):
        await connect(one, other)
        other.running.scope.cancel()
        await wait_until(lambda: not one.running.host.connected() and not knows(one, other))
        with trio.fail_after(10):
            await one.gossip.repair([other.running.host.peer_id])
        assert not knows(one, other)
