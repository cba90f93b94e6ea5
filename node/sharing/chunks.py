"""A file as a list of chunks, each with its hash (pure).

The list lets a chunk be checked when it comes, from whomever it comes; the hash of the whole file is what identifies
the file and is checked at the end, so a wrong list costs time and nothing else.
"""

from __future__ import annotations

import hashlib

import msgspec

from localai.mesh.errors import WireError

HASH_BYTES = 32
LEAST_CHUNK_BYTES = 4 << 20
MAX_CHUNKS = 16_384
"""So that the list of a file of any size fits into one frame: 512 KiB of hashes."""
MAX_FILE_BYTES = 1 << 42
"""4 TiB: more than any model has in one file. A larger offer is a lie."""


class ChunkList(msgspec.Struct, frozen=True, array_like=True):
    """One file. ``hashes`` are the SHA-256 of its chunks, one after the other."""

    sha256: bytes
    """Of the whole file, 32 bytes."""
    size: int
    chunk_bytes: int
    hashes: bytes

    @property
    def count(self) -> int:
        """Number of chunks."""
        return len(self.hashes) // HASH_BYTES

    def hash_of(self, index: int) -> bytes:
        """What chunk ``index`` must hash to."""
        return self.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]

    def place_of(self, index: int) -> tuple[int, int]:
        """Offset and length of a chunk, in bytes."""
        offset = index * self.chunk_bytes
        return offset, min(self.chunk_bytes, self.size - offset)


def chunk_bytes_for(size: int) -> int:
    """The chunk size that everybody uses for a file of this size: a power of two."""
    chunk_bytes = LEAST_CHUNK_BYTES
    while -(-size // chunk_bytes) > MAX_CHUNKS:
        chunk_bytes *= 2
    return chunk_bytes


def check_chunk_list(chunks: ChunkList, sha256: bytes) -> None:
    """Make sure that a list which came from a peer can be one of the file with this hash.

    Raises:
        WireError: it cannot.
    """
    expected = -(-chunks.size // chunks.chunk_bytes) if chunks.chunk_bytes > 0 else -1
    if chunks.sha256 != sha256:
        raise WireError("A peer offers another file than the one that was asked for.")
    if not 0 < chunks.size <= MAX_FILE_BYTES or chunks.chunk_bytes != chunk_bytes_for(chunks.size):
        raise WireError("A peer offers a file of an impossible size.")
    if len(chunks.hashes) != expected * HASH_BYTES:
        raise WireError("A peer's list of chunks does not fit its file.")


class ChunkHasher:
    """Makes the list of a file from its bytes, in one pass."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._chunk_bytes = chunk_bytes_for(size)
        self._whole = hashlib.sha256()
        self._chunk = hashlib.sha256()
        self._in_chunk = 0
        self._hashes = bytearray()

    def feed(self, data: bytes) -> None:
        """The next bytes of the file."""
        self._whole.update(data)
        view = memoryview(data)
        while view:
            part = view[: self._chunk_bytes - self._in_chunk]
            self._chunk.update(part)
            self._in_chunk += len(part)
            view = view[len(part) :]
            if self._in_chunk == self._chunk_bytes:
                self._end_chunk()

    def finish(self) -> ChunkList:
        """The list. All ``size`` bytes must have come."""
        if self._in_chunk:
            self._end_chunk()
        return ChunkList(self._whole.digest(), self._size, self._chunk_bytes, bytes(self._hashes))

    def _end_chunk(self) -> None:
        self._hashes += self._chunk.digest()
        self._chunk = hashlib.sha256()
        self._in_chunk = 0
