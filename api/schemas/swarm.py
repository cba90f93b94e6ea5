"""What ``/api/p2p/peers`` says (pure)."""

from __future__ import annotations

import msgspec


class PeerBody(msgspec.Struct, frozen=True, kw_only=True):
    """One other node of the swarm."""

    node: str
    """Short id, as in ``X-LocalAI-Node``."""
    peer_id: str
    connected: bool
    usable: bool
    """Requests may be sent to it now."""
    serves: bool
    draining: bool
    round_trip_ms: float
    """0 until measured."""
    in_flight: int
    """Requests that this node has sent to it and that are not finished."""
    models: list[str]
    contents: dict[str, str] = {}
    """Model -> hash of what it is made of, as far as known: equal hashes go on alike with an answer."""
    program: str


class PeersBody(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /api/p2p/peers``."""

    enabled: bool
    node: str = ""
    """Short id of this node."""
    peer_id: str = ""
    addresses: list[str] = []
    """Where others can dial this node."""
    warnings: list[str] = []
    """What does not work, such as finding others on the LAN."""
    peers: list[PeerBody] = []
    counts: dict[str, int] = {}
    """What happened since the mesh process started: refused strangers, records taken, dials that failed, ..."""
    mesh_restarts: int = 0
