"""What an HTTP request and a streamed chunk cost the server: ours, a bare aiohttp handler, LiteLLM's proxy.

CPU time of the server's process, per request (8 connections, short answers) and per chunk (32 streams, a token every
10 ms each). The servers take turns; each figure is the median of its rounds. LiteLLM forwards to the bare server, and
is asked less, since it takes longer.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import aiohttp
import psutil
from harness import Row
from litellm_proxy import litellm_proxy

CONNECTIONS = 8
STREAMS = 32
_MESSAGES = [{"role": "user", "content": "Tell me a story about rivers, in three sentences."}]


def run(quick: bool) -> list[Row]:
    """Ask the servers in turn; get the medians."""
    rounds, requests, tokens = (3, 1500, 100) if quick else (7, 4000, 300)
    with ExitStack() as running:
        ours = running.enter_context(_server("ours"))
        bare = running.enter_context(_server("bare"))
        servers = {"ours": ours, "bare aiohttp": bare, "LiteLLM": running.enter_context(litellm_proxy(bare[1]))}
        whole: dict[str, list[float]] = {name: [] for name in servers}
        chunks: dict[str, list[float]] = {name: [] for name in servers}
        for _, port in servers.values():
            asyncio.run(_ask(port, CONNECTIONS))  # the first request of each loads what it needs
        for _ in range(rounds):
            for name, (process, port) in servers.items():
                share = 20 if name == "LiteLLM" else 1
                count = requests // share // CONNECTIONS * CONNECTIONS
                whole[name].append(_cost_us(process, _ask(port, count)) / count)
                length = max(20, tokens // share)
                chunks[name].append(_cost_us(process, _stream(port, length)) / (STREAMS * length))
    per_request = {name: statistics.median(values) for name, values in whole.items()}
    per_chunk = {name: statistics.median(values) for name, values in chunks.items()}
    return [*_rows("CPU per request", per_request), *_rows("CPU per chunk", per_chunk)]


def _cost_us(process: psutil.Process, work: Coroutine[Any, Any, None]) -> float:
    """CPU time that a server and its children spend on some work, in microseconds."""
    before = _cpu_s(process)
    asyncio.run(work)
    return (_cpu_s(process) - before) * 1e6


def _cpu_s(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


async def _ask(port: int, count: int) -> None:
    """Short answers over connections that stay open, one after the other on each."""
    body = {"model": "m", "messages": _MESSAGES, "max_tokens": 1}
    async with _client() as http:

        async def some() -> None:
            for _ in range(count // CONNECTIONS):
                async with http.post(_url(port), json=body) as answer:
                    assert answer.status == 200, await answer.text()
                    assert (await answer.json())["choices"][0]["finish_reason"] == "length"

        await asyncio.gather(*(some() for _ in range(CONNECTIONS)))


async def _stream(port: int, tokens: int) -> None:
    """Streams side by side."""
    body = {"model": "m", "messages": _MESSAGES, "max_tokens": tokens, "stream": True}
    async with _client() as http:

        async def one() -> None:
            async with http.post(_url(port), json=body) as answer:
                data = b"".join([part async for part in answer.content.iter_any()])
            assert data.count(b" word") >= tokens
            assert b"[DONE]" in data

        await asyncio.gather(*(one() for _ in range(STREAMS)))


def _client() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300))


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1/chat/completions"


@contextmanager
def _server(kind: str) -> Iterator[tuple[psutil.Process, int]]:
    words = [sys.executable, "-m", "api_servers", kind]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        try:
            yield psutil.Process(process.pid), int(process.stdout.readline())
        except BaseException:
            log.seek(0)
            print(*(line for line in log if '"level": "error"' in line), sep="", file=sys.stderr)
            raise
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _rows(what: str, costs: dict[str, float]) -> list[Row]:
    ours = costs["ours"]
    return [
        Row(f"{what}, beside {name}", ours, "us", cost, ours / cost) for name, cost in costs.items() if name != "ours"
    ]
