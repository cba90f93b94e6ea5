"""Files as chunks."""

from __future__ import annotations

import hashlib
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import WireError
from localai.node.sharing import chunks
from localai.node.sharing.chunks import HASH_BYTES, ChunkHasher, ChunkList, check_chunk_list, chunk_bytes_for


def listed(data: bytes, *cuts: int) -> ChunkList:
    hasher = ChunkHasher(len(data))
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(places):
        hasher.feed(data[begin:end])
    return hasher.finish()


@given(st.binary(min_size=1, max_size=100), st.lists(st.integers(0, 100), max_size=4), st.integers(1, 40))
def test_any_split_gives_the_same_list(data: bytes, cuts: list[int], chunk_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "LEAST_CHUNK_BYTES", chunk_bytes)
        found = listed(data, *cuts)
        assert found == listed(data)
        assert found.sha256 == hashlib.sha256(data).digest()
        for index in range(found.count):
            offset, length = found.place_of(index)
            assert found.hash_of(index) == hashlib.sha256(data[offset : offset + length]).digest()
        assert sum(found.place_of(index)[1] for index in range(found.count)) == len(data)
        check_chunk_list(found, found.sha256)


@pytest.mark.parametrize(
    ("size", "expected"), [(1, 4 << 20), (4 << 20, 4 << 20), (64 << 30, 4 << 20), ((64 << 30) + 1, 8 << 20)]
)
def test_chunk_sizes_grow_with_the_file(size: int, expected: int) -> None:
    assert chunk_bytes_for(size) == expected


def test_lists_that_cannot_be_true_are_refused() -> None:
    good = listed(b"some bytes")
    for changes in (
        {"sha256": bytes(32)},
        {"size": 0},
        {"size": -5},
        {"size": 1 << 60},
        {"chunk_bytes": 0},
        {"chunk_bytes": 1},
        {"hashes": b""},
        {"hashes": good.hashes + b"x"},
        {"size": 5 << 20},
    ):
        with pytest.raises(WireError):
            check_chunk_list(msgspec.structs.replace(good, **changes), good.sha256)


def test_a_file_larger_than_any_model_is_refused() -> None:
    def check(size: int) -> None:
        count = -(-size // chunk_bytes_for(size))
        digest = bytes(HASH_BYTES)
        check_chunk_list(ChunkList(digest, size, chunk_bytes_for(size), digest * count), digest)

    check(4 << 40)
    with pytest.raises(WireError, match="impossible size"):
        check((4 << 40) + 1)
