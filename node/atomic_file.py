"""Files that are either wholly there or not at all (shell)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Make ``data`` the content of ``path``: a crash at any moment leaves the old content or the new one.

    The new bytes pass through ``<path>.partial`` in the same folder.

    Raises:
        OSError: as the file system says; the old content is untouched and the partial file removed.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        commit_partial(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def commit_partial(partial: Path, path: Path) -> None:
    """Give a finished, fsynced file its final name, durably.

    Raises:
        OSError: as the file system says.
    """
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
