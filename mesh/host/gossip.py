"""Gossip on rotating topics (trio shell).

GossipSub of libp2p 0.8.1 with the settings and the cures that a small mesh needs: a heartbeat of 1 s (default 120), no
per-forwarder limit below our own, and every few seconds a repair of what it forgets about peers after a broken stream.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from localai.mesh.host.host import Host
from localai.mesh.ids import PeerId

_LOG = structlog.get_logger()

PROTOCOLS = (TProtocol("/meshsub/1.1.0"), TProtocol("/meshsub/1.0.0"))
MAX_RPC_BYTES = 1 << 20
REPAIR_S = 3.0
_STREAM_TIMEOUT_S = 5.0


class Gossip:
    """Messages to and from everybody who knows the topic."""

    def __init__(self, host: Host, on_message: Callable[[bytes], None]) -> None:
        self._on_message = on_message
        self._router = GossipSub(
            PROTOCOLS,
            degree=6,
            degree_low=5,
            degree_high=12,
            heartbeat_interval=1,
            prune_back_off=10,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        self._pubsub: Any = Pubsub(host.raw, self._router, strict_signing=True, max_inbound_rpc_size=MAX_RPC_BYTES)
        self._pubsub.counter = time.time_ns()  # the default counts seconds: a quick restart would repeat message ids
        self._topics: tuple[str, ...] = ()
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Gossip works inside the block. It must run before the first connection is made."""
        async with (
            background_trio_service(self._pubsub),
            background_trio_service(self._router),
            trio.open_nursery() as nursery,
        ):
            self._nursery = nursery
            await self._pubsub.wait_until_ready()
            yield
            nursery.cancel_scope.cancel()

    async def set_topics(self, topics: Sequence[str]) -> None:
        """Listen to these topics and to no other; ``publish`` goes to the first."""
        assert self._nursery is not None
        for topic in topics:
            if topic not in self._topics:
                self._nursery.start_soon(self._listen, await self._pubsub.subscribe(topic))
        for topic in self._topics:
            if topic not in topics:
                await self._pubsub.unsubscribe(topic)
        self._topics = tuple(topics)

    async def publish(self, data: bytes) -> None:
        """Send to the current topic; lost when nobody listens yet."""
        if self._topics:
            await self._pubsub.publish(self._topics[0], data)

    async def repair(self, members: Iterable[PeerId]) -> None:
        """Make sure that every member has a gossip stream and counts as a listener.

        A stream that could not be opened at the first try is never tried again by the library, and a broken one makes
        it forget the peer's topics, which the peer does not announce twice.
        """
        for member in members:
            peer = ID.from_base58(member)
            try:
                known = peer in self._pubsub.peers or await self._pubsub.ensure_peer_stream(peer, _STREAM_TIMEOUT_S)
            except Exception as error:
                _LOG.debug("gossip_stream_failed", peer=member, error=repr(error)[:200])
                continue
            if known:
                for topic in self._topics:
                    self._pubsub.peer_topics.setdefault(topic, set()).add(peer)

    async def _listen(self, subscription: Any) -> None:
        while True:
            try:
                message = await subscription.get()
            except trio.EndOfChannel:  # unsubscribed
                return
            self._on_message(bytes(message.data))
