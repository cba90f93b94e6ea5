"""Streams between two real hosts, joined with Unix connections as in the mesh process."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from localai.mesh.host import patches
from localai.mesh.host.host import HostStream
from localai.mesh.ids import PeerId
from localai.mesh.pump import pump
from localai.mesh.testing.hosts import LoopbackHost, loopback_hosts, wait_until

PROTOCOL = "/test/pump/1"


@pytest.fixture
def anyio_backend() -> str:
    """libp2p runs on trio."""
    return "trio"


@pytest.fixture(autouse=True)
def patched() -> None:
    """As in the mesh process."""
    patches.apply()


@dataclass(frozen=True, slots=True)
class Ends:
    """What programs at both ends hold: the one that connected, and the one that was connected to."""

    near: trio.SocketStream
    far: trio.SocketStream
    one: LoopbackHost
    other: LoopbackHost
    streams: tuple[HostStream, HostStream]
    pumps: trio.Nursery


def unix_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    one, other = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    return one, other


@asynccontextmanager
async def joined() -> AsyncIterator[Ends]:
    """Two programs joined by two pumps; the far one holds back the end, as for an HTTP server."""
    near, near_inner = unix_pair()
    far, far_inner = unix_pair()
    async with loopback_hosts(1, 2) as (one, other), near, far, trio.open_nursery() as nursery:
        accepted: list[HostStream] = []

        async def accept(peer: PeerId, stream: HostStream) -> None:
            accepted.append(stream)
            await pump(stream, far_inner, hold_end=True)

        other.host.serve(PROTOCOL, accept)
        await one.host.dial(other.host.peer_id, other.host.listening())
        stream = await one.host.open_stream(other.host.peer_id, PROTOCOL)
        async with trio.open_nursery() as pumps:
            pumps.start_soon(lambda: pump(stream, near_inner, hold_end=False))
            await wait_until(lambda: bool(accepted))
            with trio.fail_after(10):
                yield Ends(near, far, one, other, (stream, accepted[0]), pumps)
            await near.aclose()
            await far.aclose()
        nursery.cancel_scope.cancel()


async def receive(stream: trio.SocketStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (chunk := await stream.receive_some(65_536)):
        data += chunk
    return bytes(data)


async def test_much_goes_both_ways_at_once() -> None:
    data = bytes(range(256)) * 4096  # 1 MiB
    async with joined() as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ends.near.send_all, data)
        nursery.start_soon(ends.far.send_all, data[::-1])
        assert await receive(ends.far, len(data)) == data
        assert await receive(ends.near, len(data)) == data[::-1]


async def test_the_end_of_a_question_is_held_back_until_the_answer_is_out() -> None:
    async with joined() as ends:
        await ends.near.send_all(b"question")
        await ends.near.send_eof()
        assert await receive(ends.far, 8) == b"question"
        await wait_until(lambda: ends.streams[1]._stream.muxed_stream.recv_closed)
        with trio.move_on_after(0.05) as scope:
            await ends.far.receive_some(1)
        assert scope.cancelled_caught, "the end came through"
        await ends.far.send_all(b"answer")
        await ends.far.send_eof()
        assert await receive(ends.near, 100) == b"answer"
        assert await ends.far.receive_some(1) == b""


async def test_the_end_of_an_answer_is_told_at_once() -> None:
    async with joined() as ends:
        await ends.far.send_all(b"answer")
        await ends.far.send_eof()
        assert await receive(ends.near, 100) == b"answer"
        await ends.near.send_all(b"still talking")
        assert await receive(ends.far, 13) == b"still talking"
        await ends.near.send_eof()
        assert await ends.far.receive_some(1) == b""
        await wait_until(lambda: all(stream.ended for stream in ends.streams))


@pytest.mark.parametrize("held", [False, True], ids=["open", "answer held"])
async def test_losing_the_connection_ends_both_sides_at_once(held: bool) -> None:
    async with joined() as ends:
        await ends.near.send_all(b"question")
        if held:
            await ends.near.send_eof()
            await wait_until(lambda: ends.streams[1]._stream.muxed_stream.recv_closed)
        assert await receive(ends.far, 8) == b"question"
        await trio.testing.wait_all_tasks_blocked()
        await ends.one.host.disconnect(ends.other.host.peer_id)
        assert await ends.near.receive_some(1) == b""
        with trio.fail_after(2):
            assert await ends.far.receive_some(1) == b""
        with pytest.raises(trio.BrokenResourceError):
            await ends.far.send_all(b"nobody hears this")


async def test_a_program_that_leaves_with_bytes_unread_resets_the_stream() -> None:
    async with joined() as ends:
        await ends.far.send_all(b"never read")
        await trio.lowlevel.wait_readable(ends.near.socket)
        await ends.near.aclose()
        with suppress(trio.BrokenResourceError):
            while True:
                await ends.far.send_all(bytes(1 << 16))
        await wait_until(lambda: all(stream.ended for stream in ends.streams))


async def test_a_program_that_leaves_after_its_question_ends_the_work_on_the_answer() -> None:
    question = bytes(200_000)
    async with joined() as ends:
        await ends.near.send_all(question)
        await ends.near.aclose()
        assert await receive(ends.far, len(question)) == question
        assert await ends.far.receive_some(1) == b""
        with pytest.raises(trio.BrokenResourceError):
            await ends.far.send_all(b"nobody hears this")


async def test_a_peer_that_resets_a_held_answer_ends_it() -> None:
    async with joined() as ends:
        await ends.near.send_all(b"question")
        await ends.near.send_eof()
        assert await receive(ends.far, 8) == b"question"
        await wait_until(lambda: ends.streams[1]._stream.muxed_stream.recv_closed)
        await trio.testing.wait_all_tasks_blocked()
        await ends.streams[0].reset()
        assert await ends.far.receive_some(1) == b""


async def test_a_reader_that_stalls_stops_the_writer_and_costs_little() -> None:
    async with joined() as ends:
        sent = 0
        with trio.move_on_after(10) as scope:
            async with trio.open_nursery() as nursery:

                async def fill() -> None:
                    nonlocal sent
                    while True:
                        await ends.near.send_all(bytes(1 << 14))
                        sent += 1 << 14

                nursery.start_soon(fill)
                await wait_until(lambda: ends.streams[0]._stream.muxed_stream.send_window == 0)
                await trio.testing.wait_all_tasks_blocked(0.05)
                scope.cancel()
        assert sent < 2 << 20
        muxed = ends.streams[1]._stream.muxed_stream
        assert len(muxed.conn.stream_buffers[muxed.stream_id]) <= patches.WINDOW_BYTES
