"""The frames of one file between two members, over a stream of its own (pure).

    asker                       giver
      -> FileWanted               once, first
      <- FileOffer | FileRefused  FileRefused is followed by the end of the stream
      -> ChunkWanted              any number; a few may be on their way at once
      <- ChunkPart*               the bytes of the chunks, in the order in which they were asked for
      <- ChunkMissing             instead of the rest of a chunk: the file has changed

Either side may end the stream at any time. Protocol id :data:`PROTOCOL`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from localai.mesh.wire import FrameCodec
from localai.node.sharing.chunks import ChunkList

PROTOCOL = "/localai/files/1"
FILES_VERSION = 1
PART_BYTES = 256 << 10
"""Bytes in one part at most: what a token of somebody else may have to wait for on the same connection."""


class FileWanted(msgspec.Struct, frozen=True, array_like=True, tag="file_wanted"):
    """Which file."""

    version: int
    sha256: bytes


class FileOffer(msgspec.Struct, frozen=True, array_like=True, tag="file_offer"):
    """The giver has it, and what its chunks are."""

    chunks: ChunkList


class FileRefused(msgspec.Struct, frozen=True, array_like=True, tag="file_refused"):
    """The giver does not have it, does not share it, or is busy."""

    reason: str
    retry_after_s: float | None = None


class ChunkWanted(msgspec.Struct, frozen=True, array_like=True, tag="chunk_wanted"):
    """Send this chunk."""

    index: int


class ChunkPart(msgspec.Struct, frozen=True, array_like=True, tag="chunk_part"):
    """The next bytes of a chunk."""

    index: int
    data: bytes


class ChunkMissing(msgspec.Struct, frozen=True, array_like=True, tag="chunk_missing"):
    """The rest of this chunk does not come."""

    index: int


FileFrame: TypeAlias = FileWanted | FileOffer | FileRefused | ChunkWanted | ChunkPart | ChunkMissing


def file_codec() -> FrameCodec[FileFrame]:
    """A codec for both directions."""
    return FrameCodec(FileFrame)
