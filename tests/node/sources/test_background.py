"""Work in threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from localai.node.sources.background import KeepGoing, in_thread


class _Stopped(Exception):
    pass


class _Work:
    """Reports bytes until it is told to stop, and then takes its time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.started = asyncio.Event()
        self.stopping = asyncio.Event()
        self.may_end = threading.Event()
        self.ended = False

    def __call__(self, keep_going: KeepGoing) -> None:
        self._loop.call_soon_threadsafe(self.started.set)
        while keep_going(1):
            pass
        self._loop.call_soon_threadsafe(self.stopping.set)
        assert self.may_end.wait(10)
        self.ended = True
        raise _Stopped


async def test_results_errors_and_bytes() -> None:
    seen: list[int] = []

    def work(keep_going: KeepGoing) -> str:
        assert keep_going(5)
        return "done"

    def failing(_keep_going: KeepGoing) -> None:
        raise OSError("no")

    assert await in_thread(work, seen.append) == "done"
    assert seen == [5]
    with pytest.raises(OSError, match="no"):
        await in_thread(failing, seen.append)


async def test_cancelling_waits_for_the_end_however_often_it_comes() -> None:
    work = _Work(asyncio.get_running_loop())
    task = asyncio.create_task(in_thread(work, lambda _done: None))
    await work.started.wait()
    task.cancel()
    await work.stopping.wait()
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended
