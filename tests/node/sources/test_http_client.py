"""Small answers, redirects, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace

import aiohttp
import pytest

from localai.mesh.errors import LocalAIError, NotFound, RateLimited, Unavailable, UpstreamFailed
from localai.mesh.secrets import Secret
from localai.node.sources.http_client import connection_error, may_pass, open_response, read_answer, read_json
from localai.node.sources.plan import Headers
from localai.node.sources.testing import StubServer, answer, cut, redirect, stalled
from localai.node.sources.transfer import FetchLimits

SECRET: Headers = (("Authorization", Secret("Bearer t")), ("X-Plain", "p"))


async def test_json(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
    url = server.route("/a%20b", answer(200, '{"a": 1}', Link="<x>"))
    got = await read_json(session, url, SECRET, limits)
    assert (got.json(), got.headers["link"], got.url) == ({"a": 1}, "<x>", url)
    sent = server.seen[0].headers
    assert (sent["authorization"], sent["accept"], sent["accept-encoding"]) == (
        "Bearer t",
        "application/json",
        "identity",
    )
    assert sent["user-agent"] == "localai-mesh/test"


async def test_what_is_no_json(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
    for body in ("<html>", b"\xff", "[" * 100_000):
        got = await read_json(session, server.route("/", answer(200, body)), (), limits)
        with pytest.raises(UpstreamFailed, match=r"^127\.0\.0\.1 gave an answer that is not JSON"):
            got.json()


async def test_a_long_answer_is_not_read(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits
) -> None:
    with pytest.raises(UpstreamFailed, match="more than 10 bytes"):
        await read_answer(session, server.route("/", answer(200, "x" * 11)), (), limits, max_bytes=10)


async def test_statuses(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
    url = server.route("/", answer(404))
    assert (await read_answer(session, url, (), limits)).status == 404
    with pytest.raises(NotFound):
        await read_json(session, url, (), limits)


async def test_secrets_do_not_follow_to_another_host(
    server: StubServer, other_server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits
) -> None:
    there = other_server.route("/there?signed=a%2Bb", redirect(f"{server.url}/back"))
    server.route("/back", answer(200, "ok"))
    url = server.route("/here", redirect("/same"))
    server.route("/same", redirect(there, 307))
    assert (await read_answer(session, url, SECRET, limits)).body == b"ok"
    assert [seen.headers.get("authorization") for seen in server.seen] == ["Bearer t"] * 3
    assert other_server.seen[0].path == "/there?signed=a%2Bb"
    assert "authorization" not in other_server.seen[0].headers
    assert other_server.seen[0].headers["x-plain"] == "p"


async def test_redirects_end(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
    url = server.route("/", redirect("/"))
    with pytest.raises(UpstreamFailed, match="sends the download on more than 10 times"):
        await read_answer(session, url, (), limits)
    assert len(server.seen) == 11
    with pytest.raises(UpstreamFailed, match="to an address that cannot be fetched"):
        await read_answer(session, server.route("/", redirect("file:///etc/passwd")), (), limits)


async def test_failures_that_pass(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
    url = server.route("/", answer(500), answer(429, Retry_After="0"), cut(b"abc", 1), answer(200, "ok"))
    assert (await read_answer(session, url, (), limits)).body == b"ok"
    assert len(server.seen) == 4


async def test_failures_that_stay(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
    with pytest.raises(Unavailable, match="status 503"):
        await read_answer(session, server.route("/", answer(503)), (), limits)
    assert len(server.seen) == limits.tries
    with pytest.raises(RateLimited) as caught:
        await read_answer(session, server.route("/", answer(429, Retry_After="3600")), (), limits)
    assert caught.value.retry_after_s == 3600
    with pytest.raises(Unavailable, match=r"^127\.0\.0\.1 cannot be reached"):
        await read_answer(session, "http://127.0.0.1:1/", (), limits)


async def test_silence(server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits) -> None:
    limits = replace(limits, idle_s=0.05, tries=2)
    url = server.route("/", stalled(b"abc", 1, asyncio.Event()))
    with pytest.raises(Unavailable, match="stopped answering"):
        await read_answer(session, url, (), limits)
    assert len(server.seen) == 2


async def test_the_body_is_left_to_the_caller(
    server: StubServer, session: aiohttp.ClientSession, limits: FetchLimits
) -> None:
    async with open_response(session, server.route("/", answer(200, "abc")), (), limits) as response:
        assert await response.content.readexactly(1) == b"a"


@pytest.mark.parametrize(
    ("error", "code", "passes"),
    [
        (TimeoutError(), "offline", True),
        (aiohttp.ServerDisconnectedError(), "offline", True),
        (ConnectionResetError(), "offline", True),
        (aiohttp.InvalidURL("x"), "invalid_uri", False),
        (aiohttp.ClientConnectorSSLError(None, ssl.SSLError()), "bad_certificate", False),
    ],
)
def test_what_broke(error: Exception, code: str, passes: bool) -> None:
    found: LocalAIError = connection_error(error, "https://h/x")
    assert (found.code, may_pass(found)) == (code, passes)
