"""One libp2p host behind guards (trio shell).

What is different from a bare host: only Noise is offered (the default also accepts plaintext); an exception in any
stream handler ends that stream instead of the whole host; dialling tries addresses in the order given, each once, and
does not remember failures for a minute; connections that came in and ended do not count for ever; a port is taken once;
every operation has a time limit; exceptions of libp2p become ours.
One host per process: two of them in one do not end cleanly (docs/decisions/0002-libp2p.md).
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import multiaddr
import structlog
import trio
from libp2p import new_host
from libp2p.abc import INotifee
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.rcmgr import new_resource_manager
from libp2p.rcmgr.manager import ResourceLimits
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport

from localai.mesh.errors import LocalAIError, SetupError, Unavailable
from localai.mesh.ids import PeerId, parse_peer_id

_LOG = structlog.get_logger()

MAX_CONNECTIONS = 256
MAX_STREAMS = 4096
DIAL_TIMEOUT_S = 5.0
OPEN_TIMEOUT_S = 6.0
CLOSE_TIMEOUT_S = 2.0
RESET_CHECK_S = 0.25
READ_BYTES = 65_536


class HostStream:
    """One stream to a peer. EOF and reset cannot be told apart by its reader: frames must say where they end."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.ended = False
        """Both directions are done with, or it was reset."""

    async def read(self) -> bytes:
        """The next bytes, at most :data:`READ_BYTES`; empty at the end."""
        try:
            data: bytes = await self._stream.read(READ_BYTES)
        except StreamEOF:
            return b""
        except Exception as error:
            raise Unavailable("The stream to a peer broke.", detail=repr(error)[:300]) from error
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the peer does not read.

        Raises:
            Unavailable: the stream is broken.
        """
        try:
            await self._stream.write(data)
        except Exception as error:
            raise Unavailable("The stream to a peer broke.", detail=repr(error)[:300]) from error

    async def close_write(self) -> None:
        """Tell the peer that nothing more comes. Harmless when the stream is broken."""
        await _quietly(self._stream.close_write)

    async def close(self) -> None:
        """End it in order; harmless when it has ended."""
        if not self.ended:
            self.ended = True
            await _quietly(self._stream.close)

    async def reset(self) -> None:
        """End it at once, also for who is reading it here; harmless when it has ended."""
        if not self.ended:
            self.ended = True
            muxed = self._stream.muxed_stream
            reader = muxed.conn.stream_events.get(muxed.stream_id)
            await _quietly(self._stream.reset)
            if reader is not None:
                reader.set()  # the library wakes the other side's reader only

    async def wait_broken(self) -> None:
        """Wait until the peer resets the stream or the connection is lost; for when nothing is left to read."""
        muxed = self._stream.muxed_stream
        while not (self.connection_lost or muxed.closed):
            with trio.move_on_after(RESET_CHECK_S):  # the library has no event for a reset
                await muxed.conn.event_shutting_down.wait()

    @property
    def connection_lost(self) -> bool:
        """True when the connection below is gone, so that no answer can come any more."""
        connection = self._stream.muxed_conn
        return bool(connection.is_closed or connection.event_shutting_down.is_set())

    def shares_connection(self, other: HostStream) -> bool:
        """True when both are streams of one connection."""
        return self._stream.muxed_conn is other._stream.muxed_conn

    async def close_connection(self) -> None:
        """End the connection below with all its streams; returns in bounded time, also when the path is dead."""
        await _close(self._stream.swarm_conn)


StreamHandler = Callable[[PeerId, HostStream], Awaitable[None]]
"""Owns the stream until it returns; then what is left open is reset."""
ConnectionChange = Callable[[PeerId], None]
Announce = Callable[[Sequence[str]], Sequence[str]]
"""From what is listened on to what others can dial, as multiaddrs."""


class Host:
    """The running host."""

    def __init__(self, private_key: bytes, listen: Sequence[str], announce: Announce) -> None:
        keys = create_new_key_pair(private_key)
        noise = NoiseTransport(keys, noise_privkey=create_noise_key_pair().private_key)
        limits = ResourceLimits(max_connections=MAX_CONNECTIONS, max_streams=MAX_STREAMS)
        self._listen = [_multiaddr(text) for text in listen]
        self.raw: Any = new_host(
            key_pair=keys,
            sec_opt={NOISE: noise},
            muxer_preference="YAMUX",
            listen_addrs=self._listen,
            connection_config=ConnectionConfig(
                max_connections=MAX_CONNECTIONS,
                min_connections=0,
                low_watermark=0,
                high_watermark=MAX_CONNECTIONS,
                dial_timeout=DIAL_TIMEOUT_S,
                inbound_upgrade_timeout=DIAL_TIMEOUT_S,
                outbound_upgrade_timeout=DIAL_TIMEOUT_S,
                outbound_stream_protocol_negotiation_timeout=OPEN_TIMEOUT_S,
                inbound_stream_protocol_negotiation_timeout=OPEN_TIMEOUT_S,
            ),
            resource_manager=new_resource_manager(
                limits=limits,
                enable_memory_limits=False,
                enable_circuit_breaker=False,
                enable_graceful_degradation=False,
            ),
            negotiate_timeout=int(OPEN_TIMEOUT_S),
            addrs_factory=lambda live: [multiaddr.Multiaddr(text) for text in announce([str(each) for each in live])],
        )
        self._network: Any = self.raw.get_network()
        self._network.retry_config = RetryConfig(max_retries=0)
        self._network.set_stream_handler(self._guarded(self.raw._swarm_stream_handler))
        self._network._do_handle_inbound_connection = self._inbound
        self._network.auto_connector.start = trio.lowlevel.checkpoint  # it would dial peers that we have given up
        self._open: set[Any] = set()
        """Connections. When it is cancelled, the library may forget its own before they are closed."""
        self.broken_handlers = 0
        """Exceptions that came out of stream handlers, ours or the library's."""

    @property
    def peer_id(self) -> PeerId:
        """Who this host is."""
        return PeerId(str(self.raw.get_id()))

    @asynccontextmanager
    async def run(self, on_connected: ConnectionChange, on_disconnected: ConnectionChange) -> AsyncIterator[None]:
        """Listen and serve inside the block. The callbacks name the peer of each new connection; each peer without any.

        Raises:
            SetupError: it cannot listen there.
        """
        self._network.register_notifee(_Notifee(self._open, on_connected, on_disconnected))
        taken = [address for address in self._listen if _is_taken(address)]
        async with self.raw.run(listen_addrs=[address for address in self._listen if address not in taken]):
            if self._listen and not self.listening():
                places = ", ".join(str(address) for address in self._listen)
                raise SetupError(
                    f"The mesh cannot listen on {places}: in use, or not an address of this machine. "
                    "Give another one with --p2p-listen.",
                    code="p2p_listen",
                )
            try:
                yield
            finally:
                await self._stop()

    async def _stop(self) -> None:
        with trio.CancelScope(shield=True):
            for listener in list(self._network.listeners.values()):
                await _quietly(listener.close)
            async with trio.open_nursery() as nursery:
                for connection in self._open:
                    nursery.start_soon(_close, connection)

    def listening(self) -> tuple[str, ...]:
        """The multiaddrs it listens on, with real ports."""
        return tuple(str(address).split("/p2p/")[0] for address in self.raw.get_transport_addrs())

    def connected(self) -> tuple[PeerId, ...]:
        """Peers with at least one connection."""
        return tuple(PeerId(str(peer)) for peer, connections in self._network.connections.items() if connections)

    def is_connected(self, peer: PeerId) -> bool:
        """True when there is a connection."""
        return any(not connection.is_closed for connection in self._network.get_connections(_id(peer)))

    async def dial(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Connect, unless that is so already.

        Raises:
            Unavailable: no address leads to this peer.
        """
        reasons: list[str] = []
        for address in addresses:
            if self.is_connected(peer):
                return
            try:
                with trio.fail_after(DIAL_TIMEOUT_S):
                    await self._network.dial_addr(multiaddr.Multiaddr(address), _id(peer))
                return
            except Exception as error:
                reasons.append(f"{address}: {_reason(error)}")
        raise Unavailable("No address of a peer leads to it.", detail="; ".join(reasons)[:500])

    def forget_failures(self, peer: str) -> None:
        """Let the library dial this peer again at once; it refuses for a minute after a failure."""
        self._network._negative_peer_cache.evict(peer)

    async def disconnect(self, peer: PeerId) -> None:
        """Close all connections with this peer; returns in bounded time, also when the path is dead."""
        async with trio.open_nursery() as nursery:
            for connection in list(self._network.get_connections(_id(peer))):
                nursery.start_soon(_close, connection)

    async def open_stream(self, peer: PeerId, protocol: str) -> HostStream:
        """A new stream on the existing connection.

        Raises:
            Unavailable: not connected, the peer does not know the protocol, or does not answer in time.
        """
        if not self.is_connected(peer):
            raise Unavailable("The peer is not connected.")
        try:
            with trio.fail_after(OPEN_TIMEOUT_S):
                return HostStream(await self.raw.new_stream(_id(peer), [TProtocol(protocol)]))
        except Exception as error:
            raise Unavailable("A peer does not open a stream.", detail=_reason(error)) from error

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Pass streams of this protocol to ``handler``."""

        async def guarded(stream: Any) -> None:
            peer_stream = HostStream(stream)
            try:
                await handler(parse_peer_id(str(stream.muxed_conn.peer_id)), peer_stream)
            except LocalAIError as error:
                _LOG.debug("stream_ended", protocol=protocol, error=error.message, detail=error.detail)
            finally:
                with trio.CancelScope(shield=True):
                    await peer_stream.reset()

        self.raw.set_stream_handler(TProtocol(protocol), guarded)

    async def _inbound(self, tcp: Any, address: multiaddr.Multiaddr, failure: Any) -> None:
        """Instead of the library's, which keeps one of its slots for each connection that ever came in."""
        try:
            connection = await self._network.upgrade_inbound_raw_conn(RawConnection(tcp, False), address)
        except Exception as error:
            _LOG.debug("inbound_refused", error=_reason(error))
            await _quietly(tcp.close)
            return
        await connection.event_closed.wait()

    def _guarded(self, handler: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        """An exception that leaves a handler would end the whole host."""

        async def guarded(stream: Any) -> None:
            try:
                await handler(stream)
            except Exception as error:
                self.broken_handlers += 1
                _LOG.debug("stream_handler_failed", error=repr(error)[:300])
                await _quietly(stream.reset)

        return guarded


class _Notifee(INotifee):  # type: ignore[misc]  # the library's class is untyped here
    """Turns connections into peers that come and go."""

    def __init__(self, opened: set[Any], on_connected: ConnectionChange, on_disconnected: ConnectionChange) -> None:
        self._open = opened
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected

    async def connected(self, network: Any, conn: Any) -> None:
        self._open.add(conn)
        self._on_connected(_peer_of(conn))

    async def disconnected(self, network: Any, conn: Any) -> None:
        self._open.discard(conn)
        peer = _peer_of(conn)
        if all(_peer_of(other) != peer for other in self._open):
            self._on_disconnected(peer)

    async def opened_stream(self, network: Any, stream: Any) -> None:
        pass

    async def closed_stream(self, network: Any, stream: Any) -> None:
        pass

    async def listen(self, network: Any, multiaddr: Any) -> None:
        pass

    async def listen_close(self, network: Any, multiaddr: Any) -> None:
        pass


def _multiaddr(text: str) -> multiaddr.Multiaddr:
    try:
        return multiaddr.Multiaddr(text)
    except ValueError as error:
        raise SetupError(
            f'The mesh cannot listen on "{text}": it is not an address. Give another one with --p2p-listen.',
            code="p2p_listen",
            detail=repr(error)[:300],
        ) from error


def _is_taken(address: multiaddr.Multiaddr) -> bool:
    """The library lets two processes of one user listen on one port; each would get half of the connections."""
    match str(address).split("/"):
        case ["", "ip4", host, "tcp", port]:
            family = socket.AF_INET
        case ["", "ip6", host, "tcp", port]:
            family = socket.AF_INET6
        case _:
            return False
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return True
    return False


async def _close(connection: Any) -> None:
    """Close a connection, in twice :data:`CLOSE_TIMEOUT_S` at most.

    Cancelled inside, the library would call it closed, leave it open, and never say that the peer is gone. So a close
    that takes too long is helped along by closing the socket.
    """

    async def close() -> None:
        await _quietly(connection.close)
        nursery.cancel_scope.cancel()

    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(close)
            await trio.sleep(CLOSE_TIMEOUT_S)
            _LOG.debug("connection_closed_late", peer=_peer_of(connection))
            await _quietly(_abort, connection)
            await trio.sleep(CLOSE_TIMEOUT_S)
            nursery.cancel_scope.cancel()
        await _quietly(_abort, connection)


async def _abort(connection: Any) -> None:
    noise = connection.muxed_conn.secured_conn.conn
    await trio.aclose_forcefully(noise.read_writer.read_write_closer.stream.stream)


def _peer_of(connection: Any) -> PeerId:
    return PeerId(str(connection.muxed_conn.peer_id))


def _id(peer: PeerId) -> ID:
    return ID.from_base58(peer)


def _reason(error: BaseException) -> str:
    cause = error.__cause__
    return (f"{type(error).__name__} {error}" + (f" ({type(cause).__name__} {cause})" if cause else ""))[:300]


async def _quietly(call: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """For ends: what cannot be closed any more is closed."""
    try:
        await call(*arguments)
    except Exception as error:
        _LOG.debug("close_failed", error=repr(error)[:200])
