"""Hashes of files, kept over a restart."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from localai.node.sharing.file_hashes import FileHashes, HashingStopped, hash_file


def test_a_file_is_hashed_and_may_be_stopped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)
    assert hash_file(path).sha256 == hashlib.sha256(b"x" * 3_000_000).digest()
    with pytest.raises(HashingStopped):
        hash_file(path, lambda done: done < 2_000_000)


def test_a_file_that_changes_is_left_at_once(tmp_path: Path) -> None:
    path, looks = tmp_path / "file", 0
    path.write_bytes(b"x" * 5_000_000)

    def change(_done: int) -> bool:
        nonlocal looks
        looks += 1
        with path.open("ab") as file:
            file.write(b"more")
        return looks < 3

    with pytest.raises(OSError, match="changed"):
        hash_file(path, change)
    assert looks == 1


async def test_cancelling_stops_the_thread_and_keeps_what_was_computed(tmp_path: Path, threads: Any) -> None:
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    for path in (first, second, third):
        path.write_bytes(b"x")
    hashes = FileHashes(tmp_path / "store")
    threads.held_from = 3
    refreshing = asyncio.create_task(hashes.refresh([first, second, third]))
    await threads.wait_came(3)
    refreshing.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not refreshing.done(), "its thread has the file open"
    threads.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await refreshing
    again = FileHashes(tmp_path / "store")
    assert [again.of(path) is not None for path in (first, second, third)] == [True, True, False]


async def test_a_file_that_is_not_wanted_any_more_is_stopped(tmp_path: Path, threads: Any) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    hashes = FileHashes(tmp_path / "store")
    threads.held_from = 1
    refreshing = asyncio.create_task(hashes.refresh([first]))
    await threads.wait_came(1)
    hashes.want([second])
    threads.gate.set()
    with capture_logs() as logs:
        await refreshing
    assert [line["file"] for line in logs if line["event"] == "file_hashed"] == ["second"]


async def test_they_are_computed_once_and_again_after_a_change(tmp_path: Path) -> None:
    model, store = tmp_path / "m.gguf", tmp_path / "hashes"
    model.write_bytes(b"first")
    hashes = FileHashes(store)
    assert hashes.of(model) is None
    await hashes.refresh([model, tmp_path / "missing"])
    chunks = hashes.of(model)
    assert chunks is not None
    assert hashes.find(chunks.sha256) == (model, chunks)

    again = FileHashes(store)
    assert again.of(model) == chunks
    with capture_logs() as logs:
        await again.refresh([model])
    assert "file_hashed" not in [line["event"] for line in logs]

    model.write_bytes(b"second one")
    assert again.of(model) is None
    assert again.find(chunks.sha256) is None
    await again.refresh([model])
    assert again.of(model) not in (None, chunks)
    model.unlink()
    await again.refresh([])
    assert FileHashes(store).of(model) is None


@pytest.mark.parametrize("content", [b"", b"\xff", b"\x81\xa1x\x01"])
def test_a_damaged_store_counts_as_none(tmp_path: Path, content: bytes) -> None:
    store = tmp_path / "hashes"
    store.write_bytes(content)
    model = tmp_path / "m"
    model.write_bytes(b"x")
    hashes = FileHashes(store)
    assert hashes.of(model) is None
    hashes.put(model, hash_file(model))
    assert FileHashes(store).of(model) == hash_file(model)


async def test_what_cannot_be_read_or_written_is_only_logged(tmp_path: Path) -> None:
    model = tmp_path / "m"
    model.write_bytes(b"x")
    hashes = FileHashes(tmp_path / "no" / "folder")
    with capture_logs() as logs:
        await hashes.refresh([model])
    assert hashes.of(model) is not None
    assert "file_hashes_not_kept" in [line["event"] for line in logs]
    folder = tmp_path / "proc"
    folder.symlink_to("/proc/self/mem")
    with capture_logs() as logs:
        await FileHashes(tmp_path / "h").refresh([folder])
    assert os.path.exists(folder)
