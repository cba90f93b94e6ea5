"""Layers of an image unpacked into a folder (shell, blocking): plain files only, within limits, each hashed."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from localai.mesh.errors import Forbidden, Unsupported, UpstreamFailed
from localai.node.gallery.archive import Stopped
from localai.node.sources.archive_members import (
    DEFAULT_UNPACK_LIMITS,
    Entry,
    EntryKind,
    UnpackLimits,
    followed_links,
    link_target,
    taken_path,
)
from localai.node.sources.background import KeepGoing
from localai.node.sources.fetch import check_space
from localai.node.sources.transfer import DEFAULT_LIMITS, FetchLimits

_BLOCK_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError, RecursionError)
"""What the libraries raise for bytes that are no archive; the last for long names nested in long names."""


@dataclass(frozen=True, slots=True)
class UnpackedFile:
    """One file that came out."""

    sha256: str
    """Lower-case hex."""
    size: int
    """Bytes."""


def unpack_layers(
    layers: Sequence[Path],
    folder: Path,
    keep_going: KeepGoing,
    *,
    limits: UnpackLimits = DEFAULT_UNPACK_LIMITS,
    disk: FetchLimits = DEFAULT_LIMITS,
) -> dict[str, UnpackedFile]:
    """The files of all layers by their path in ``folder``, which must be new and empty. Of two with one path the later
    counts. A link becomes a second name of the file that it leads to. ``disk`` says what must stay free.

    Raises:
        Forbidden: something in it is unsafe, or it is too large.
        Unsupported: it is compressed in a way that is not known here.
        UpstreamFailed: it is damaged.
        SetupError: the disk would become full.
        Stopped: ``keep_going`` said so.
        OSError: ``folder`` cannot be written to.
    """
    work = _Unpacking(folder, keep_going, limits, disk, sum(layer.stat().st_size for layer in layers))
    for layer in layers:
        try:
            with layer.open("rb") as packed:
                work.unpack(packed)
        except _DAMAGED as error:
            message = "The image has a layer that is a damaged archive. Report it to its author, or use another image."
            raise UpstreamFailed(message, code="damaged_archive", detail=repr(error)) from error
    return work.finish()


class _Unpacking:
    """All layers of one image, one after the other."""

    def __init__(
        self, folder: Path, keep_going: KeepGoing, limits: UnpackLimits, disk: FetchLimits, packed_bytes: int
    ) -> None:
        self._folder = folder
        self._keep_going = keep_going
        self._limits = limits
        self._disk = disk
        self._left_bytes = limits.unpacked_bytes(packed_bytes)
        self._entries = 0
        self._done = 0
        self._files: dict[str, UnpackedFile] = {}
        self._links: dict[str, str] = {}

    def unpack(self, packed: IO[bytes]) -> None:
        """Write the files of one layer."""
        head = packed.read(4)
        packed.seek(0)
        if head.startswith(_ZSTD_MAGIC):
            message = "The image has a layer that is compressed with zstd. Use an image whose layers are gzip or plain."
            raise Unsupported(message, code="unsupported_archive")
        stream = gzip.GzipFile(fileobj=packed) if head.startswith(_GZIP_MAGIC) else packed
        bounded = _Bounded(cast("IO[bytes]", stream), self._left_bytes, lambda at: self._keep_going(self._done + at))
        try:
            with tarfile.TarFile(fileobj=cast("IO[bytes]", bounded), mode="r") as archive:
                for member in archive:
                    self._entries += 1
                    if self._entries > self._limits.entries:
                        raise _too_large(f"more than {self._limits.entries} entries")
                    self._take(archive, member)
            while bounded.read(_BLOCK_BYTES):  # the checksum of the compression stands at its end
                pass
        finally:
            self._left_bytes -= bounded.tell()
            self._done += bounded.tell()

    def finish(self) -> dict[str, UnpackedFile]:
        """Give files the further names that links are."""
        for link, path in followed_links(self._links, self._files).items():
            target = self._place(link)
            target.unlink(missing_ok=True)
            os.link(self._folder / path, target)
            self._files[link] = self._files[path]
        return self._files

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        entry = Entry(member.name, _kind(member), member.linkname)
        path = taken_path(entry)
        if path is None:
            return
        if entry.kind != "file":
            self._links[path] = link_target(entry, path)
            return
        source = archive.extractfile(member)
        assert source is not None  # it is a plain file
        check_space(self._folder, member.size, self._disk)
        self._links.pop(path, None)
        self._files[path] = self._write(source, self._place(path), member.size)

    def _place(self, path: str) -> Path:
        """Where a file goes, its folder made."""
        target = self._folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise _refused_as_both(path) from error
        if target.is_dir():
            raise _refused_as_both(path)
        return target

    def _write(self, source: IO[bytes], target: Path, size: int) -> UnpackedFile:
        digest = hashlib.sha256()
        written = 0
        with target.open("wb") as out:
            while chunk := source.read(_BLOCK_BYTES):
                digest.update(chunk)
                out.write(chunk)
                written += len(chunk)
            out.flush()
            os.fsync(out.fileno())
        if written != size:
            raise EOFError
        return UnpackedFile(digest.hexdigest(), size)


class _Bounded:
    """A stream that goes forward only, to a limit or until it is stopped, and takes no long headers into memory."""

    def __init__(self, source: IO[bytes], most_bytes: int, keep_going: KeepGoing) -> None:
        self._source = source
        self._most_bytes = most_bytes
        self._keep_going = keep_going
        self._at = 0

    def read(self, size: int) -> bytes:
        """The next bytes; at the end fewer than asked for."""
        if not 0 <= size <= _BLOCK_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = self._source.read(size)
        self._at += len(data)
        if self._at > self._most_bytes:
            raise _too_large("more bytes than it may")
        if size > tarfile.BLOCKSIZE and not self._keep_going(self._at):
            raise Stopped
        return data

    def tell(self) -> int:
        """Bytes read so far."""
        return self._at

    def seek(self, position: int) -> None:
        """Go forward, at most to the end."""
        if position < self._at:
            raise tarfile.ReadError("a place before this one")
        while self._at < position and self.read(min(_BLOCK_BYTES, position - self._at)):
            pass


def _kind(member: tarfile.TarInfo) -> EntryKind:
    if member.isdir():
        return "folder"
    if member.issym():
        return "link"
    if member.islnk():
        return "hard link"
    return "file" if member.isreg() and not member.issparse() else "other"


def _too_large(what: str) -> Forbidden:
    message = (
        f"The image unpacks to {what}, as an archive that is made to fill disks does. Use an image that you trust."
    )
    return Forbidden(message, code="unsafe_archive")


def _refused_as_both(path: str) -> Forbidden:
    message = f"The image has both a file and a folder called {path[:100]!r}. Use an image that you trust."
    return Forbidden(message, code="unsafe_archive")
