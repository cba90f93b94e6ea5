"""How many connections there may be, and how long a client may take (pure).

    waits for   the client has to                  patience
    headers     send the rest of a request's head  ``headers_s`` in all
    body        send the rest of a body            ``bytes_per_s`` in every ``window_s``
    reader      take what was sent                 the same
    closing     take the rest and let go           ``window_s`` in all
    nothing     -                                  for ever

A connection is looked at every few seconds, so that patience costs nothing per request.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

Refusal: TypeAlias = Literal["total", "address"]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What clients may take of this node.

    ``total`` connections at once, of them ``per_address`` from one address other than this machine; times in seconds.
    ``headers_s`` is for the whole head of a request, ``idle_s`` for the pause between two requests. In every
    ``window_s`` a client must send, or take, ``bytes_per_s`` on average; slower ones hold memory for too long.
    """

    total: int = 1024
    per_address: int = 128
    headers_s: float = 30.0
    idle_s: float = 120.0
    window_s: float = 30.0
    bytes_per_s: float = 1000.0

    @property
    def look_s(self) -> float:
        """Time between two looks at the connections."""
        return min(self.headers_s, self.window_s) / 6


class Door:
    """Counts who is in. An IPv6 network of 2^64 addresses counts as one address, because one client has it all."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._inside: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Connections at the moment."""
        return self._inside.total()

    def enter(self, address: str) -> Refusal | None:
        """Let a connection in, or say which limit it would exceed. Empty for a client without an address."""
        key = _client(address)
        if self._inside.total() >= self._limits.total:
            return "total"
        if key and self._inside[key] >= self._limits.per_address:
            return "address"
        self._inside[key] += 1
        return None

    def leave(self, address: str) -> None:
        """Forget a connection that was let in."""
        key = _client(address)
        self._inside[key] -= 1
        if not self._inside[key]:
            del self._inside[key]


def _client(address: str) -> str:
    """What is counted together: empty for this machine, where a proxy may stand for many clients."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return "" if parsed.is_loopback else str(ipaddress.ip_network((parsed, 64), strict=False))
        parsed = parsed.ipv4_mapped
    return "" if parsed.is_loopback else str(parsed)


class Wait(StrEnum):
    """What a connection waits for."""

    HEADERS = "headers"
    BODY = "body"
    READER = "reader"
    CLOSING = "closing"
    NOTHING = "nothing"


_WHOLE = frozenset({Wait.HEADERS, Wait.CLOSING})


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a connection. ``turn`` changes whenever waiting begins anew; ``progress`` counts bytes upward."""

    wait: Wait
    turn: int = 0
    progress: int = 0


class Patience:
    """How long one connection has waited for its client."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._first = Look(Wait.NOTHING)
        self._since = 0.0

    def is_over(self, look: Look, now: float) -> bool:
        """Whether the client has had its time; ``now`` in seconds, never less than before."""
        if look.wait is Wait.NOTHING or (look.wait, look.turn) != (self._first.wait, self._first.turn):
            self._first, self._since = look, now
            return False
        limits = self._limits
        if look.wait in _WHOLE:
            return now - self._since >= (limits.headers_s if look.wait is Wait.HEADERS else limits.window_s)
        waited = now - self._since
        if waited < limits.window_s:
            return False
        if look.progress - self._first.progress < limits.bytes_per_s * waited:
            return True
        self._first, self._since = look, now
        return False
