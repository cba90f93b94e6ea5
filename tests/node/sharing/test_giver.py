"""What a giver makes of askers that misbehave. What it gives is tested with the copier."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from localai.mesh.testing.fake_link import FakeSwarm
from localai.mesh.wire import FrameDecoder
from localai.node.sharing.file_hashes import hash_file
from localai.node.sharing.frames import PROTOCOL, ChunkWanted, FileFrame, FileOffer, FileRefused, FileWanted, file_codec
from localai.node.sharing.giver import Giver

CODEC = file_codec()


async def say(path: Path, *frames: FileFrame | bytes, busy: bool = False) -> list[FileFrame]:
    """What a giver answers to these frames and the end of the stream."""
    chunks = hash_file(path)
    giver = Giver(lambda wanted: (path, chunks) if wanted == chunks.sha256 else None, lambda: busy)
    swarm = FakeSwarm()
    asker, link = swarm.link(1, [PROTOCOL]), swarm.link(2, [PROTOCOL])
    stream = await asker.open(link.peer_id, PROTOCOL)
    serving = asyncio.create_task(giver.serve(await link.accept()))
    for frame in frames:
        stream.writer.write(frame if isinstance(frame, bytes) else CODEC.encode(frame))
    stream.writer.write_eof()
    async with asyncio.timeout(10):
        data = await stream.reader.read()
        await serving
    stream.writer.close()
    return [CODEC.decode(payload) for payload in FrameDecoder().feed(data)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"content")
    return tmp_path / "file"


async def test_the_file_in_parts_also_while_busy(path: Path) -> None:
    wanted = FileWanted(1, hash_file(path).sha256)
    for busy in (False, True):
        offer, part = await say(path, wanted, ChunkWanted(0), busy=busy)
        assert offer == FileOffer(hash_file(path))
        assert getattr(part, "data", None) == b"content"


@pytest.mark.parametrize("frame", [FileWanted(2, bytes(32)), FileWanted(1, bytes(32)), ChunkWanted(0)])
async def test_what_it_cannot_do_is_refused(path: Path, frame: FileFrame) -> None:
    (answer,) = await say(path, frame)
    assert isinstance(answer, FileRefused)
    assert answer.reason


@pytest.mark.parametrize("garbage", [b"", b"\x00\x00\x00\x01\xc1", b"\xff" * 100, CODEC.encode(FileRefused("x"))[:-1]])
async def test_garbage_ends_the_stream(path: Path, garbage: bytes) -> None:
    assert await say(path, garbage) in ([], [FileRefused("This node speaks version 1 of the files protocol.")])


async def test_chunks_that_are_not_there_end_it(path: Path) -> None:
    wanted = FileWanted(1, hash_file(path).sha256)
    for index in (1, -1):
        assert [type(frame) for frame in await say(path, wanted, ChunkWanted(index))] == [FileOffer]
    flood = [ChunkWanted(0)] * 100
    answers = await say(path, wanted, *flood)
    assert len(answers) < 100
