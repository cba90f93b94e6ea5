"""Threads that tests can hold up and count."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest


class GatedThreads(ThreadPoolExecutor):
    """The threads of an event loop. Work is counted; that from number ``held_from`` on waits for the gate."""

    def __init__(self) -> None:
        super().__init__(max_workers=8)
        self.came = 0
        self.gate = threading.Event()
        self.held_from = sys.maxsize
        self._more = asyncio.Event()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.came += 1
        self._more.set()
        is_held = self.came >= self.held_from

        def work() -> Any:
            assert not is_held or self.gate.wait(20)
            return fn(*args, **kwargs)

        return super().submit(work)

    async def wait_came(self, count: int) -> None:
        """Wait until so much work has come."""
        async with asyncio.timeout(20):
            while self.came < count:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
async def threads() -> AsyncIterator[GatedThreads]:
    """The threads of this test's event loop."""
    threads = GatedThreads()
    asyncio.get_running_loop().set_default_executor(threads)
    yield threads
    threads.gate.set()
