"""One model at one node, as far as routing must know it (pure).

A :class:`ReplicaLoad` travels in every heartbeat of a peer session, as an array: append fields with defaults, never
reorder. A :class:`Candidate` is what a node makes of it for one request.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from localai.mesh.ids import PeerId


class ReplicaLoad(msgspec.Struct, frozen=True, array_like=True):
    """A model that a node can run, and how busy it is."""

    model: str
    context_size: int = 0
    """Tokens one sequence may hold; 0 while it is not known."""
    slots: int = 1
    """Sequences computed at once, at least 1."""
    active: int = 0
    """Requests for it at that node, in work or waiting, whoever asked."""
    yours: int = 0
    """How many of ``active`` came from the reader of this frame."""
    loaded: bool = False
    refuses: bool = False
    """It failed lately, and the node refuses requests for it until its cool-down is over."""
    load_s: float = 0.0
    """Seconds the last load took; 0 when it was never loaded."""
    prompt_tps: float = 0.0
    """Prompt tokens a second of one request; 0 when not measured."""
    decode_tps: float = 0.0
    """Tokens a second of one stream that is alone; 0 when not measured."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may answer a request."""

    peer: PeerId | None
    """None is this node."""
    load: ReplicaLoad
    in_flight: int
    """Requests for this model at that node now, as far as this node can know."""
    round_trip_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Work:
    """How much a request asks for, estimated."""

    prompt_tokens: int
    output_tokens: int


def in_flight_now(load: ReplicaLoad, ours: int) -> int:
    """Requests at a peer now: those of others as it last said, and ours as we know them."""
    return max(0, load.active - load.yours) + ours
