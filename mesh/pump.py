"""Joins a libp2p stream and a Unix connection, bytes both ways (trio shell).

The kernel's socket buffers and yamux's window bound what is in flight; a reader that stops stops the writer.
An end from the peer's side may be kept back until the answer is out: aiohttp drops an answer when its client
half-closes, which HTTP clients in Go do. A program that closes altogether before the answer is out ends the stream, so
that nobody goes on working for it.
"""

from __future__ import annotations

import trio

from localai.mesh.errors import Unavailable
from localai.mesh.host.host import READ_BYTES, HostStream


async def pump(stream: HostStream, connection: trio.SocketStream, *, hold_end: bool) -> None:
    """Carry bytes until both directions have ended or one breaks; both are closed then.

    ``hold_end`` keeps the peer's end of stream back until this side's bytes have all been sent.
    """
    answered = trio.Event() if hold_end else None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_outward, connection, stream, answered)
            await _inward(stream, connection, answered)
        await stream.close()
    except* (Unavailable, trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the frames inside tell both ends that it was cut
    finally:
        with trio.CancelScope(shield=True):
            await stream.reset()
            await trio.aclose_forcefully(connection)


async def _outward(connection: trio.SocketStream, stream: HostStream, answered: trio.Event | None) -> None:
    while data := await connection.receive_some(READ_BYTES):
        await stream.write(data)
    await stream.close_write()
    if answered is not None:
        answered.set()
    elif await _is_gone(connection):
        raise Unavailable("Who asked is gone, and nobody waits for the answer.")


async def _is_gone(connection: trio.SocketStream) -> bool:
    """True when the other end is closed altogether, and not only for writing."""
    try:
        await connection.socket.send(b"")
    except OSError:
        return True
    return False


async def _inward(stream: HostStream, connection: trio.SocketStream, answered: trio.Event | None) -> None:
    while data := await stream.read():
        await connection.send_all(data)
    if stream.connection_lost:
        raise Unavailable("The connection to a peer is gone.")
    if answered is not None:
        await _wait_answered(stream, answered)
    await connection.send_eof()


async def _wait_answered(stream: HostStream, answered: trio.Event) -> None:
    async def give_up() -> None:
        await stream.wait_broken()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        await answered.wait()
        nursery.cancel_scope.cancel()
    if not answered.is_set():
        raise Unavailable("The stream to a peer is gone, and nobody waits for the answer.")
