"""Copies a file from the members that have it (shell).

The bytes go to their places in a partial file; each chunk is checked before it counts, the whole file before this
returns. A copy that was interrupted goes on: chunks of the partial file that are good are not asked for again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import structlog

from localai.mesh.errors import LocalAIError, SetupError, Unavailable, UpstreamFailed, WireError
from localai.mesh.ids import PeerId, short_id
from localai.mesh.link import PeerStream
from localai.mesh.wire import FrameDecoder
from localai.node.sharing.chunks import ChunkList, check_chunk_list
from localai.node.sharing.copy_plan import Ask, CopyPlan
from localai.node.sharing.file_hashes import HashingStopped, hash_file
from localai.node.sharing.frames import (
    FILES_VERSION,
    PROTOCOL,
    ChunkMissing,
    ChunkPart,
    ChunkWanted,
    FileFrame,
    FileOffer,
    FileRefused,
    FileWanted,
    file_codec,
)
from localai.node.sources.background import KeepGoing, in_thread
from localai.node.sources.fetch import check_space
from localai.node.sources.transfer import DEFAULT_LIMITS

_LOG = structlog.get_logger()

MAX_SOURCES = 8
OFFER_TIMEOUT_S = 10.0
PART_TIMEOUT_S = 30.0
"""A source that sends nothing for so long, although it was asked, is lost."""
_READ_BYTES = 1 << 18

OnBytes = Callable[[int, int], None]
"""Bytes that are checked, bytes in all."""


class OpensStreams(Protocol):
    """What opens a stream to a member; a ``Link`` does."""

    async def open(self, peer: PeerId, protocol: str) -> PeerStream:
        """A stream to a member."""


@dataclass(slots=True)
class _Source:
    """A member that has offered the file."""

    peer: PeerId
    stream: PeerStream
    decoder: FrameDecoder = field(default_factory=FrameDecoder)
    building: dict[int, bytearray] = field(default_factory=dict)

    def ask(self, index: int) -> None:
        self.building[index] = bytearray()
        self.stream.writer.write(file_codec().encode(ChunkWanted(index)))

    async def frames(self, timeout_s: float) -> list[FileFrame]:
        """The next frames, at least one.

        Raises:
            Unavailable: the source is lost.
        """
        codec = file_codec()
        while True:
            try:
                async with asyncio.timeout(timeout_s):
                    data = await self.stream.reader.read(_READ_BYTES)
            except OSError as error:  # a TimeoutError is one too
                raise Unavailable("A member that gives a file is lost.", detail=repr(error)) from error
            if not data:
                raise Unavailable("A member that gives a file is gone.")
            if payloads := self.decoder.feed(data):
                return [codec.decode(payload) for payload in payloads]


async def copy_file(
    digest: bytes, partial: Path, peers: Sequence[PeerId], link: OpensStreams, on_bytes: OnBytes
) -> ChunkList:
    """Fill ``partial`` with the file of this SHA-256 from ``peers``; get its chunk list once all of it is checked.

    Cancelling keeps what has come. The caller gives the file its name.

    Raises:
        Unavailable: nobody (any more) gives the file; what has come is kept.
        UpstreamFailed: what came from everybody together is not the file; the partial file is removed.
        SetupError: a file of the size that was offered has no room on the disk.
        OSError: the partial file cannot be written.
    """
    async with _offers(digest, peers[:MAX_SOURCES], link) as offers:
        if not offers:
            raise Unavailable("No member gives the file now. Try again soon.", retry_after_s=10.0)
        lost: LocalAIError | None = None
        for chunks, sources in _by_list(offers):
            peers_here = [short_id(source.peer) for source in sources]
            try:
                await _copy(chunks, sources, partial, on_bytes)
            except (Unavailable, SetupError) as error:  # others may say otherwise
                _LOG.debug("file_sources_lost", peers=peers_here, error=error.message)
                lost = error
                continue
            found = await in_thread(lambda going: hash_file(partial, going), lambda _done: None)
            if found.sha256 == digest:
                return found
            _LOG.warning("chunk_list_was_false", peers=peers_here)
    if lost is not None:
        raise lost
    partial.unlink(missing_ok=True)
    raise UpstreamFailed("What members sent is not the file that was asked for. Download it from its source.")


def _by_list(offers: Sequence[tuple[ChunkList, _Source]]) -> list[tuple[ChunkList, list[_Source]]]:
    """Sources that agree on the size and the chunks together, the largest group first."""
    groups: dict[tuple[int, bytes], tuple[ChunkList, list[_Source]]] = {}
    for chunks, source in offers:
        groups.setdefault((chunks.size, chunks.hashes), (chunks, []))[1].append(source)
    return sorted(groups.values(), key=lambda group: -len(group[1]))


@asynccontextmanager
async def _offers(
    digest: bytes, peers: Sequence[PeerId], link: OpensStreams
) -> AsyncIterator[list[tuple[ChunkList, _Source]]]:
    """Everybody who offers the file; their streams are closed after the block."""
    opened: list[PeerStream] = []

    async def ask(peer: PeerId) -> tuple[ChunkList, _Source] | None:
        try:
            stream = await link.open(peer, PROTOCOL)
            opened.append(stream)
            stream.writer.write(file_codec().encode(FileWanted(FILES_VERSION, digest)))
            source = _Source(peer, stream)
            answer, *_ = await source.frames(OFFER_TIMEOUT_S)
            if not isinstance(answer, FileOffer):
                reason = answer.reason[:200] if isinstance(answer, FileRefused) else "speaks nonsense"
                _LOG.debug("file_not_offered", peer=short_id(peer), reason=reason)
                return None
            check_chunk_list(answer.chunks, digest)
        except (Unavailable, WireError) as error:
            _LOG.debug("file_not_offered", peer=short_id(peer), reason=error.message)
            return None
        return answer.chunks, source

    try:
        answers = await asyncio.gather(*map(ask, peers))
        yield [answer for answer in answers if answer is not None]
    finally:
        for stream in opened:
            stream.writer.close()


async def _copy(chunks: ChunkList, sources: Sequence[_Source], partial: Path, on_bytes: OnBytes) -> None:
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        there = os.fstat(descriptor).st_blocks * 512
        check_space(partial.parent, max(0, chunks.size - there), DEFAULT_LIMITS)
        os.ftruncate(descriptor, chunks.size)
        have = await in_thread(lambda going: _good_chunks(descriptor, chunks, going), lambda _done: None)
        work = _Work(chunks, CopyPlan(chunks, have), sources, descriptor, on_bytes)
        await work.run()
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _good_chunks(descriptor: int, chunks: ChunkList, keep_going: KeepGoing) -> list[int]:
    """Chunks of the file that are there already. A hole reads as zeros and is read, but only where the file is new."""
    good = []
    for index in range(chunks.count):
        offset, length = chunks.place_of(index)
        if not keep_going(offset):
            raise HashingStopped
        try:
            if os.lseek(descriptor, offset, os.SEEK_DATA) >= offset + length:
                continue  # nothing was written here
        except OSError:
            break  # nothing was written from here on
        if sha256(os.pread(descriptor, length, offset)).digest() == chunks.hash_of(index):
            good.append(index)
    return good


class _Work:
    """One copy under way: a task for each source, one plan for all."""

    def __init__(
        self, chunks: ChunkList, plan: CopyPlan, sources: Sequence[_Source], descriptor: int, on_bytes: OnBytes
    ) -> None:
        self._chunks = chunks
        self._plan = plan
        self._sources = {source.peer: source for source in sources}
        self._descriptor = descriptor
        self._on_bytes = on_bytes
        self._complete = asyncio.Event()

    async def run(self) -> None:
        """Copy until all chunks are there.

        Raises:
            Unavailable: chunks are missing and nobody is left.
        """
        self._on_bytes(self._plan.done_bytes, self._chunks.size)
        for peer in self._sources:
            self._ask(self._plan.source_came(peer))
        tasks = {asyncio.create_task(self._listen(source)) for source in self._sources.values()}
        complete = asyncio.create_task(self._complete.wait())
        listening = set(tasks)
        try:
            while listening and not self._plan.is_complete:
                await asyncio.wait({complete, *listening}, return_when=asyncio.FIRST_COMPLETED)
                listening = {task for task in listening if not task.done()}
        finally:
            for task in (complete, *tasks):
                task.cancel()
            ends = await asyncio.gather(complete, *tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, OSError):  # the disk
                raise end
        if not self._plan.is_complete:
            raise Unavailable("Every member that gave the file is gone. Try again: what has come is kept.")

    async def _listen(self, source: _Source) -> None:
        try:
            while source.peer in self._plan.sources() and not self._plan.is_complete:
                for frame in await source.frames(PART_TIMEOUT_S):
                    await self._frame(source, frame)
        except (Unavailable, WireError) as error:
            _LOG.debug("file_source_lost", peer=short_id(source.peer), error=error.message, detail=error.detail)
            self._ask(self._plan.source_lost(source.peer))

    async def _frame(self, source: _Source, frame: FileFrame) -> None:
        match frame:
            case ChunkPart(index=index, data=data) if index in source.building:
                part = source.building[index]
                part += data
                wanted = self._chunks.place_of(index)[1]
                if len(part) > wanted:
                    raise WireError("A chunk is longer than it can be.")
                if len(part) == wanted:
                    del source.building[index]
                    await self._chunk(source, index, bytes(part))
            case ChunkMissing(index=index) if index in source.building:
                raise WireError("The file has changed at the member that gives it.")
            case _:
                raise WireError("A member that gives a file speaks nonsense.")

    async def _chunk(self, source: _Source, index: int, data: bytes) -> None:
        is_good = await in_thread(lambda _going: self._store(index, data), lambda _done: None)
        if not is_good:
            _LOG.warning("chunk_was_corrupt", peer=short_id(source.peer), index=index)
        asks = self._plan.chunk_came(source.peer, index, is_good=is_good)
        self._on_bytes(self._plan.done_bytes, self._chunks.size)
        self._ask(asks)
        if self._plan.is_complete:
            self._complete.set()

    def _store(self, index: int, data: bytes) -> bool:
        if sha256(data).digest() != self._chunks.hash_of(index):
            return False
        offset, _ = self._chunks.place_of(index)
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, memoryview(data)[written:], offset + written)
        return True

    def _ask(self, asks: Sequence[Ask]) -> None:
        for ask in asks:
            self._sources[ask.source].ask(ask.index)
