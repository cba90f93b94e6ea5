"""One installation of a model at a time, over all processes of this machine (shell)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

_POLL_S = 0.2


@contextlib.asynccontextmanager
async def install_lock(path: Path, on_wait: Callable[[], None]) -> AsyncIterator[int]:
    """Hold the lock file ``path``; the value is its descriptor.

    ``on_wait`` is called once if somebody else holds it. The lock belongs to the open file, so a child that inherits
    the descriptor keeps it after we are killed, until that child ends too. The file is removed at the end.

    Raises:
        OSError: the lock file cannot be made.
    """
    descriptor = await _acquire(path, on_wait)
    try:
        yield descriptor
    finally:
        _release(descriptor, path)


async def _acquire(path: Path, on_wait: Callable[[], None]) -> int:
    waited = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(descriptor, path):
                return descriptor
        except BlockingIOError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not waited:
            waited = True
            on_wait()
        await asyncio.sleep(_POLL_S)


def _release(descriptor: int, path: Path) -> None:
    """Remove the file while it is locked: whoever waits then sees that its open file is not this path any more."""
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    """False when the file was removed between our opening and locking it."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
