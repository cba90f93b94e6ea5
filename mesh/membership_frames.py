"""The membership stream: the first stream between two nodes, and the sign that the other one lives (pure).

    opener (the smaller peer id)     acceptor
      -> Greeting                      its proof
      <- Greeting                      its proof; or the stream is reset
      <-> Record*                      everything known, sealed; afterwards whatever changes
      <-> Ping, Pong                   every :data:`PING_S` seconds each way
      <-> Leaving                      the node stops

Nothing but these frames is read from a peer before its proof was good. Protocol id :data:`PROTOCOL`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from localai.mesh.wire import FrameCodec

PROTOCOL = "/localai/membership/1"
MEMBERSHIP_VERSION = 1
PING_S = 2.0
SILENCE_S = 7.0
"""Three pings missed: the peer is frozen, or the path to it is dead."""
GREETING_TIMEOUT_S = 5.0
MAX_MEMBERSHIP_FRAME_BYTES = 128 << 10
"""Room for one sealed record."""


class Greeting(msgspec.Struct, frozen=True, array_like=True, tag="greeting"):
    """Who is speaking, and the proof that it holds the network token."""

    version: int
    proof: bytes
    addresses: tuple[str, ...] = ()
    """Where the speaker can be dialled, so that either side can come back after a break."""


class Record(msgspec.Struct, frozen=True, array_like=True, tag="record"):
    """One sealed record of any author."""

    sealed: bytes


class Ping(msgspec.Struct, frozen=True, array_like=True, tag="ping"):
    """Answer this with its number."""

    number: int


class Pong(msgspec.Struct, frozen=True, array_like=True, tag="pong"):
    """The answer to a ping."""

    number: int


class Leaving(msgspec.Struct, frozen=True, array_like=True, tag="leaving"):
    """The speaker goes, on purpose."""

    reason: str = ""


MembershipFrame: TypeAlias = Greeting | Record | Ping | Pong | Leaving


def membership_codec() -> FrameCodec[MembershipFrame]:
    """A codec for both directions."""
    return FrameCodec(MembershipFrame, MAX_MEMBERSHIP_FRAME_BYTES)
