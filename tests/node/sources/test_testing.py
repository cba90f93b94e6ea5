"""The stub server does what file servers do."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from localai.node.sources.testing import StubServer, answer, chunked, content, cut, redirect, stalled


async def _get(session: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.get(url, headers=named, allow_redirects=False) as response:
        return response.status, await response.read(), {key.lower(): value for key, value in response.headers.items()}


async def test_ranges(server: StubServer, session: aiohttp.ClientSession) -> None:
    url = server.route("/m", content(b"0123456789", etag='"1"', last_modified="then"))
    assert (await _get(session, url))[:2] == (200, b"0123456789")
    status, body, headers = await _get(session, url, Range="bytes=4-", If_Range='"1"')
    assert (status, body, headers["content-range"]) == (206, b"456789", "bytes 4-9/10")
    assert (await _get(session, url, Range="bytes=4-", If_Range="then"))[0] == 206
    assert (await _get(session, url, Range="bytes=4-", If_Range='"2"'))[:2] == (200, b"0123456789")
    status, _, headers = await _get(session, url, Range="bytes=10-")
    assert (status, headers["content-range"]) == (416, "bytes */10")
    assert server.seen[1].headers["range"] == "bytes=4-"


async def test_other_answers(server: StubServer, session: aiohttp.ClientSession) -> None:
    url = server.route("/m", redirect("/x"), answer(503, "busy", Retry_After="1"), chunked(b"abc", X_A="b"))
    status, _, headers = await _get(session, url)
    assert (status, headers["location"]) == (302, "/x")
    status, body, headers = await _get(session, url)
    assert (status, body, headers["retry-after"]) == (503, b"busy", "1")
    for _ in range(2):
        status, body, headers = await _get(session, url)
        assert (status, body, headers["transfer-encoding"], headers["x-a"]) == (200, b"abc", "chunked", "b")
    assert (await _get(session, server.url + "/unknown"))[0] == 404


async def test_broken_and_slow_bodies(server: StubServer, session: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await _get(session, server.route("/cut", cut(b"0123456789", 4)))
    until = asyncio.Event()
    async with session.get(server.route("/slow", stalled(b"0123456789", 4, until))) as response:
        assert await response.content.readexactly(4) == b"0123"
        until.set()
        assert await response.read() == b"456789"
