"""Finding members through a DHT by a name that rotates (trio shell).

Everybody with the token announces itself under the same name and looks it up. Source: go-libp2p's routing discovery:
the key is the multihash ``12 20 sha256(name)``.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from localai.mesh.errors import LocalAIError
from localai.mesh.host.host import DIAL_TIMEOUT_S, Host
from localai.mesh.ids import PeerId, parse_peer_id

_LOG = structlog.get_logger()

LOOKUP_TIMEOUT_S = 30.0
MAX_FOUND = 100

OnFound = Callable[[PeerId, tuple[str, ...]], None]


class Rendezvous:
    """One DHT over one host."""

    def __init__(self, host: Host, bootstrap: Sequence[str], *, server: bool) -> None:
        self._host = host
        self._bootstrap = [info_from_p2p_addr(Multiaddr(text)) for text in bootstrap]
        self._dht: Any = KadDHT(host.raw, DHTMode.SERVER if server else DHTMode.CLIENT, max_peers_per_subnet=0)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """The DHT works inside the block."""
        async with background_trio_service(self._dht):
            yield

    async def meet(self, names: Sequence[str], own_names: Sequence[str], on_found: OnFound) -> int:
        """One round: announce this node under ``own_names``, report who is announced under ``names``.

        Returns the number of bootstrap peers that are connected.
        """
        connected = await self._connect()
        if connected:
            await self._timed(self._dht.refresh_routing_table)
        for name in own_names:
            await self._timed(self._dht.provide, key_of(name).hex())
        for name in names:
            key = key_of(name)
            # Once it holds any record of a key, the library answers from its own store and asks nobody.
            self._dht.provider_store.providers.pop(key, None)
            for info in await self._timed(self._dht.find_providers, key.hex(), MAX_FOUND) or ():
                self._report(info, on_found)
        return connected

    async def _connect(self) -> int:
        connected = 0
        for info in self._bootstrap:
            try:
                with trio.move_on_after(DIAL_TIMEOUT_S):
                    self._host.forget_failures(str(info.peer_id))
                    await self._host.raw.connect(info)
                    connected += 1
            except Exception as error:
                _LOG.debug("bootstrap_failed", peer=str(info.peer_id), error=repr(error)[:300])
        return connected

    async def _timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            with trio.move_on_after(LOOKUP_TIMEOUT_S):
                return await call(*arguments)
        except Exception as error:
            _LOG.debug("dht_failed", call=call.__name__, error=repr(error)[:300])
        return None

    def _report(self, info: Any, on_found: OnFound) -> None:
        try:
            peer = parse_peer_id(str(info.peer_id))
        except LocalAIError:
            return  # a node with a key of another kind is none of ours
        addresses = tuple(text for text in map(str, info.addrs) if "/tcp/" in text and "/ws" not in text)
        on_found(peer, tuple(text.split("/p2p/")[0] for text in addresses))


def key_of(name: str) -> bytes:
    """The DHT key of a rendezvous name: 34 bytes."""
    return b"\x12\x20" + hashlib.sha256(name.encode()).digest()
