"""Fetching over real sockets: what is connected to, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from localai.mesh.errors import InvalidRequest, LocalAIError, TooLarge
from localai.node.fetch_rules import Media, parse_networks
from localai.node.media_fetch import MediaLimits, fetch_media

HERE = parse_networks(("127.0.0.1",))
OPEN = MediaLimits(max_bytes=100_000, total_s=10.0, redirects=2, networks=HERE)


@asynccontextmanager
async def site() -> AsyncIterator[tuple[str, list[str]]]:
    """A web site, and the paths that were asked for."""
    asked: list[str] = []

    async def answer(http: web.Request) -> web.StreamResponse:
        asked.append(http.path)
        assert http.headers["Accept-Encoding"] == "identity"
        match http.path:
            case "/image":
                return web.Response(body=b"\x89PNG", content_type="image/png")
            case "/hop":
                raise web.HTTPFound("/image")
            case "/loop":
                raise web.HTTPFound("/loop")
            case "/inside":
                raise web.HTTPFound(f"http://127.0.0.2:{http.url.port}/image")
            case "/file":
                raise web.HTTPFound("file:///etc/passwd")
            case "/nowhere":
                return web.Response(status=302)
            case "/announced":
                return web.Response(body=b"x" * 100_001)
            case "/endless":
                response = web.StreamResponse()
                await response.prepare(http)
                while True:
                    await response.write(b"x" * 10_000)
            case "/slow":
                response = web.StreamResponse()
                await response.prepare(http)
                await asyncio.Event().wait()
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


async def error_of(url: str, limits: MediaLimits = OPEN) -> LocalAIError:
    with pytest.raises(LocalAIError) as caught:
        await fetch_media(url, limits)
    return caught.value


async def test_a_picture_also_after_a_redirect_and_inline() -> None:
    async with site() as (host, _):
        for path in ("image", "hop"):
            assert await fetch_media(f"http://{host}/{path}", OPEN) == Media("image/png", b"\x89PNG")
    assert await fetch_media("data:image/png;base64,iVBORw==", OPEN) == Media("image/png", b"\x89PNG")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0"])
async def test_this_machine_is_not_reached_however_it_is_written(host: str) -> None:
    async with site() as (place, asked):
        error = await error_of(f"http://{host}:{place.partition(':')[2]}/image", MediaLimits())
        assert isinstance(error, InvalidRequest)
        assert error.code in {"media_not_allowed", "media_unreachable"}  # some spellings are no names to the library
        assert not asked


async def test_a_redirect_into_a_private_network_is_not_followed() -> None:
    async with site() as (host, asked):
        error = await error_of(f"http://{host}/inside")
        assert error.code == "media_not_allowed"
        assert asked == ["/inside"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [("loop", "too many redirects"), ("file", "redirects to"), ("nowhere", "redirects to"), ("none", "status 404")],
)
async def test_what_leads_nowhere(path: str, reason: str) -> None:
    async with site() as (host, _):
        error = await error_of(f"http://{host}/{path}")
        assert error.code == "media_unreachable"
        assert reason in error.message


@pytest.mark.parametrize("path", ["announced", "endless"])
async def test_too_much(path: str) -> None:
    async with site() as (host, _):
        assert isinstance(await error_of(f"http://{host}/{path}"), TooLarge)


async def test_too_slow() -> None:
    async with site() as (host, _):
        error = await error_of(f"http://{host}/slow", MediaLimits(total_s=0.2, networks=HERE))
        assert "longer than 0.2 s" in error.message


async def test_nobody_there_and_no_address_of_the_web() -> None:
    assert (await error_of("http://127.0.0.1:1/x")).code == "media_unreachable"
    for url in ("file:///etc/passwd", "http://exämple/", "http://user:pw@127.0.0.1/"):
        assert (await error_of(url)).code == "invalid_media_url"
