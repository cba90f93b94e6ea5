"""A folder that is a small disk of its own for one process, for tests of what happens when it is full."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = """
set -e
exec 9<"$2"
mount -t tmpfs -o "size=$1" tmpfs "$2"
cp -R /proc/self/fd/9/. "$2"
exec 9<&-
shift 2
exec "$@"
"""


def can_mount() -> bool:
    """Whether small disks can be had here."""
    command = ["unshare", "--map-root-user", "--mount", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


def on_small_disk(folder: Path, size_bytes: int) -> Sequence[str]:
    """What to put before a command to have ``folder``, with what is in it, on a disk of that size, in memory.

    It becomes that process itself: its pid and signals are real. Nobody else sees the disk, which is gone when the
    last process on it is.
    """
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", _SCRIPT, "sh", str(size_bytes), str(folder)]


def seen_by(pid: int, path: Path) -> Path:
    """An absolute path as a running process sees it, to be used from here."""
    return Path(f"/proc/{pid}/root", path.relative_to("/"))
