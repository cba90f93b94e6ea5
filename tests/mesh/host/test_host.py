"""Real hosts on loopback, in one loop."""

from __future__ import annotations

import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.config import RetryConfig
from libp2p.network.exceptions import SwarmException
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from multiaddr import Multiaddr

from localai.mesh.errors import SetupError, Unavailable, WireError
from localai.mesh.host import host as host_module
from localai.mesh.host import patches
from localai.mesh.host.host import Host, HostStream
from localai.mesh.identity import identity_from_private_key
from localai.mesh.ids import PeerId
from localai.mesh.testing.hosts import LOOPBACK, LoopbackHost, echo, loopback_hosts, read_exactly, wait_until, wire_to

ECHO = "/test/echo/1"


@pytest.fixture
def anyio_backend() -> str:
    """libp2p runs on trio."""
    return "trio"


@pytest.fixture(autouse=True)
def patched() -> None:
    """As in the mesh process; the stock library is tested in ``test_patches.py``."""
    patches.apply()


async def connect(one: LoopbackHost, other: LoopbackHost) -> PeerId:
    await one.host.dial(other.host.peer_id, other.host.listening())
    return other.host.peer_id


async def says_hello(one: LoopbackHost, other: LoopbackHost) -> None:
    """One can still use the other."""
    other.host.serve(ECHO, echo)
    stream = await one.host.open_stream(await connect(one, other), ECHO)
    await stream.write(b"hello")
    assert await read_exactly(stream, 5) == b"hello"
    await stream.close()


def tcp_port(running: LoopbackHost) -> int:
    return int(running.host.listening()[0].split("/")[4])


async def test_bytes_and_ends_go_both_ways() -> None:
    async with loopback_hosts(1, 2) as (one, other):
        peers: list[PeerId] = []

        async def answer(peer: PeerId, stream: HostStream) -> None:
            peers.append(peer)
            question = await read_exactly(stream, 100)
            assert await stream.read() == b""
            await stream.write(question.upper())
            await stream.close()

        other.host.serve(ECHO, answer)
        assert other.host.peer_id == identity_from_private_key(bytes([2]) * 32).peer_id
        stream = await one.host.open_stream(await connect(one, other), ECHO)
        await stream.write(b"ques")
        await stream.write(b"tion")
        await stream.close_write()
        assert await read_exactly(stream, 8) == b"QUESTION"
        assert await stream.read() == b""
        assert not stream.connection_lost
        await stream.close()
        await stream.close()
        assert peers == [one.host.peer_id]
        assert one.host.connected() == (other.host.peer_id,)
        assert other.host.connected() == (one.host.peer_id,)


async def test_each_peer_comes_and_goes_once() -> None:
    async with loopback_hosts(1, 2) as (one, other):
        peer = await connect(one, other)
        await connect(one, other)
        await wait_until(lambda: bool(other.changes))
        await one.host.disconnect(peer)
        await one.host.disconnect(peer)
        for running, met in ((one, peer), (other, one.host.peer_id)):
            await wait_until(lambda running=running: len(running.changes) == 2)  # type: ignore[misc]  # bound at once
            assert running.changes == [("connected", met), ("disconnected", met)]
            assert running.host.connected() == ()
        assert not one.host.is_connected(peer)


async def test_only_noise_is_spoken() -> None:
    keys = create_new_key_pair(bytes([9]) * 32)
    naked = new_host(key_pair=keys, sec_opt={PLAINTEXT_PROTOCOL_ID: InsecureTransport(keys)})
    naked.get_network().retry_config = RetryConfig(max_retries=0)

    async def dial(address: Multiaddr, peer: object) -> None:
        async with naked.run(listen_addrs=[]):
            with pytest.raises(SwarmException):
                await naked.get_network().dial_addr(address, peer)

    async with loopback_hosts(1, 2) as (one, other):
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dial, Multiaddr(other.host.listening()[0]), other.host.raw.get_id())
        assert other.changes == []
        await says_hello(one, other)


async def test_a_handler_that_raises_ends_its_stream_alone() -> None:
    async def fail(peer: PeerId, stream: HostStream) -> None:
        await stream.read()
        raise ValueError("a bug")

    async def refuse(peer: PeerId, stream: HostStream) -> None:
        await stream.read()
        raise WireError("a peer's fault")

    async def forget(peer: PeerId, stream: HostStream) -> None:
        await stream.read()

    async with loopback_hosts(1, 2) as (one, other):
        peer = await connect(one, other)
        for number, handler in enumerate((fail, refuse, forget)):
            other.host.serve(f"/test/{number}", handler)
            stream = await one.host.open_stream(peer, f"/test/{number}")
            await stream.write(b"x")
            with trio.fail_after(5):
                assert await stream.read() == b""
            await stream.reset()
        assert other.host.broken_handlers == 1
        await says_hello(one, other)


async def test_a_protocol_nobody_serves_is_unavailable_and_costs_nothing() -> None:
    async with loopback_hosts(1, 2) as (one, other):
        peer = await connect(one, other)
        for _ in range(3):
            with pytest.raises(Unavailable, match="does not open") as caught:
                await one.host.open_stream(peer, "/test/unknown")
            assert "not supported" in caught.value.detail
        assert other.host.broken_handlers == 0
        await says_hello(one, other)


async def test_without_a_connection_there_is_no_stream() -> None:
    async with loopback_hosts(1) as (one,):
        with pytest.raises(Unavailable, match="not connected"):
            await one.host.open_stream(identity_from_private_key(bytes([2]) * 32).peer_id, ECHO)


async def test_dialling_goes_on_to_the_next_address_and_remembers_no_failure() -> None:
    async with loopback_hosts(1, 2, 3) as (one, other, third):
        peer = other.host.peer_id
        wrong = ["nonsense", "/ip4/127.0.0.1/tcp/1", third.host.listening()[0]]
        for _ in range(2):
            with pytest.raises(Unavailable, match="No address") as caught:
                await one.host.dial(peer, wrong)
            assert all(address in caught.value.detail for address in wrong)
        with trio.fail_after(5):
            await one.host.dial(peer, [*wrong, *other.host.listening()])
        assert one.host.is_connected(peer)
        assert ("connected", third.host.peer_id) not in one.changes
        await one.host.dial(peer, ["nonsense"])  # connected already
        await says_hello(one, other)


async def test_a_peer_that_never_answers_costs_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "DIAL_TIMEOUT_S", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))
    try:
        address = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}"
        async with loopback_hosts(1, 2) as (one, other):
            with trio.fail_after(5), pytest.raises(Unavailable):
                await one.host.dial(other.host.peer_id, [address])
            await says_hello(one, other)
    finally:
        silent.close()


async def test_opening_a_stream_to_a_frozen_peer_costs_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loopback_hosts(1, 2) as (one, other), wire_to(other) as wire:
        monkeypatch.setattr(host_module, "OPEN_TIMEOUT_S", 0.2)
        other.host.serve(ECHO, echo)
        peer = other.host.peer_id
        await one.host.dial(peer, [wire.address])
        wire.freeze()
        with trio.fail_after(5), pytest.raises(Unavailable, match="does not open"):
            await one.host.open_stream(peer, ECHO)
        wire.thaw()
        monkeypatch.undo()
        stream = await one.host.open_stream(peer, ECHO)
        await stream.write(b"x")
        assert await stream.read() == b"x"
        await stream.reset()


GARBAGE = {
    "nothing": b"",
    "random": random.Random(7).randbytes(4096),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half a multistream header": b"\x13/multistream/1.0",
    "noise chosen, then nonsense": b"\x13/multistream/1.0.0\n\x07/noise\n" + b"\xff" * 300,
    "zeros": bytes(1 << 20),
}


async def test_garbage_on_the_port_hurts_nobody() -> None:
    async with loopback_hosts(1, 2) as (one, other):

        async def throw(garbage: bytes) -> None:
            with suppress(trio.BrokenResourceError):  # it is thrown out
                async with await trio.open_tcp_stream("127.0.0.1", tcp_port(other)) as tcp:
                    await tcp.send_all(garbage)
                    await tcp.send_eof()
                    while await tcp.receive_some(4096):
                        pass

        with trio.fail_after(15):
            async with trio.open_nursery() as nursery:
                for garbage in GARBAGE.values():
                    nursery.start_soon(throw, garbage)
                await says_hello(one, other)
        assert other.changes == [("connected", one.host.peer_id)]
        await says_hello(one, other)


async def test_losing_the_connection_wakes_who_reads() -> None:
    async with loopback_hosts(1, 2) as (one, other):
        held: list[HostStream] = []

        async def hold(peer: PeerId, stream: HostStream) -> None:
            held.append(stream)
            await stream.read()
            await trio.sleep_forever()

        other.host.serve(ECHO, hold)
        peer = await connect(one, other)
        stream = await one.host.open_stream(peer, ECHO)
        await wait_until(lambda: bool(held))
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other.host.disconnect, one.host.peer_id)
                assert await stream.read() == b""
        assert stream.connection_lost
        with pytest.raises(Unavailable):
            await stream.write(b"x")
        await stream.close_write()
        await stream.close()


@pytest.mark.parametrize("end", ["reset", "close_connection"])
async def test_ending_a_stream_wakes_who_reads_it_here(end: str) -> None:
    async with loopback_hosts(1, 2) as (one, other):
        other.host.serve(ECHO, echo)
        stream = await one.host.open_stream(await connect(one, other), ECHO)
        ends: Callable[[], Awaitable[None]] = getattr(stream, end)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_to_the_end, stream)
                await trio.testing.wait_all_tasks_blocked()
                await ends()
        assert stream.connection_lost == (end == "close_connection")


async def read_to_the_end(stream: HostStream) -> None:
    with suppress(Unavailable):
        while await stream.read():
            pass


async def test_waiting_for_a_break_ends_with_a_reset_and_with_the_connection() -> None:
    async with loopback_hosts(1, 2) as (one, other):
        streams: list[HostStream] = []

        async def half(peer: PeerId, stream: HostStream) -> None:
            streams.append(stream)
            await stream.close_write()
            await stream.wait_broken()

        other.host.serve(ECHO, half)
        peer = await connect(one, other)
        first = await one.host.open_stream(peer, ECHO)
        second = await one.host.open_stream(peer, ECHO)
        assert first.shares_connection(second)
        await wait_until(lambda: len(streams) == 2)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(streams[0].wait_broken)
                nursery.start_soon(streams[1].wait_broken)
                await first.reset()
                await one.host.disconnect(peer)


async def test_connections_that_ended_leave_room_for_others() -> None:
    async with loopback_hosts(1, 2) as (one, other):
        await one.host.disconnect(await connect(one, other))
        limiter = other.host._network._inbound_limiter
        await wait_until(lambda: limiter.borrowed_tokens == 0)
        await says_hello(one, other)


async def test_a_dead_path_full_of_bytes_is_closed_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write is stuck in the socket, so that not even the goodbye can be sent."""
    monkeypatch.setattr(host_module, "CLOSE_TIMEOUT_S", 0.3)
    async with loopback_hosts(1, 2) as (one, other), wire_to(other) as wire:

        async def swallow(peer: PeerId, stream: HostStream) -> None:
            while await stream.read():
                pass

        other.host.serve(ECHO, swallow)
        peer = other.host.peer_id
        await one.host.dial(peer, [wire.address])
        streams = [await one.host.open_stream(peer, ECHO) for _ in range(40)]
        wire.freeze()

        async def fill(stream: HostStream) -> None:
            with suppress(Unavailable):
                while True:
                    await stream.write(bytes(1 << 18))

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_to_the_end, streams[0])
                for stream in streams:
                    nursery.start_soon(fill, stream)
                await wait_until(lambda: one.host._network.get_connections()[0].muxed_conn._write_lock.locked())
                await trio.testing.wait_all_tasks_blocked(0.1)
                await one.host.disconnect(peer)
        await wait_until(lambda: one.changes[-1] == ("disconnected", peer))
        assert not one.host.is_connected(peer)
        wire.thaw()
        await says_hello(one, other)


async def test_stopping_says_goodbye_to_everybody() -> None:
    async with loopback_hosts(1, 2, 3) as (one, other, third):
        for running in (other, third):
            await connect(running, one)
        await wait_until(lambda: len(one.changes) == 2)
        port = tcp_port(one)
        one.scope.cancel()
        for running in (other, third):
            await wait_until(lambda running=running: not running.host.connected())  # type: ignore[misc]  # bound at once
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", port)


async def test_where_nothing_can_listen_it_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        for address in (f"/ip4/127.0.0.1/tcp/{port}", "/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/tcp/4001"):
            with pytest.raises(ExceptionGroup) as caught:
                await run_once(address)
            assert caught.group_contains(SetupError, match="cannot listen on .*--p2p-listen")


async def test_a_port_of_another_host_is_not_shared() -> None:
    async with loopback_hosts(1) as (one,):
        with pytest.raises(ExceptionGroup) as caught:
            await run_once(one.host.listening()[0])
        assert caught.group_contains(SetupError)


async def test_one_usable_address_is_enough() -> None:
    await run_once(LOOPBACK, "/ip4/192.0.2.1/tcp/4001", "/dns/localhost/tcp/0")


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(SetupError, match='"nonsense": it is not an address'):
        Host(bytes(32), ["nonsense"], tuple)


async def run_once(*listen: str) -> None:
    async def once() -> None:
        async with Host(bytes(range(32)), listen, tuple).run(print, print):
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(once)
