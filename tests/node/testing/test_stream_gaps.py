from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from localai.node.sources.testing import answer, stub_server
from localai.node.testing.stream_gaps import percentile_99, running_streams

PATH = "/v1/completions"
CHUNK = b'data: {"choices": []}\n\n'
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def chunks(count: int, more: asyncio.Event, last: bytes = b"data: [DONE]\n\n") -> Handler:
    """An answer that goes on after ``count`` chunks when told to: with one chunk and the end."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(CHUNK * count)
        await more.wait()
        await response.write(CHUNK + last)
        return response

    return handler


async def test_gaps_are_taken_once_for_each_stream() -> None:
    more = asyncio.Event()
    async with stub_server() as server:
        server.route(PATH, chunks(3, more), chunks(1, more))
        async with running_streams([server.url] * 2, "m", 4) as streams:
            first = streams.take()
            more.set()
            await streams.wait_end()
            both = [[*early, *late] for early, late in zip(first, streams.take(), strict=True)]
            assert sorted(map(len, both)) == [1, 3]
            assert all(gap >= 0 for gaps in both for gap in gaps)
            assert streams.take() == [[], []]


async def test_streams_are_cut_at_the_end() -> None:
    async with stub_server() as server:
        server.route(PATH, chunks(1, asyncio.Event()))
        async with running_streams([server.url], "m", 4) as streams:
            assert streams.take() == [[]]


@pytest.mark.parametrize("handler", [answer(500, "no"), answer(200, 'data: {"error": {}}\n\n')])
async def test_an_error_is_no_stream(handler: Handler) -> None:
    async with stub_server() as server:
        server.route(PATH, handler)
        with pytest.raises(AssertionError):
            async with running_streams([server.url], "m", 4):
                pytest.fail("it began")


async def test_an_error_later_is_found_at_the_end() -> None:
    more = asyncio.Event()
    async with stub_server() as server:
        server.route(PATH, chunks(1, more, b'data: {"error": {}}\n\n'))
        async with running_streams([server.url], "m", 4) as streams:
            more.set()
            with pytest.raises(AssertionError):
                await streams.wait_end()


def test_percentiles() -> None:
    assert percentile_99([0.5]) == 0.5
    assert percentile_99(range(200)) == 198
    assert percentile_99([]) == math.inf
