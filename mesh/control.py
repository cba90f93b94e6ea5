"""The frames between a node and its mesh process (pure).

    node                        mesh process
      -> Configure                once, first
      <- Ready | CannotStart      CannotStart is followed by exit; Ready again when addresses change
      -> Publish                  this node's record, whenever it changes
      -> Dial                     more addresses of a member
      -> Expose                   a socket that leads to a peer
      <- Exposed                  its path
      <- Joined, Left             a member's connection came up, or went
      <- RecordChanged, RecordExpired
      <- Counted                  what was refused so far, at most once a second

Each libp2p stream is a Unix connection of its own beside this socket. Outbound the node connects to the path of an
``Exposed``; inbound the mesh process connects to ``Configure.inbound_path`` and sends one :class:`Inbound` frame. After
that both carry raw bytes. End of this socket tells the mesh process to exit.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from localai.mesh.ids import PeerId
from localai.mesh.wire import FrameCodec

CONTROL_VERSION = 1
MAX_SOCKET_PATH_BYTES = 100
"""A Unix socket's path has room for 108 bytes on Linux, 104 elsewhere."""


class KnownPeer(msgspec.Struct, frozen=True, array_like=True):
    """Where a member was reachable before."""

    peer: PeerId
    addresses: tuple[str, ...]
    """Multiaddrs without their ``/p2p`` end."""
    given: bool = False
    """By the user: it is never given up."""


class Configure(msgspec.Struct, frozen=True, array_like=True, tag="configure"):
    """All that the mesh process is told. Holds secrets: it travels on the socket only."""

    version: int
    private_key: bytes
    """32 bytes, Ed25519."""
    token: str
    network_id: str
    listen: tuple[str, ...]
    """Multiaddrs; port 0 takes a free one."""
    protocols: tuple[str, ...]
    """Stream protocols that are passed on to ``inbound_path``."""
    inbound_path: str
    folder: str
    """A private folder for the sockets of ``Exposed``."""
    known: tuple[KnownPeer, ...] = ()
    bootstrap: tuple[str, ...] = ()
    """Multiaddrs with their ``/p2p`` end; none means no DHT."""
    mdns: bool = True
    dht_server: bool = False
    log_level: str = "info"

    def __repr__(self) -> str:
        return f"Configure(network_id={self.network_id!r}, listen={self.listen!r}, ***)"


class Publish(msgspec.Struct, frozen=True, array_like=True, tag="publish"):
    """The body of this node's record; it is signed, sealed and sent by the mesh process."""

    body: bytes


class Dial(msgspec.Struct, frozen=True, array_like=True, tag="dial"):
    """Try these addresses."""

    peer: KnownPeer


class Expose(msgspec.Struct, frozen=True, array_like=True, tag="expose"):
    """Make a socket whose every connection becomes a stream to this peer."""

    peer: PeerId
    protocol: str


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The host listens."""

    peer: PeerId
    listen: tuple[str, ...]
    """What it listens on, with the real port."""
    addresses: tuple[str, ...]
    """Where others can dial it."""
    warnings: tuple[str, ...] = ()
    """What does not work, for people."""


class CannotStart(msgspec.Struct, frozen=True, array_like=True, tag="cannot_start"):
    """The settings cannot be used; another start with them will not help."""

    message: str
    detail: str = ""


class Joined(msgspec.Struct, frozen=True, array_like=True, tag="joined"):
    """This peer has shown that it is a member, and is connected."""

    peer: PeerId
    addresses: tuple[str, ...]


class Left(msgspec.Struct, frozen=True, array_like=True, tag="left"):
    """This member is not connected any more."""

    peer: PeerId
    reason: str


class RecordChanged(msgspec.Struct, frozen=True, array_like=True, tag="record"):
    """The newest record of a member, verified."""

    author: PeerId
    body: bytes


class RecordExpired(msgspec.Struct, frozen=True, array_like=True, tag="record_expired"):
    """Nothing new was heard from this author for too long."""

    author: PeerId


class Exposed(msgspec.Struct, frozen=True, array_like=True, tag="exposed"):
    """Answers ``Expose``. An empty path means that it failed."""

    peer: PeerId
    protocol: str
    path: str
    problem: str = ""


class Counted(msgspec.Struct, frozen=True, array_like=True, tag="counted"):
    """How often something happened since the start of the mesh process."""

    counts: dict[str, int]


class Inbound(msgspec.Struct, frozen=True, array_like=True, tag="inbound"):
    """First frame on a connection from the mesh process: a member opened a stream to this node."""

    peer: PeerId
    protocol: str


ToMesh: TypeAlias = Configure | Publish | Dial | Expose
FromMesh: TypeAlias = Ready | CannotStart | Joined | Left | RecordChanged | RecordExpired | Exposed | Counted


def to_mesh_codec() -> FrameCodec[ToMesh]:
    """A codec for frames that a node sends."""
    return FrameCodec(ToMesh)


def from_mesh_codec() -> FrameCodec[FromMesh]:
    """A codec for frames that the mesh process sends."""
    return FrameCodec(FromMesh)


def inbound_codec() -> FrameCodec[Inbound]:
    """A codec for the first frame of an inbound connection."""
    return FrameCodec(Inbound)
