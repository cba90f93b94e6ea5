"""A file of this machine taken into the models folder (shell): copied and hashed at once, whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from localai.mesh.errors import Forbidden, NotFound, UpstreamFailed
from localai.node.atomic_file import commit_partial
from localai.node.gallery.archive import Stopped
from localai.node.gallery.install_lock import install_lock
from localai.node.sources.background import KeepGoing, in_thread
from localai.node.sources.fetch import (
    FetchedFile,
    FetchProgress,
    OnProgress,
    check_space,
    disk_error,
    partial_path,
    record_path,
)
from localai.node.sources.transfer import DEFAULT_LIMITS, FetchLimits, Wanted, expected_sha256, wrong_length
from localai.node.sources.uri import LocalFile

_BLOCK_BYTES = 1 << 20


async def copy_local(
    reference: LocalFile,
    target: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    within: Path | None = None,
    on_progress: OnProgress = lambda _progress: None,
    limits: FetchLimits = DEFAULT_LIMITS,
) -> FetchedFile:
    """Make ``target`` a copy of the file, whose hash and size are checked where they are given.

    With ``within`` only files below that folder are taken, links followed. A file that is its own target stays.

    Raises:
        NotFound: there is no such file, or it cannot be read.
        Forbidden: it lies outside ``within``.
        SetupError: the target cannot be written, or the disk is full.
        UpstreamFailed: it has another hash or length.
    """
    source = await asyncio.to_thread(_found, reference, within)
    wanted = Wanted(target.name, str(source), expected_sha256(sha256), size)
    partial = partial_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f".{target.name}.lock")
        async with install_lock(lock, lambda: on_progress(FetchProgress("waiting"))):
            try:
                return await _copy(source, partial, target, wanted, on_progress, limits)
            finally:
                with suppress(FileNotFoundError):
                    partial.unlink()
    except OSError as error:
        raise disk_error(target, error) from error


async def _copy(
    source: Path, partial: Path, target: Path, wanted: Wanted, on_progress: OnProgress, limits: FetchLimits
) -> FetchedFile:
    total = source.stat().st_size
    if wanted.size not in (None, total):
        raise wrong_length(wanted, total)
    in_place = target.exists() and source.samefile(target)
    if not in_place:
        check_space(target.parent, total, limits)
        record_path(target).unlink(missing_ok=True)  # an unfinished download's, whose partial file is overwritten now
    digest = await in_thread(
        lambda going: _copied(source, None if in_place else partial, going),
        lambda done: on_progress(FetchProgress("checking" if in_place else "downloading", done, total)),
    )
    if wanted.sha256 not in (None, digest):
        message = f"The file {source} has the SHA-256 {digest} instead of {wanted.sha256}. Give the right file."
        raise UpstreamFailed(message, code="hash_mismatch")
    if not in_place:
        commit_partial(partial, target)
    on_progress(FetchProgress("done", total, total))
    return FetchedFile(target, digest, target.stat().st_size)


def _found(reference: LocalFile, within: Path | None) -> Path:
    """The file itself, behind all links (blocking)."""
    try:
        path = reference.path.expanduser().resolve(strict=True)
        regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, RuntimeError) as error:
        message = f"The file {reference.path} cannot be found. Check its path and its permissions."
        raise NotFound(message, code="no_such_file", detail=repr(error)) from error
    if within is not None and not path.is_relative_to(within.resolve()):
        message = f"The file {reference.path} lies outside {within}. Copy it there first."
        raise Forbidden(message, code="outside_folder")
    if not regular or not os.access(path, os.R_OK):
        message = f"{reference.path} is no file that can be read. Give the path of a model file."
        raise NotFound(message, code="no_such_file")
    return path


def _copied(source: Path, partial: Path | None, keep_going: KeepGoing) -> str:
    """Copy, fsync and hash (blocking); without ``partial`` only hash."""
    digest = hashlib.sha256()
    done = 0
    out = partial.open("wb") if partial else None
    try:
        with source.open("rb") as file:
            while chunk := file.read(_BLOCK_BYTES):
                digest.update(chunk)
                if out:
                    out.write(chunk)
                done += len(chunk)
                if not keep_going(done):
                    raise Stopped
        if out:
            out.flush()
            os.fsync(out.fileno())
    finally:
        if out:
            out.close()
    return digest.hexdigest()
