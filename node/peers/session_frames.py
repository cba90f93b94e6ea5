"""The frames of a peer session: a worker's frames, both ways, over one stream of two nodes (pure).

    either side
      -> SessionHello             once, first
      -> SessionHeartbeat         every :data:`HEARTBEAT_S` seconds, and when something important changes
      -> Ask, Cancel              as the one who asks
      -> Events                   as the one who answers: all that is ready at a time, for all requests
      -> Goodbye                  last

Request ids belong to the side that sent ``Ask``. A request that came over a session is never sent on. End of
stream without ``Goodbye`` means that the peer is lost. docs/wire.md has the layouts and vectors.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from localai.mesh.wire import FrameCodec
from localai.node.routing.replica import ReplicaLoad
from localai.node.workers.frames import Ask, Cancel, Events

PROTOCOL = "/localai/session/1"
SESSION_VERSION = 1
OLDEST_VERSION = 1
"""The oldest version that this program still speaks."""
HEARTBEAT_S = 1.0
SILENCE_S = 6.0
"""A peer that says nothing for so long is lost, whatever its connection looks like."""
HELLO_TIMEOUT_S = 5.0


class SessionHello(msgspec.Struct, frozen=True, array_like=True, tag="session_hello"):
    """Who is speaking. Two sides can speak when each one's ``version`` is at least the other one's ``oldest``."""

    version: int
    oldest: int
    serves: bool
    """Answers requests of this peer."""
    program: str = ""


class SessionHeartbeat(msgspec.Struct, frozen=True, array_like=True, tag="session_heartbeat"):
    """Alive, and how busy."""

    number: int
    echo: int
    """Number of the last heartbeat of the reader; 0 before the first."""
    echo_after_s: float
    """How long ago that one came: the round trip is the time since it was sent, less this."""
    draining: bool
    """Takes no new requests: it is about to stop."""
    replicas: tuple[ReplicaLoad, ...]


class Goodbye(msgspec.Struct, frozen=True, array_like=True, tag="goodbye"):
    """The session ends on purpose."""

    reason: str


SessionFrame: TypeAlias = SessionHello | SessionHeartbeat | Ask | Cancel | Events | Goodbye


def session_codec() -> FrameCodec[SessionFrame]:
    """A codec for both directions."""
    return FrameCodec(SessionFrame)


def can_speak(ours: SessionHello, theirs: SessionHello) -> bool:
    """True when the two sides have a version in common."""
    return ours.version >= theirs.oldest and theirs.version >= ours.oldest
