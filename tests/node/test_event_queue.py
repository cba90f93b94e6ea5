from __future__ import annotations

import asyncio

from localai.node.event_queue import MAX_UNREAD_EVENTS, EventQueue
from localai.node.inference import Finished, GenerateRequest, Progress, RequestId, TextInput, Tokens, Usage

REQUEST = GenerateRequest(RequestId("a"), "m", TextInput(""))
TOKEN = Tokens(0, (1,), b"x")
DONE = Finished(("stop",), Usage(1, 1))


async def test_a_reader_gets_all_there_is_and_hears_of_the_end() -> None:
    queue = EventQueue(REQUEST)
    queue.put(Progress("queued"))
    queue.put(TOKEN)
    assert await queue.take() == ([Progress("queued"), TOKEN], False)
    queue.put(DONE)
    assert await queue.take() == ([DONE], True)


async def test_a_reader_waits_for_the_next_event() -> None:
    queue = EventQueue(REQUEST)
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not taking.done()
    queue.put(TOKEN)
    assert await taking == ([TOKEN], False)


async def test_nothing_comes_after_the_end() -> None:
    queue = EventQueue(REQUEST)
    for event in (DONE, TOKEN, DONE):
        queue.put(event)
    assert queue.ended
    assert await queue.take() == ([DONE], True)


async def test_a_reader_that_is_too_far_behind_is_seen() -> None:
    queue = EventQueue(REQUEST)
    for _ in range(MAX_UNREAD_EVENTS):
        assert not queue.is_full
        queue.put(TOKEN)
    assert queue.is_full
    await queue.take()
    assert not queue.is_full
