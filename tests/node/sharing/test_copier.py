"""Copies between members, over streams in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from localai.mesh.errors import SetupError, Unavailable, UpstreamFailed
from localai.mesh.ids import PeerId
from localai.mesh.testing.fake_link import FakeLink, FakeSwarm
from localai.node.sharing.chunks import HASH_BYTES, LEAST_CHUNK_BYTES, ChunkList, chunk_bytes_for
from localai.node.sharing.copier import copy_file
from localai.node.sharing.file_hashes import hash_file
from localai.node.sharing.frames import PROTOCOL
from localai.node.sharing.giver import Giver
from localai.node.sources.transfer import DEFAULT_LIMITS

CONTENT = random.Random(7).randbytes(5 * LEAST_CHUNK_BYTES + 12345)
DIGEST = hashlib.sha256(CONTENT).digest()


@dataclass
class Household:
    """An asker and members that give."""

    swarm: FakeSwarm
    asker: FakeLink
    folder: Path
    peers: list[PeerId] = field(default_factory=list)
    links: list[FakeLink] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def give(
        self, content: bytes = CONTENT, change: Callable[[ChunkList], ChunkList] = lambda chunks: chunks, **options: int
    ) -> FakeLink:
        """A member that has the file; ``change`` makes it lie."""
        path = self.folder / f"given-{len(self.peers)}"
        path.write_bytes(content)
        chunks = change(hash_file(path))
        giver = Giver(lambda wanted: (path, chunks) if wanted == chunks.sha256 else None, lambda: False, **options)
        link = self.swarm.link(len(self.peers) + 2, [PROTOCOL])

        async def serve() -> None:
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(giver.serve(await link.accept()))

        self.peers.append(link.peer_id)
        self.links.append(link)
        self.tasks.append(asyncio.create_task(serve()))
        return link

    async def copy(self) -> ChunkList:
        """Copy from everybody."""
        return await copy_file(DIGEST, self.partial, self.peers, self.asker, self._saw)

    async def wait_progress(self, reports: int) -> None:
        """Wait until the copy has told so often how far it is."""
        while len(self.progress) < reports:
            self.moved.clear()
            await self.moved.wait()

    def _saw(self, done: int, total: int) -> None:
        self.progress.append((done, total))
        self.moved.set()

    @property
    def partial(self) -> Path:
        return self.folder / "model.partial"


@pytest.fixture
async def household(tmp_path: Path) -> AsyncIterator[Household]:
    swarm = FakeSwarm()
    home = Household(swarm, swarm.link(1, [PROTOCOL]), tmp_path)
    try:
        async with asyncio.timeout(20):
            yield home
    finally:
        for task in home.tasks:
            task.cancel()
        await asyncio.gather(*home.tasks, return_exceptions=True)
        for link in (home.asker, *home.links):
            link.die()


async def test_a_copy_from_two_members(household: Household) -> None:
    household.give()
    household.give()
    chunks = await household.copy()
    assert household.partial.read_bytes() == CONTENT
    assert chunks == hash_file(household.partial)
    assert household.progress[0] == (0, len(CONTENT))
    assert household.progress[-1] == (len(CONTENT), len(CONTENT))


async def test_an_interrupted_copy_goes_on(household: Household) -> None:
    household.give()
    holes = bytearray(CONTENT)
    holes[LEAST_CHUNK_BYTES : 2 * LEAST_CHUNK_BYTES] = bytes(LEAST_CHUNK_BYTES)
    household.partial.write_bytes(holes)
    await household.copy()
    assert household.partial.read_bytes() == CONTENT
    assert household.progress[0] == (len(CONTENT) - LEAST_CHUNK_BYTES, len(CONTENT))


async def test_a_corrupt_chunk_is_noticed_and_fetched_elsewhere(household: Household) -> None:
    good = hash_file_of(household, CONTENT)
    corrupt = bytearray(CONTENT)
    corrupt[3 * LEAST_CHUNK_BYTES] ^= 1
    corrupt[5] ^= 1
    household.give(bytes(corrupt), lambda _: good)
    household.give()
    await household.copy()
    assert household.partial.read_bytes() == CONTENT


async def test_a_false_list_costs_time_and_nothing_else(household: Household) -> None:
    other = bytes(len(CONTENT))
    household.give(other, lambda chunks: msgspec.structs.replace(chunks, sha256=DIGEST))
    household.give()
    await household.copy()
    assert household.partial.read_bytes() == CONTENT


async def test_when_all_lie_nothing_is_left(household: Household) -> None:
    household.give(bytes(len(CONTENT)), lambda chunks: msgspec.structs.replace(chunks, sha256=DIGEST))
    with pytest.raises(UpstreamFailed):
        await household.copy()
    assert not household.partial.exists()


async def test_nobody_has_it(household: Household) -> None:
    household.give(b"another file")
    with pytest.raises(Unavailable):
        await household.copy()
    household.peers.clear()
    with pytest.raises(Unavailable):
        await household.copy()


async def test_a_member_that_dies_is_replaced_by_the_others(household: Household) -> None:
    first = household.give()
    household.give()
    copying = asyncio.create_task(household.copy())
    await household.wait_progress(2)
    first.die()
    await copying
    assert household.partial.read_bytes() == CONTENT


async def test_when_the_last_one_dies_what_has_come_is_kept(household: Household) -> None:
    only = household.give()
    copying = asyncio.create_task(household.copy())
    await household.wait_progress(3)
    only.die()
    with pytest.raises(Unavailable):
        await copying
    done = max(done for done, _ in household.progress)
    household.peers.clear()
    household.progress.clear()
    household.give()
    await household.copy()
    assert household.progress[0][0] >= done


async def test_a_cut_file_at_the_giver_is_no_success(household: Household) -> None:
    good = hash_file_of(household, CONTENT)
    household.give(CONTENT[: LEAST_CHUNK_BYTES + 1], lambda _: good)
    with pytest.raises(Unavailable):
        await household.copy()


async def test_only_so_many_copies_at_once(household: Household) -> None:
    household.give(max_copies=0)
    with pytest.raises(Unavailable):
        await household.copy()


def hash_file_of(household: Household, content: bytes) -> ChunkList:
    path = household.folder / "whole"
    path.write_bytes(content)
    return hash_file(path)


async def test_a_full_disk_is_an_error_and_no_hang(household: Household) -> None:
    household.give()
    household.folder.joinpath("model.partial").symlink_to("/dev/full")
    with pytest.raises(OSError):
        await household.copy()


async def test_lists_that_differ_in_the_size_only_are_not_mixed(household: Household) -> None:
    household.give(change=lambda chunks: msgspec.structs.replace(chunks, size=chunks.size - 1))
    household.give()
    household.give()
    await household.copy()
    assert household.partial.read_bytes() == CONTENT
    assert {total for _, total in household.progress} == {len(CONTENT)}


async def test_when_the_largest_group_is_lost_the_next_one_is_asked(household: Household) -> None:
    other = msgspec.structs.replace(hash_file_of(household, bytes(len(CONTENT))), sha256=DIGEST)
    household.give(b"cut", lambda _: other)
    household.give(b"cut", lambda _: other)
    household.give()
    await household.copy()
    assert household.partial.read_bytes() == CONTENT


async def test_a_file_that_has_no_room_is_not_begun(household: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(household.folder)._replace(free=2 * DEFAULT_LIMITS.space_margin_bytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    size = 1 << 41
    hashes = bytes(HASH_BYTES * (size // chunk_bytes_for(size)))
    household.give(change=lambda chunks: ChunkList(chunks.sha256, size, chunk_bytes_for(size), hashes))
    with pytest.raises(SetupError, match="must stay free"):
        await household.copy()
    assert household.partial.stat().st_size == 0
    household.give()
    await household.copy()
    assert household.partial.read_bytes() == CONTENT


async def test_what_is_there_already_needs_no_room(household: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    household.give()
    household.partial.write_bytes(CONTENT[:-1])
    os.sync()
    usage = shutil.disk_usage(household.folder)._replace(free=DEFAULT_LIMITS.space_margin_bytes + LEAST_CHUNK_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    await household.copy()
    assert household.partial.read_bytes() == CONTENT


async def test_a_cancelled_copy_waits_for_its_thread(household: Household, threads: Any) -> None:
    household.give()
    household.partial.write_bytes(CONTENT[:-1])
    threads.held_from = 2  # the first is the giver's, which looks for the file
    copying = asyncio.create_task(household.copy())
    await threads.wait_came(2)
    copying.cancel()
    for _ in range(50):
        await asyncio.sleep(0)
    assert not copying.done(), "the file would be closed under it"
    threads.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await copying
