"""An image that is made of archives, fetched and unpacked into the models folder (shell).

Layers are fetched into a hidden folder, each whole and with its hash before it is opened, and unpacked there. Files get
their names only when all of them were looked at. A download that ends goes on next time; what is refused is removed.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import aiohttp
import structlog

from localai.mesh.errors import Conflict, LocalAIError
from localai.node.atomic_file import commit_partial
from localai.node.gallery.archive import Stopped, file_sha256
from localai.node.gallery.install_lock import install_lock
from localai.node.model_config import ModelConfig
from localai.node.sources.archive_members import DEFAULT_UNPACK_LIMITS, UnpackLimits
from localai.node.sources.background import KeepGoing, in_thread
from localai.node.sources.fetch import FetchProgress, OnProgress, disk_error, fetch
from localai.node.sources.file_check import check_file
from localai.node.sources.plan import DownloadPlan
from localai.node.sources.safety import raise_if_refused
from localai.node.sources.transfer import DEFAULT_LIMITS, FetchLimits
from localai.node.sources.unpack import UnpackedFile, unpack_layers

_LOG = structlog.get_logger()

Places = Callable[[Mapping[str, UnpackedFile]], Mapping[str, str]]
"""Given the files by their path in the image, where each goes, relative to the models folder."""


async def fetch_image(
    plan: DownloadPlan,
    models_path: Path,
    session: aiohttp.ClientSession,
    places: Places,
    *,
    replaceable: Collection[str] = (),
    on_progress: OnProgress = lambda _progress: None,
    limits: FetchLimits = DEFAULT_LIMITS,
    unpack: UnpackLimits = DEFAULT_UNPACK_LIMITS,
) -> dict[str, str]:
    """Put the files in the layers of ``plan`` where ``places`` says; get the hash of each by its name there.

    A file that is there already with the same content stays; one with another is only replaced if it is among
    ``replaceable`` or lies below one of them.

    Raises:
        Forbidden: the archives or a file in them are unsafe.
        Conflict: another file has the place of one of them.
        SetupError: the folder cannot be written to, or the disk is full.
        LocalAIError: a layer cannot be had or unpacked, or ``places`` refuses.
    """
    key = hashlib.sha256("".join(file.sha256 or "" for file in plan).encode()).hexdigest()[:16]
    staging = models_path / f".image-{key}"
    lock = models_path / f".image-{key}.lock"
    try:
        models_path.mkdir(parents=True, exist_ok=True)
        async with install_lock(lock, lambda: on_progress(FetchProgress("waiting"))):
            layers = [staging / f"{number}.tar" for number in range(len(plan))]
            for file, layer in zip(plan, layers, strict=True):
                await fetch(
                    file.url,
                    layer,
                    sha256=file.sha256,
                    size=file.size,
                    session=session,
                    headers=file.headers,
                    on_progress=on_progress,
                    limits=limits,
                )
            try:
                found = await in_thread(
                    lambda going: _unpacked(layers, staging / "files", places, going, unpack, limits),
                    lambda done: on_progress(FetchProgress("checking", done)),
                )
                await asyncio.to_thread(_place, found, staging / "files", models_path, replaceable)
            except LocalAIError:
                await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
                raise
            await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
    except OSError as error:
        raise disk_error(staging, error) from error
    on_progress(FetchProgress("done"))
    return {filename: file.sha256 for filename, file in found.values()}


def present_files(config: ModelConfig, models_path: Path) -> dict[str, str] | None:
    """The files that a model came with and their hashes, if all are here unchanged; else None (blocking)."""
    known = {file.filename: file.sha256 for file in config.downloads}
    known[config.model_file] = known.get(config.model_file) or config.sha256
    found: dict[str, str] = {}
    for filename, sha256 in known.items():
        path = models_path / filename
        if sha256 is None or not path.is_file() or file_sha256(path, lambda _done: True) != sha256:
            return None
        found[filename] = sha256
    return found


def _unpacked(
    layers: list[Path],
    folder: Path,
    places: Places,
    keep_going: KeepGoing,
    unpack: UnpackLimits,
    limits: FetchLimits,
) -> dict[str, tuple[str, UnpackedFile]]:
    """Unpack, and look at every file (blocking); get place and content of each by its path in the image."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    files = unpack_layers(layers, folder, keep_going, limits=unpack, disk=limits)
    where = places(files)
    for path, filename in where.items():
        findings = check_file(folder / path, name=filename)
        raise_if_refused(findings)
        for finding in findings:
            _LOG.warning("file_finding", file=filename, finding=finding.sentence)
        if not keep_going(0):
            raise Stopped
    return {path: (filename, files[path]) for path, filename in where.items()}


def _place(
    found: Mapping[str, tuple[str, UnpackedFile]], folder: Path, models_path: Path, replaceable: Collection[str]
) -> None:
    """Give the files their names (blocking)."""
    missing = {
        path: filename for path, (filename, file) in found.items() if not _is_there(models_path / filename, file)
    }
    for filename in missing.values():
        may_replace = any(filename == each or filename.startswith(f"{each}/") for each in replaceable)
        if (models_path / filename).exists() and not may_replace:
            message = f"The image has a file {filename}, and another one of that name is here. Move that away first."
            raise Conflict(message, code="file_exists")
    for path, filename in missing.items():
        target = models_path / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        commit_partial(folder / path, target)


def _is_there(target: Path, file: UnpackedFile) -> bool:
    is_same_size = target.is_file() and target.stat().st_size == file.size
    return is_same_size and file_sha256(target, lambda _done: True) == file.sha256
