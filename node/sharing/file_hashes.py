"""The hashes of this machine's model files, computed once each (shell).

A file is known again by its path, size, time of change and inode. The store is a cache: a missing or damaged one is
made anew, at the price of reading the files again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import structlog

from localai.node.atomic_file import replace_file
from localai.node.sharing.chunks import ChunkHasher, ChunkList

_LOG = structlog.get_logger()

BLOCK_BYTES = 1 << 20
MAX_STORE_BYTES = 64 << 20

KeepGoing = Callable[[int], bool]
"""Told the bytes done so far; false stops the work."""


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
        OSError: it cannot be read, or it changed meanwhile.
        HashingStopped: ``keep_going`` said so.
    """
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        hasher, done = ChunkHasher(size), 0
        while block := file.read(BLOCK_BYTES):
            hasher.feed(block)
            done += len(block)
            if not keep_going(done):
                raise HashingStopped
    if done != size:
        raise OSError(f"{path.name} changed while it was read")
    return hasher.finish()


class FileHashes:
    """Chunk lists by path, kept in one file."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._known: dict[str, _Known] = _read(store)

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
        """Hash what is new or changed, one file after the other, and forget what is gone."""
        wanted = [path for path in paths if path.is_file() and path.stat().st_size]
        keep = {str(path) for path in wanted}
        before = dict(self._known)
        self._known = {text: known for text, known in self._known.items() if text in keep}
        for path in wanted:
            if self.of(path) is None:
                await self._add(path)
        if self._known != before:
            self._write()

    def put(self, path: Path, chunks: ChunkList) -> None:
        """The list of a file that has just been written and checked."""
        self._known[str(path)] = _Known(*_stamp(path), chunks)
        self._write()

    async def _add(self, path: Path) -> None:
        try:
            stamp = _stamp(path)
            chunks = await asyncio.to_thread(hash_file, path)
        except OSError as error:
            _LOG.warning("file_not_hashed", file=path.name, error=repr(error)[:200])
            return
        self._known[str(path)] = _Known(*stamp, chunks)
        _LOG.debug("file_hashed", file=path.name, sha256=chunks.sha256.hex())

    def _write(self) -> None:
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
