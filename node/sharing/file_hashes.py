"""The hashes of this machine's model files, computed once each (shell).

A file is known again by its path, size, time of change and inode. The store is a cache: a missing or damaged one is
made anew, at the price of reading the files again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path

import msgspec
import structlog

from localai.node.atomic_file import replace_file
from localai.node.sharing.chunks import ChunkHasher, ChunkList
from localai.node.sources.background import KeepGoing, in_thread

_LOG = structlog.get_logger()

BLOCK_BYTES = 1 << 20
MAX_STORE_BYTES = 64 << 20


class _Known(msgspec.Struct, frozen=True, array_like=True):
    size: int
    mtime_ns: int
    inode: int
    chunks: ChunkList


class HashingStopped(Exception):
    """The caller did not want to go on."""


def hash_file(path: Path, keep_going: KeepGoing = lambda _: True) -> ChunkList:
    """The chunk list of a file. Blocking: run it in a thread.

    Raises:
        OSError: it cannot be read, or it changed meanwhile, which is noticed at once.
        HashingStopped: ``keep_going`` said so.
    """
    with path.open("rb", buffering=0) as file:
        stamp = _stamp(path)
        size, *_ = stamp
        hasher, done = ChunkHasher(size), 0
        while block := file.read(BLOCK_BYTES):
            hasher.feed(block)
            done += len(block)
            if not keep_going(done):
                raise HashingStopped
            if _stamp(path) != stamp:
                break
    if done != size or _stamp(path) != stamp:
        raise OSError(f"{path.name} changed while it was read")
    return hasher.finish()


class FileHashes:
    """Chunk lists by path, kept in one file."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._known: dict[str, _Known] = _read(store)
        self._stored = dict(self._known)
        self._wanted: frozenset[str] = frozenset()
        self._waiting: deque[Path] = deque()

    def of(self, path: Path) -> ChunkList | None:
        """The list of a file, if it was hashed and has not changed since."""
        if (known := self._known.get(str(path))) is None:
            return None
        try:
            is_same = _stamp(path) == (known.size, known.mtime_ns, known.inode)
        except OSError:
            return None
        return known.chunks if is_same else None

    def find(self, sha256: bytes) -> tuple[Path, ChunkList] | None:
        """A file with this hash that is still what it was."""
        for text, known in self._known.items():
            if known.chunks.sha256 == sha256 and (chunks := self.of(Path(text))) is not None:
                return Path(text), chunks
        return None

    async def refresh(self, paths: Iterable[Path]) -> None:
        """``want`` and ``hash_wanted``."""
        self.want(paths)
        await self.hash_wanted()

    def want(self, paths: Iterable[Path]) -> None:
        """From now on these files count. What is being hashed and is none of them is stopped."""
        wanted = [path for path in paths if path.is_file()]
        self._wanted = frozenset(map(str, wanted))
        self._waiting = deque(wanted)

    async def hash_wanted(self) -> None:
        """Hash what is new or changed, one file after the other, and forget what is gone. For one caller at a time.

        A file that changes while it is read is left until it is wanted again. Cancelling keeps what was computed.
        """
        try:
            while self._waiting:
                path = self._waiting.popleft()
                if self.of(path) is None:
                    await self._add(path)
        finally:
            self._known = {text: known for text, known in self._known.items() if text in self._wanted}
            if self._known != self._stored:
                self._write()

    def put(self, path: Path, chunks: ChunkList) -> None:
        """The list of a file that has just been written and checked."""
        self._known[str(path)] = _Known(*_stamp(path), chunks)
        self._write()

    async def _add(self, path: Path) -> None:
        text = str(path)
        try:
            stamp = _stamp(path)
            if not stamp[0]:
                return
            chunks = await in_thread(
                lambda going: hash_file(path, lambda done: going(done) and text in self._wanted), lambda _done: None
            )
        except HashingStopped:
            return
        except OSError as error:
            _LOG.warning("file_not_hashed", file=path.name, error=repr(error)[:200])
            return
        self._known[text] = _Known(*stamp, chunks)
        _LOG.debug("file_hashed", file=path.name, sha256=chunks.sha256.hex())

    def _write(self) -> None:
        self._stored = dict(self._known)
        try:
            replace_file(self._store, msgspec.msgpack.encode(self._known))
        except OSError as error:
            _LOG.warning("file_hashes_not_kept", path=str(self._store), error=repr(error)[:200])


def _read(store: Path) -> dict[str, _Known]:
    try:
        with store.open("rb") as file:
            return msgspec.msgpack.decode(file.read(MAX_STORE_BYTES), type=dict[str, _Known])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        _LOG.warning("file_hashes_unreadable", path=str(store), error=repr(error)[:200])
        return {}


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
