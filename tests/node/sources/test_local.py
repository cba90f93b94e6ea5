"""Files of this machine."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from localai.mesh.errors import Forbidden, NotFound, SetupError, UpstreamFailed
from localai.node.sources.fetch import FetchedFile, FetchProgress, partial_path, record_path
from localai.node.sources.local import copy_local
from localai.node.sources.transfer import FetchLimits
from localai.node.sources.uri import LocalFile

MODEL = os.urandom(2_500_000)
HASH = hashlib.sha256(MODEL).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> LocalFile:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "m").write_bytes(MODEL)
    return LocalFile(tmp_path / "given" / "m")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_copy(tmp_path: Path, source: LocalFile, limits: FetchLimits) -> None:
    target = tmp_path / "models" / "sub" / "m.gguf"
    seen: list[FetchProgress] = []
    copied = await copy_local(source, target, sha256=HASH, size=len(MODEL), on_progress=seen.append, limits=limits)
    assert (copied.path, copied.sha256, copied.bytes) == (target, HASH, len(MODEL))
    assert target.read_bytes() == MODEL
    assert _names(target.parent) == ["m.gguf"]
    assert seen[-1] == FetchProgress("done", len(MODEL), len(MODEL))
    assert seen[0].phase == "downloading"


async def test_what_is_not_as_it_should_be(tmp_path: Path, source: LocalFile, limits: FetchLimits) -> None:
    target = tmp_path / "m.gguf"
    with pytest.raises(UpstreamFailed, match=f"SHA-256 {HASH} instead of {'0' * 64}"):
        await copy_local(source, target, sha256="0" * 64, limits=limits)
    with pytest.raises(UpstreamFailed, match="is 2500000 bytes long instead of 7"):
        await copy_local(source, target, size=7, limits=limits)
    with pytest.raises(SetupError, match="must stay free"):
        await copy_local(source, target, limits=replace(limits, space_margin_bytes=1 << 60))
    assert _names(tmp_path) == ["given"]


async def test_an_unfinished_download_is_not_continued_with_other_bytes(
    tmp_path: Path, source: LocalFile, limits: FetchLimits
) -> None:
    target = tmp_path / "m.gguf"
    partial_path(target).write_bytes(b"x")
    record_path(target).write_bytes(b"{}")
    await copy_local(source, target, limits=limits)
    assert _names(tmp_path) == ["given", "m.gguf"]


async def test_a_file_that_is_in_place_stays(source: LocalFile, limits: FetchLimits) -> None:
    before = source.path.stat()
    copied = await copy_local(source, source.path, sha256=HASH, limits=limits)
    assert copied.sha256 == HASH
    assert source.path.stat().st_ino == before.st_ino
    with pytest.raises(UpstreamFailed):
        await copy_local(source, source.path, sha256="0" * 64, limits=limits)
    assert source.path.read_bytes() == MODEL


async def test_cancelling_leaves_nothing(tmp_path: Path, source: LocalFile, limits: FetchLimits) -> None:
    def cancel(_progress: FetchProgress) -> None:
        task.cancel()

    copying = copy_local(source, tmp_path / "m", on_progress=cancel, limits=limits)
    task: asyncio.Task[FetchedFile] = asyncio.create_task(copying)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _names(tmp_path) == ["given"]


async def test_only_files_that_can_be_read(tmp_path: Path, limits: FetchLimits) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", ".", "pipe"):
        with pytest.raises(NotFound):
            await copy_local(LocalFile(tmp_path / name), tmp_path / "m", limits=limits)


async def test_only_files_of_a_folder(tmp_path: Path, source: LocalFile, limits: FetchLimits) -> None:
    await copy_local(source, tmp_path / "m", within=tmp_path / "given", limits=limits)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(source.path)
    with pytest.raises(Forbidden, match="lies outside"):
        await copy_local(
            LocalFile(tmp_path / "inside" / "link"), tmp_path / "n", within=tmp_path / "inside", limits=limits
        )


async def test_a_folder_that_cannot_be_written(tmp_path: Path, source: LocalFile, limits: FetchLimits) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="m cannot be written: file exists"):
        await copy_local(source, tmp_path / "file" / "m", limits=limits)
