"""A real node under clients that are many, rude or broken: it goes on serving, and everything they took comes back."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from localai.node.testing.node_process import NodeProcess, running_node

pytestmark = pytest.mark.e2e

STREAMS = 500
LEAVERS = 200
SETTLE_S = 30.0
MORE_MEMORY = 96 << 20
"""What a node may keep after all of it: allocators give back little, and less than this is no leak per request."""
PATH = "/v1/completions"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("node")
    (folder / "models").mkdir()
    (folder / "models" / "tiny.gguf").symlink_to(tiny_model)
    with running_node(folder, ["--threads", "1"]) as running:
        yield running


def body(**changes: object) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "a", "max_tokens": 8, "ignore_eos": True} | changes


def place(node: NodeProcess) -> tuple[str, int]:
    host, port = node.url.removeprefix("http://").split(":")
    return host, int(port)


def raw_request(content: bytes, headers: str = "") -> bytes:
    length = f"Content-Length: {len(content)}\r\n" if "Transfer-Encoding" not in headers else ""
    return f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n{length}{headers}\r\n".encode() + content


async def status_of(node: NodeProcess, data: bytes) -> int:
    """The status of the answer to some bytes; 0 for a connection that ends without one."""
    reader, writer = await asyncio.open_connection(*place(node))
    try:
        writer.write(data)
        with suppress(ConnectionError):
            await writer.drain()
        async with asyncio.timeout(60):
            line = await reader.readline()
        return int(line.split()[1]) if line else 0
    except ConnectionError:
        return 0
    finally:
        writer.close()


async def check_serving(node: NodeProcess) -> None:
    async with aiohttp.ClientSession() as http, http.post(node.url + PATH, json=body()) as answer:
        assert (await answer.json())["choices"][0]["finish_reason"] == "length"


async def check_settled(node: NodeProcess, descriptors: int) -> None:
    """Wait until nothing is in work and no more descriptors are open than before."""
    deadline = time.monotonic() + SETTLE_S
    process = psutil.Process(node.pid)
    async with aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{node.url}/system") as answer:
                states = (await answer.json())["models"]
            busy = [state for state in states if state["active"] or state["waiting"]]
            if not busy and process.num_fds() <= descriptors + 2:  # one is this client's
                return
            assert time.monotonic() < deadline, (busy, process.num_fds(), descriptors)
            await asyncio.sleep(0.1)


async def test_many_and_rude_clients_leave_nothing_behind(node: NodeProcess) -> None:
    await check_serving(node)
    process = psutil.Process(node.pid)
    await asyncio.sleep(0.5)
    descriptors, memory = process.num_fds(), process.memory_info().rss

    rude: list[Callable[[NodeProcess], Awaitable[None]]] = [many_streams, leavers, slow_senders, slow_readers, nonsense]
    for treat in rude:
        await treat(node)
        await check_serving(node)
        await check_settled(node, descriptors)
    assert process.memory_info().rss - memory < MORE_MEMORY
    assert "crashed" not in node.log


async def many_streams(node: NodeProcess) -> None:
    """All at once: each is answered whole, or told to come back."""
    endings: Counter[str] = Counter()
    connector = aiohttp.TCPConnector(limit=0)

    async def one(http: aiohttp.ClientSession) -> None:
        async with http.post(node.url + PATH, json=body(stream=True)) as answer:
            if answer.status == 429:
                assert answer.headers["Retry-After"]
                endings["refused"] += 1
                return
            assert answer.status == 200
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
            endings["whole"] += 1

    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as http:
        await asyncio.gather(*(one(http) for _ in range(STREAMS)))
    assert endings["whole"] >= 256
    assert sum(endings.values()) == STREAMS


async def leavers(node: NodeProcess) -> None:
    """Clients that go away in the middle of an answer, without a word."""

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection(*place(node))
        writer.write(raw_request(json.dumps(body(stream=True, max_tokens=100_000)).encode()))
        if number % 2:
            async with asyncio.timeout(60):
                await reader.readline()
        writer.transport.abort()

    for start in range(0, LEAVERS, 50):
        await asyncio.gather(*(one(number) for number in range(start, start + 50)))


async def slow_senders(node: NodeProcess) -> None:
    """Connections that send half a head, or half a body, and wait."""
    halves = [b"POST /v1/completions HTTP/1.1\r\nHost: loc", raw_request(b'{"model": "ti', "")[:-3]]
    connections = [await asyncio.open_connection(*place(node)) for _ in range(100)]
    for number, (_, writer) in enumerate(connections):
        writer.write(halves[number % 2])
    await check_serving(node)
    for _, writer in connections:
        writer.close()


async def slow_readers(node: NodeProcess) -> None:
    """Clients that ask for much and read nothing."""
    connections = [await asyncio.open_connection(*place(node), limit=1024) for _ in range(8)]
    for _, writer in connections:
        writer.write(raw_request(json.dumps(body(stream=True, max_tokens=4000, n=4)).encode()))
    await check_serving(node)
    for _, writer in connections:
        writer.transport.abort()


async def nonsense(node: NodeProcess) -> None:
    """What is no request gets a status of the 400s, or its connection is closed."""
    deep = b"[" * 10_000 + b"]" * 10_000
    broken = [
        raw_request(json.dumps(body(prompt="x" * (10 << 20))).encode()),
        raw_request(b'{"model": "tiny", "prompt": ' + deep + b"}"),
        raw_request(b'{"model": "tiny", "prompt": "\xff\xfe"}'),
        raw_request(b"{"),
        raw_request(b"5\r\nabc", "Transfer-Encoding: chunked\r\n") + b"\r\nzz\r\n\r\n",
        raw_request(b"zz\r\n{}\r\n", "Transfer-Encoding: chunked\r\n"),
        raw_request(b"{}", "Content-Length: 3\r\n"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    for number, data in enumerate(broken):
        status = await status_of(node, data)
        assert status == 0 or 400 <= status < 500, (number, status)
    together = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
    reader, writer = await asyncio.open_connection(*place(node))
    writer.write(together[:-2] + b"Connection: close\r\n\r\n")
    assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 20
    writer.close()
