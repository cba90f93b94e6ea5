"""What the repairs promise, on real hosts. They stay applied in this process, so stock code is tested in another."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.stream_muxer.yamux import yamux
from structlog.testing import capture_logs

from localai.mesh.errors import Unavailable
from localai.mesh.host import patches
from localai.mesh.host.host import HostStream
from localai.mesh.ids import PeerId
from localai.mesh.testing.hosts import LoopbackHost, Wire, echo, loopback_hosts, read_exactly, wait_until, wire_to

ECHO = "/test/echo/1"
HOLD = "/test/hold/1"
FRAME_BYTES = 64 << 10


@pytest.fixture
def anyio_backend() -> str:
    """libp2p runs on trio."""
    return "trio"


@pytest.fixture(autouse=True)
def patched() -> None:
    """As in the mesh process."""
    assert patches.apply()


class Holder:
    """A stream handler that reads only when told."""

    def __init__(self, running: LoopbackHost) -> None:
        self.stream: HostStream | None = None
        self.may_read = trio.Event()
        running.host.serve(HOLD, self._hold)
        running.host.serve(ECHO, echo)

    async def _hold(self, peer: PeerId, stream: HostStream) -> None:
        self.stream = stream
        await self.may_read.wait()
        await echo(peer, stream)

    @property
    def buffered(self) -> int:
        muxed = self.stream._stream.muxed_stream if self.stream else None
        return len(muxed.conn.stream_buffers[muxed.stream_id]) if muxed else 0


async def open_held(one: LoopbackHost, other: LoopbackHost, wire: Wire | None = None) -> tuple[HostStream, Holder]:
    holder = Holder(other)
    peer = other.host.peer_id
    await one.host.dial(peer, [wire.address] if wire else other.host.listening())
    stream = await one.host.open_stream(peer, HOLD)
    await wait_until(lambda: holder.stream is not None)
    return stream, holder


async def can_echo(one: LoopbackHost, other: LoopbackHost, data: bytes = b"hello") -> None:
    with trio.fail_after(5):
        stream = await one.host.open_stream(other.host.peer_id, ECHO)
        await stream.write(data)
        assert await read_exactly(stream, len(data)) == data
        await stream.close()


def muxed_connection(running: LoopbackHost) -> Any:
    return running.host._network.get_connections()[0].muxed_conn


def test_another_version_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "version", lambda name: "0.8.2")
    monkeypatch.setattr(yamux.YamuxStream, "write", before := object())
    with capture_logs() as lines:
        assert not patches.apply()
    assert yamux.YamuxStream.write is before
    assert lines == [{"event": "libp2p_not_patched", "log_level": "warning", "installed": "0.8.2", "known": "0.8.1"}]


def test_a_reader_that_stalls_stops_its_writer_for_as_long_as_it_takes() -> None:
    """Stock code would take megabytes, and give up after 5 s."""
    clock = trio.testing.MockClock(rate=1.0)
    data = bytes(range(256)) * 8192  # 2 MiB

    async def main() -> None:
        async with loopback_hosts(1, 2) as (one, other):
            stream, holder = await open_held(one, other)
            written = trio.Event()

            async def write() -> None:
                await stream.write(data)
                written.set()
                await stream.close_write()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await wait_until(lambda: holder.buffered >= patches.WINDOW_BYTES - FRAME_BYTES)
                for _ in range(3):
                    clock.jump(20)
                    await can_echo(one, other)
                assert not written.is_set()
                assert holder.buffered <= patches.WINDOW_BYTES
                holder.may_read.set()
                assert await read_exactly(stream, len(data)) == data
                assert written.is_set()

    trio.run(main, clock=clock)


async def test_writes_of_two_tasks_are_not_mixed() -> None:
    async with loopback_hosts(1, 2) as (one, other):
        stream, holder = await open_held(one, other)
        letters = b"abcdefgh"
        async with trio.open_nursery() as nursery:
            for letter in letters:
                nursery.start_soon(stream.write, bytes([letter]) * 200_000)
            holder.may_read.set()
            data = await read_exactly(stream, 200_000 * len(letters))
        pieces = {data[start : start + 200_000] for start in range(0, len(data), 200_000)}
        assert pieces == {bytes([letter]) * 200_000 for letter in letters}


async def test_a_write_cancelled_at_a_closed_window_harms_nobody_else() -> None:
    async with loopback_hosts(1, 2) as (one, other):
        stream, holder = await open_held(one, other)
        with trio.move_on_after(10) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.write, bytes(1 << 20))
                await wait_until(lambda: stream._stream.muxed_stream.send_window == 0)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        await can_echo(one, other)
        await stream.reset()
        await wait_until(lambda: holder.stream is not None and holder.stream._stream.muxed_stream.closed)


async def test_a_write_cancelled_inside_a_full_socket_harms_nobody_else() -> None:
    """Stock code cuts a noise message in two, and every later stream hangs."""
    async with loopback_hosts(1, 2) as (one, other), wire_to(other) as wire:
        await open_held(one, other, wire)
        streams = [await one.host.open_stream(other.host.peer_id, HOLD) for _ in range(40)]
        wire.freeze()
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(stream.write, bytes(patches.WINDOW_BYTES))
            await wait_until(lambda: muxed_connection(one)._write_lock.locked())
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert muxed_connection(one)._write_lock.locked()
            nursery.cancel_scope.cancel()
            wire.thaw()
        await can_echo(one, other, bytes(200_000))


async def test_a_send_that_stalls_for_long_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "SEND_STALL_S", 0.3)
    async with loopback_hosts(1, 2) as (one, other), wire_to(other) as wire:
        await open_held(one, other, wire)
        streams = [await one.host.open_stream(other.host.peer_id, HOLD) for _ in range(40)]
        wire.freeze()

        async def write(stream: HostStream) -> None:
            with suppress(Unavailable):
                await stream.write(bytes(patches.WINDOW_BYTES))

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for stream in streams:
                    nursery.start_soon(write, stream)
        await wait_until(lambda: one.changes[-1] == ("disconnected", other.host.peer_id))
        assert streams[0].connection_lost
        with pytest.raises(Unavailable):
            await streams[0].write(b"x")


@pytest.mark.parametrize("how", ["reset", "disconnect"])
async def test_a_writer_that_waits_is_told_of_the_end(how: str) -> None:
    async with loopback_hosts(1, 2) as (one, other):
        stream, holder = await open_held(one, other)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:

                async def write() -> None:
                    with pytest.raises(Unavailable):
                        await stream.write(bytes(1 << 20))

                nursery.start_soon(write)
                await wait_until(lambda: stream._stream.muxed_stream.send_window == 0)
                assert holder.stream is not None
                if how == "reset":
                    await holder.stream.reset()
                else:
                    await other.host.disconnect(one.host.peer_id)


@pytest.mark.parametrize("flags", [0, yamux.FLAG_ACK, yamux.FLAG_SYN], ids=["data", "ack", "syn"])
async def test_a_peer_that_ignores_its_window_is_thrown_out(flags: int) -> None:
    async with loopback_hosts(1, 2) as (one, other):
        stream, _ = await open_held(one, other)
        connection = muxed_connection(one)
        muxed = stream._stream.muxed_stream
        stream_id = 999 if flags == yamux.FLAG_SYN else muxed.stream_id
        piece = bytes(FRAME_BYTES if flags != yamux.FLAG_SYN else patches.WINDOW_BYTES)
        header = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, flags, stream_id, len(piece))
        more = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, stream_id, len(piece))
        with suppress(ConnectionClosedError):
            await connection._write_frame(header + piece)
            for _ in range(patches.WINDOW_BYTES // len(piece) + 1):
                await connection._write_frame(more + piece)
        await wait_until(lambda: other.changes[-1][0] == "disconnected")
        await wait_until(lambda: not one.host.connected())
        await one.host.dial(other.host.peer_id, other.host.listening())
        await can_echo(one, other)


async def test_a_frame_beyond_the_window_is_not_even_read() -> None:
    async with loopback_hosts(1, 2) as (one, other):
        stream, _ = await open_held(one, other)
        stream_id = stream._stream.muxed_stream.stream_id
        header = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, stream_id, patches.WINDOW_BYTES + 1)
        await muxed_connection(one)._write_frame(header)
        await wait_until(lambda: other.changes[-1][0] == "disconnected")


async def test_what_readers_leave_behind_is_swept() -> None:
    async with loopback_hosts(1, 2) as (one, other):
        other.host.serve(ECHO, echo)
        await one.host.dial(other.host.peer_id, other.host.listening())
        with pytest.raises(Unavailable):
            await one.host.open_stream(other.host.peer_id, "/test/unknown")
        await can_echo(one, other)
        far = muxed_connection(other)
        await wait_until(lambda: not far.streams)
        far._sweep_stale_streams()
        assert not far.stream_events


async def test_reads_are_cut_as_asked() -> None:
    near, far = trio.testing.memory_stream_pair()
    tcp = TrioTCPStream(far)
    await near.send_all(b"abcdefghij")
    assert await tcp.read(0) == b""
    assert await tcp.read(3) == b"abc"
    assert await tcp.read(3) == b"def"
    assert await tcp.read(100) == b"ghij"
    await near.send_all(b"rest")
    assert await tcp.read(1) == b"r"
    assert await tcp.read() == b"est"
    await near.send_all(b"all")
    assert await tcp.read() == b"all"
    await near.send_eof()
    assert await tcp.read(5) == b""
    await far.aclose()
    assert await tcp.read(5) == b""


async def test_a_tcp_connection_that_broke_says_so() -> None:
    ours, theirs = socket.socketpair()
    tcp = TrioTCPStream(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
    theirs.close()
    with pytest.raises(ConnectionClosedError, match="reset"):
        await tcp.write(b"x")
    await tcp.close()
    with pytest.raises(ConnectionClosedError, match="closed"):
        await tcp.write(b"x")  # stock code is silent


async def test_a_tcp_connection_that_is_reset_says_so() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, await trio.open_tcp_stream(*listener.socket.getsockname()) as near:
        far = await listener.accept()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await far.aclose()
        with pytest.raises(ConnectionClosedError, match="reset"):
            await TrioTCPStream(near).read(1)


STOCK = """
import trio
from localai.mesh.errors import Unavailable
from localai.mesh.testing.hosts import echo, loopback_hosts, read_exactly

async def main():
    async with loopback_hosts(1, 2) as (one, other):
        other.host.serve("/e", echo)
        peer = other.host.peer_id
        await one.host.dial(peer, other.host.listening())
        data = bytes(range(256)) * 2048
        for _ in range(3):
            stream = await one.host.open_stream(peer, "/e")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.write, data)
                assert await read_exactly(stream, len(data)) == data
            await stream.close_write()
            assert await stream.read() == b""
            await stream.close()
        try:
            await one.host.open_stream(peer, "/unknown")
        except Unavailable:
            print("refused")
        stream = await one.host.open_stream(peer, "/e")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.host.disconnect, one.host.peer_id)
            assert await stream.read() == b""
        print("lost", stream.connection_lost)

trio.run(main)
"""


@pytest.mark.e2e
def test_stock_code_works_too() -> None:
    done = subprocess.run([sys.executable, "-c", STOCK], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split("\n")[-3:] == ["refused", "lost True", ""], done.stderr
