from __future__ import annotations

import asyncio

import pytest

from localai.mesh.control import Joined, Left, Ready, RecordChanged, RecordExpired
from localai.mesh.errors import Unavailable
from localai.mesh.link import Link, PeerStream
from localai.mesh.testing.check_link import PROTOCOL, check_link
from localai.mesh.testing.fake_link import FakeLink, FakeSwarm


async def test_it_keeps_what_links_promise() -> None:
    swarm = FakeSwarm()

    async def join(seed: int) -> Link:
        return swarm.link(seed, (PROTOCOL,))

    async with asyncio.timeout(20):
        await check_link(join)


def pair() -> tuple[FakeSwarm, FakeLink, FakeLink]:
    swarm = FakeSwarm()
    return swarm, swarm.link(1, (PROTOCOL,)), swarm.link(2, (PROTOCOL,))


async def open_stream(one: FakeLink, other: FakeLink) -> tuple[PeerStream, PeerStream]:
    near = await one.open(other.peer_id, PROTOCOL)
    return near, await other.accept()


async def is_cut(stream: PeerStream) -> bool:
    try:
        return await stream.reader.read() == b""
    except ConnectionError:
        return True
    finally:
        stream.writer.close()


async def test_a_cut_connection_ends_streams_on_both_sides_and_can_be_mended() -> None:
    swarm, one, other = pair()
    one.publish(b"one")
    near, far = await open_stream(one, other)
    swarm.cut(one, other)
    swarm.cut(one, other)
    assert await is_cut(near)
    assert await is_cut(far)
    with pytest.raises(Unavailable):
        await one.open(other.peer_id, PROTOCOL)
    swarm.mend(one, other)
    swarm.mend(one, other)
    assert await other.receive() == [
        Ready(other.peer_id, (), ()),
        Joined(one.peer_id, ()),
        RecordChanged(one.peer_id, b"one"),
        Left(one.peer_id, "connection lost"),
        Joined(one.peer_id, ()),
        RecordChanged(one.peer_id, b"one"),
    ]
    assert other.statistics().members == (one.peer_id,)


async def test_a_cut_leaves_other_connections_alone() -> None:
    swarm, one, other = pair()
    third = swarm.link(3, (PROTOCOL,))
    near, far = await open_stream(one, third)
    swarm.cut(one, other)
    near.writer.write(b"x")
    assert await far.reader.read(1) == b"x"
    near.writer.close()
    far.writer.close()


async def test_death_ends_everything_at_once() -> None:
    swarm, one, other = pair()
    near, far = await open_stream(one, other)
    one.die()
    assert await is_cut(near)
    assert await is_cut(far)
    assert (await other.receive())[-2:] == [Left(one.peer_id, "connection lost"), RecordExpired(one.peer_id)]
    assert other.statistics().members == ()
    assert list(swarm.links) == [other.peer_id]


async def test_who_comes_back_joins_again() -> None:
    swarm, one, other = pair()
    await other.receive()
    one.die()
    again = swarm.link(1, (PROTOCOL,))
    assert again.peer_id == one.peer_id
    assert [type(event) for event in await other.receive()] == [Left, RecordExpired, Joined]
    near, far = await open_stream(again, other)
    assert far.peer == one.peer_id
    near.writer.close()
    far.writer.close()
