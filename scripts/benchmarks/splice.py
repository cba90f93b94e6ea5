"""Joins TCP connections through libp2p as LocalAI does, as the program of two children (trio shell).

``python splice.py exit PORT`` stands beside an HTTP server: it prints its multiaddr and peer id, and joins every stream
with a new connection to ``PORT``. ``python splice.py entry MULTIADDR PEER`` stands beside the clients: it prints its
own port, and joins every connection with a new stream to that peer. The bytes of a connection pass unread. Host,
repairs and copying are those of the mesh process, so that what differs from a node is the session. Both serve until
their input ends.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from functools import partial

import trio

from localai.mesh.host import patches
from localai.mesh.host.host import Host, HostStream
from localai.mesh.ids import PeerId, parse_peer_id
from localai.mesh.pump import pump

PROTOCOL = "/localai/bench/splice/1"
LISTEN = "/ip4/127.0.0.1/tcp/0"
KEY_BYTES = 32


def new_host() -> Host:
    """A host on a free port of the loopback, with an identity of its own."""
    return Host(secrets.token_bytes(KEY_BYTES), [LISTEN], lambda addresses: addresses)


async def serve_exit(http_port: int) -> None:
    """Join streams with connections to the port."""

    async def joined(peer: PeerId, stream: HostStream) -> None:
        await pump(stream, await trio.open_tcp_stream("127.0.0.1", http_port), hold_end=True)

    host = new_host()
    host.serve(PROTOCOL, joined)
    async with host.run(_ignore, _ignore):
        print(host.listening()[0], host.peer_id, flush=True)
        await _wait_input_ends()


async def serve_entry(address: str, peer: PeerId) -> None:
    """Join connections to a port of ours with streams to the peer."""

    async def joined(connection: trio.SocketStream) -> None:
        await pump(await host.open_stream(peer, PROTOCOL), connection, hold_end=False)

    host = new_host()
    async with host.run(_ignore, _ignore), trio.open_nursery() as nursery:
        await host.dial(peer, [address])
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(listeners[0].socket.getsockname()[1], flush=True)
        nursery.start_soon(trio.serve_listeners, joined, listeners)
        await _wait_input_ends()
        nursery.cancel_scope.cancel()


def _ignore(peer: PeerId) -> None:
    """Nobody asks who is connected."""


async def _wait_input_ends() -> None:
    await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


def main(side: str, arguments: Sequence[str]) -> None:
    """Serve."""
    patches.apply()
    if side == "exit":
        trio.run(serve_exit, int(arguments[0]))
    else:
        trio.run(partial(serve_entry, arguments[0], parse_peer_id(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
