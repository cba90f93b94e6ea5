"""libp2p hosts on loopback, and a wire between them that can be frozen and cut (trio shell).

Each host runs in a task of its own: two in one task do not end cleanly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio

from localai.mesh.host.host import Host, HostStream
from localai.mesh.ids import PeerId

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
TIMEOUT_S = 10.0
"""For what takes milliseconds on an idle machine."""
_READ_BYTES = 65_536


@dataclass(slots=True, eq=False)
class LoopbackHost:
    """A running host and what it told of its connections."""

    host: Host
    changes: list[tuple[str, PeerId]] = field(default_factory=list)
    """``("connected" | "disconnected", peer)``, in order."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Cancel it to stop the host."""


Inside = Callable[[LoopbackHost], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _nothing(running: LoopbackHost) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def loopback_hosts(*seeds: int, inside: Inside = _nothing) -> AsyncIterator[tuple[LoopbackHost, ...]]:
    """Running hosts, one for each seed, 0 to 255, which makes its identity. ``inside`` is entered when one runs."""
    async with trio.open_nursery() as nursery:
        hosts = []
        for seed in seeds:
            running = LoopbackHost(Host(bytes([seed]) * 32, [LOOPBACK], tuple))
            await nursery.start(_run, running, inside)
            hosts.append(running)
        yield tuple(hosts)
        nursery.cancel_scope.cancel()


async def _run(running: LoopbackHost, inside: Inside, task_status: trio.TaskStatus[None]) -> None:
    def connected(peer: PeerId) -> None:
        running.changes.append(("connected", peer))

    def disconnected(peer: PeerId) -> None:
        running.changes.append(("disconnected", peer))

    with running.scope:
        async with running.host.run(connected, disconnected), inside(running):
            task_status.started()
            await trio.sleep_forever()


async def echo(peer: PeerId, stream: HostStream) -> None:
    """A stream handler that sends back what comes."""
    while data := await stream.read():
        await stream.write(data)
    await stream.close()


async def read_exactly(stream: HostStream, size: int) -> bytes:
    """So many bytes; fewer when the stream ends before."""
    data = bytearray()
    while len(data) < size and (chunk := await stream.read()):
        data += chunk
    return bytes(data)


async def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again until a condition holds; for what nobody tells of.

    Raises:
        trio.TooSlowError: it did not within :data:`TIMEOUT_S`.
    """
    with trio.fail_after(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110  # nobody could set an event
            await trio.sleep(0.005)


class Wire:
    """A TCP relay to one host. Frozen, it takes nothing more, as a host that was stopped; the kernel's buffers fill."""

    def __init__(self, target: str, port: int, nursery: trio.Nursery) -> None:
        self.address = f"/ip4/127.0.0.1/tcp/{port}"
        """Dial this instead of the host's own address."""
        self._target_port = int(target.split("/")[4])
        self._nursery = nursery
        self._flowing = trio.Event()
        self._flowing.set()
        self._ends: list[trio.SocketStream] = []

    def freeze(self) -> None:
        """Carry nothing more, in both directions."""
        self._flowing = trio.Event()

    def thaw(self) -> None:
        """Carry again."""
        self._flowing.set()

    async def cut(self) -> None:
        """Close every connection at both ends."""
        for end in self._ends:
            await trio.aclose_forcefully(end)
        self._ends.clear()

    async def carry(self, near: trio.SocketStream) -> None:
        """Handle one connection."""
        far = await trio.open_tcp_stream("127.0.0.1", self._target_port)
        self._ends += (near, far)
        async with far, trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, near, far)
            nursery.start_soon(self._copy, far, near)

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await self._flowing.wait()
                data = await source.receive_some(_READ_BYTES)
                await self._flowing.wait()
                if not data:
                    return await sink.send_eof()
                await sink.send_all(data)


@asynccontextmanager
async def wire_to(target: LoopbackHost) -> AsyncIterator[Wire]:
    """A wire to a host, as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        wire = Wire(target.host.listening()[0], listeners[0].socket.getsockname()[1], nursery)
        nursery.start_soon(trio.serve_listeners, wire.carry, listeners)
        yield wire
        await wire.cut()
        nursery.cancel_scope.cancel()
