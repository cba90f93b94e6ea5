"""Gives files to members that ask for them by hash (shell)."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from localai.mesh.errors import WireError
from localai.mesh.ids import short_id
from localai.mesh.link import PeerStream
from localai.mesh.wire import FrameDecoder
from localai.node.sharing.chunks import ChunkList
from localai.node.sharing.copy_plan import PIPELINE
from localai.node.sharing.frames import (
    FILES_VERSION,
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

_LOG = structlog.get_logger()

MAX_COPIES = 4
"""Files given at once; more are told to come back."""
ASK_TIMEOUT_S = 60.0
"""An asker that wants nothing for so long has gone."""
REST_SHARE = 0.5
"""While answers are being computed or carried here, the giver rests for this share of the time that a part took."""
_READ_BYTES = 65_536

Find = Callable[[bytes], tuple[Path, ChunkList] | None]
"""The file with this SHA-256 that this node shares."""


class Giver:
    """Answers streams of the files protocol. ``is_busy`` tells whether answers are under way at this node."""

    def __init__(self, find: Find, is_busy: Callable[[], bool], max_copies: int = MAX_COPIES) -> None:
        self._find = find
        self._is_busy = is_busy
        self._max_copies = max_copies
        self._copies = 0

    async def serve(self, stream: PeerStream) -> None:
        """Give one file over one stream; returns when the asker is done or gone."""
        conversation = _Conversation(stream)
        try:
            if self._copies >= self._max_copies:
                await conversation.say(FileRefused("This node gives enough files at the moment.", 10.0))
                return
            self._copies += 1
            try:
                await self._give(conversation)
            finally:
                self._copies -= 1
        except (OSError, TimeoutError, WireError) as error:
            _LOG.debug("file_not_given", peer=short_id(stream.peer), error=repr(error)[:200])
        finally:
            stream.writer.close()
            with suppress(OSError):
                await stream.writer.wait_closed()

    async def _give(self, conversation: _Conversation) -> None:
        wanted = await conversation.next()
        if not isinstance(wanted, FileWanted) or wanted.version != FILES_VERSION:
            await conversation.say(FileRefused(f"This node speaks version {FILES_VERSION} of the files protocol."))
            return
        found = await asyncio.to_thread(self._find, wanted.sha256)
        if found is None:
            await conversation.say(FileRefused("This node does not have the file, or does not share it."))
            return
        path, chunks = found
        await conversation.say(FileOffer(chunks))
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while (frame := await conversation.next()) is not None:
                if not isinstance(frame, ChunkWanted) or not 0 <= frame.index < chunks.count:
                    raise WireError("A peer asks for a chunk that the file does not have.")
                await self._give_chunk(conversation, descriptor, chunks, frame.index)
        finally:
            os.close(descriptor)

    async def _give_chunk(self, conversation: _Conversation, descriptor: int, chunks: ChunkList, index: int) -> None:
        loop = asyncio.get_running_loop()
        offset, length = chunks.place_of(index)
        end = offset + length
        while offset < end:
            began = loop.time()
            data = await asyncio.to_thread(os.pread, descriptor, min(PART_BYTES, end - offset), offset)
            if not data:
                await conversation.say(ChunkMissing(index))
                return
            await conversation.say(ChunkPart(index, data))
            offset += len(data)
            if self._is_busy():
                await asyncio.sleep(REST_SHARE * (loop.time() - began))


class _Conversation:
    """Frames over a stream, one at a time."""

    def __init__(self, stream: PeerStream) -> None:
        self._stream = stream
        self._codec = file_codec()
        self._decoder = FrameDecoder(4096)  # an asker has little to say
        self._waiting: deque[bytes] = deque()

    async def next(self) -> FileFrame | None:
        """The next frame; None at the end of the stream."""
        while not self._waiting:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                data = await self._stream.reader.read(_READ_BYTES)
            if not data:
                return None
            self._waiting.extend(self._decoder.feed(data))
            if len(self._waiting) > 8 * PIPELINE:
                raise WireError("A peer asks for too many chunks at once.")
        return self._codec.decode(self._waiting.popleft())

    async def say(self, frame: FileFrame) -> None:
        """Send a frame; waits while the asker does not read."""
        self._stream.writer.write(self._codec.encode(frame))
        async with asyncio.timeout(ASK_TIMEOUT_S):
            await self._stream.writer.drain()
