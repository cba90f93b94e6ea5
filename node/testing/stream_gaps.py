"""Streamed answers of nodes and the pauses in them, for tests and benchmarks (asyncio shell)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import msgspec

_DATA = b"data: {"


class StreamGaps:
    """Streams under way, one for each address."""

    def __init__(self, count: int) -> None:
        self._gaps: list[list[float]] = [[] for _ in range(count)]
        self._begun = [asyncio.Event() for _ in range(count)]
        self._tasks: list[asyncio.Task[None]] = []

    def take(self) -> list[list[float]]:
        """Seconds between the chunks that came since the last call, for each stream."""
        taken, self._gaps = self._gaps, [[] for _ in self._gaps]
        return taken

    async def wait_end(self) -> None:
        """Wait until all streams have ended.

        Raises:
            AssertionError: one ended with an error.
        """
        await asyncio.gather(*self._tasks)

    async def run(self, http: aiohttp.ClientSession, urls: Sequence[str], model: str, tokens: int) -> None:
        """Begin them; returns when each has its first chunk."""
        self._tasks = [
            asyncio.create_task(self._stream(http, url, model, tokens, number)) for number, url in enumerate(urls)
        ]
        for event, task in zip(self._begun, self._tasks, strict=True):
            await event.wait()
            if task.done():
                task.result()

    async def aclose(self) -> None:
        """Cut those that go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _stream(self, http: aiohttp.ClientSession, url: str, model: str, tokens: int, number: int) -> None:
        body = {"model": model, "prompt": f"Story {number}.", "max_tokens": tokens, "stream": True, "ignore_eos": True}
        try:
            async with http.post(f"{url}/v1/completions", data=msgspec.json.encode(body)) as response:
                assert response.status == 200, await response.text()
                await self._listen(response, number)
        finally:
            self._begun[number].set()  # as far as it ever will

    async def _listen(self, response: aiohttp.ClientResponse, number: int) -> None:
        before = None
        async for line in response.content:
            assert b'"error"' not in line, line
            if not line.startswith(_DATA):
                continue
            now = time.perf_counter()
            if before is not None:
                self._gaps[number].append(now - before)
            before = now
            self._begun[number].set()


@asynccontextmanager
async def running_streams(urls: Sequence[str], model: str, tokens: int) -> AsyncIterator[StreamGaps]:
    """One streamed answer of ``tokens`` tokens for each of ``urls``, all past their first chunk inside the block.

    Raises:
        AssertionError: a stream cannot be begun.
    """
    streams = StreamGaps(len(urls))
    async with aiohttp.ClientSession() as http:
        try:
            await streams.run(http, urls, model, tokens)
            yield streams
        finally:
            await streams.aclose()


def percentile_99(gaps: Sequence[float]) -> float:
    """The 99th percentile, infinity for none: nothing came."""
    return sorted(gaps)[int(len(gaps) * 0.99)] if gaps else math.inf
