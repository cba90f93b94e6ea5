"""Blocking work beside the event loop (shell): it can be stopped, and is never left running alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeAlias, TypeVar

T = TypeVar("T")
KeepGoing: TypeAlias = Callable[[int], bool]
"""Called by the work with its bytes done; False means that it must raise and end."""
OnBytes: TypeAlias = Callable[[int], None]


async def in_thread(work: Callable[[KeepGoing], T], on_bytes: OnBytes) -> T:
    """What ``work`` returns, or the exception it raises. Its bytes are reported to ``on_bytes`` on the loop's thread.

    Cancelling asks the work to stop and waits for its end, so files it has open may be closed and removed afterwards.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def keep_going(done: int) -> bool:
        if not stop.is_set():
            loop.call_soon_threadsafe(on_bytes, done)
        return not stop.is_set()

    thread = asyncio.ensure_future(asyncio.to_thread(work, keep_going))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        stop.set()
        await _ended(thread)
        raise


async def _ended(thread: asyncio.Future[T]) -> None:
    """Wait for the end of the work, however often we are cancelled meanwhile."""
    while not thread.done():
        try:
            await asyncio.wait({thread})
        except asyncio.CancelledError:
            continue  # the first one is raised again by the caller
    thread.exception()  # looked at, so that nothing complains that nobody did
