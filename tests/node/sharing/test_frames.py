"""File frames on the wire. A changed constant here is a changed protocol."""

from __future__ import annotations

import pytest

from localai.mesh.wire import MAX_FRAME_BYTES
from localai.node.sharing.chunks import HASH_BYTES, MAX_CHUNKS, ChunkList
from localai.node.sharing.frames import (
    PART_BYTES,
    ChunkMissing,
    ChunkPart,
    ChunkWanted,
    FileFrame,
    FileOffer,
    FileRefused,
    FileWanted,
    file_codec,
)

VECTORS: list[tuple[FileFrame, str]] = [
    (FileWanted(1, b"\x01\x02"), "93ab66696c655f77616e74656401c4020102"),
    (
        FileOffer(ChunkList(b"\x01", 5, 4, b"\x02")),
        "92aa66696c655f6f6666657294c401010504c40102",
    ),
    (FileRefused("busy", 1.5), "93ac66696c655f72656675736564a462757379cb3ff8000000000000"),
    (ChunkWanted(3), "92ac6368756e6b5f77616e74656403"),
    (ChunkPart(3, b"ab"), "93aa6368756e6b5f7061727403c4026162"),
    (ChunkMissing(3), "92ad6368756e6b5f6d697373696e6703"),
]


@pytest.mark.parametrize(("frame", "expected"), VECTORS)
def test_vectors(frame: FileFrame, expected: str) -> None:
    payload = file_codec().encode(frame)[4:]
    assert payload.hex() == expected
    assert file_codec().decode(payload) == frame


def test_the_largest_frames_fit() -> None:
    chunks = ChunkList(bytes(32), 1 << 40, 1 << 26, bytes(MAX_CHUNKS * HASH_BYTES))
    assert len(file_codec().encode(FileOffer(chunks))) < MAX_FRAME_BYTES
    assert len(file_codec().encode(ChunkPart(0, bytes(PART_BYTES)))) < MAX_FRAME_BYTES
