"""Whom to dial, and when (pure).

A few addresses are kept for each peer: first those from the user, then those that discovery or the peer itself gave,
the latest first. A peer that is not connected is dialled at once when an address is new, then again after a growing
pause. Peers that turned out not to be members rest long; their addresses are not dialled again soon just because they
are announced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from localai.mesh.ids import PeerId

MAX_PEERS = 512
"""Beside those given by the user."""
MAX_ADDRESSES = 8
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 15.0
STRANGER_PAUSE_S = 300.0
FORGET_S = 3600.0
"""A peer that was not reached for so long is forgotten, unless it was given by the user."""


@dataclass(slots=True)
class _Peer:
    addresses: tuple[str, ...]
    due: float
    pause_s: float
    last_good: float
    given: tuple[str, ...]
    """Addresses from the user; a peer cannot push them out with its own."""
    dialling: bool = False
    connected: bool = False


@dataclass(frozen=True, slots=True)
class DialNow:
    """Dial this peer; answered by ``dialled``."""

    peer: PeerId
    addresses: tuple[str, ...]


class Dialing:
    """Keeps addresses and decides."""

    def __init__(self, own: PeerId) -> None:
        self._own = own
        self._peers: dict[PeerId, _Peer] = {}

    def found(self, peer: PeerId, addresses: Sequence[str], now: float, *, given: bool = False) -> None:
        """A peer may be reached at these addresses. Those ``given`` by the user are never forgotten."""
        if peer == self._own or not addresses:
            return
        known = self._peers.get(peer)
        if known is None:
            if len(self._peers) >= MAX_PEERS and not given:
                return
            known = self._peers[peer] = _Peer((), now, FIRST_PAUSE_S, now, ())
        if given:
            known.given = _first((*addresses, *known.given))
        before = known.addresses
        others = _first(address for address in (*addresses, *before) if address not in known.given)
        known.addresses = (*known.given, *others)[:MAX_ADDRESSES]
        if not set(known.addresses) <= set(before) and known.pause_s < STRANGER_PAUSE_S:
            known.due, known.pause_s = now, FIRST_PAUSE_S

    def due(self, now: float) -> list[DialNow]:
        """Dials to start now."""
        for peer in [peer for peer, known in self._peers.items() if self._is_forgotten(known, now)]:
            del self._peers[peer]
        dials = []
        for peer, known in self._peers.items():
            if not known.connected and not known.dialling and known.due <= now:
                known.dialling = True
                dials.append(DialNow(peer, known.addresses))
        return dials

    def next_wakeup(self) -> float | None:
        """The instant at which ``due`` has something to say next."""
        return min(
            (known.due for known in self._peers.values() if not known.connected and not known.dialling), default=None
        )

    def dialled(self, peer: PeerId, now: float) -> None:
        """The dial has ended. Whether it worked is told by ``connected``."""
        if (known := self._peers.get(peer)) is not None:
            known.dialling = False
            known.due = now + known.pause_s
            known.pause_s = max(known.pause_s, min(known.pause_s * 2, MAX_PAUSE_S))

    def connected(self, peer: PeerId) -> None:
        """There is a connection, whoever made it."""
        if (known := self._peers.get(peer)) is not None:
            known.connected = True

    def joined(self, peer: PeerId, now: float) -> None:
        """The peer is a member."""
        if (known := self._peers.get(peer)) is not None:
            known.pause_s = FIRST_PAUSE_S
            known.last_good = now

    def is_stranger(self, peer: PeerId, now: float) -> None:
        """The peer could not show that it is a member."""
        if (known := self._peers.get(peer)) is not None:
            known.pause_s = STRANGER_PAUSE_S
            known.due = now + STRANGER_PAUSE_S

    def disconnected(self, peer: PeerId, now: float) -> None:
        """The last connection is gone."""
        if (known := self._peers.get(peer)) is not None and known.connected:
            known.connected = False
            known.due = now + known.pause_s
            if known.pause_s < STRANGER_PAUSE_S:
                known.last_good = now

    def known(self) -> dict[PeerId, tuple[str, ...]]:
        """All addresses, for the next start."""
        return {peer: known.addresses for peer, known in self._peers.items()}

    def _is_forgotten(self, known: _Peer, now: float) -> bool:
        return not known.given and not known.connected and not known.dialling and now - known.last_good > FORGET_S


def _first(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES]
