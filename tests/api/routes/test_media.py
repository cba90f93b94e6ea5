"""Pictures that requests name by URL, from a site on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from localai.api.routes import media as media_module
from localai.api.routes.media import MAX_URLS
from localai.node.features import EVERYTHING, Feature
from localai.node.fetch_rules import parse_networks
from localai.node.inference import ChatInput, GenerateRequest, Media
from localai.node.settings import ProtectionSettings
from localai.node.workers.frames import Ask

OPEN = ProtectionSettings(media_networks=parse_networks(("127.0.0.1",)))


async def at_once() -> None:
    """For sites that nobody holds up."""


@asynccontextmanager
async def site(visit: Callable[[], Awaitable[object]] = at_once) -> AsyncIterator[str]:
    """A site that sends each path as a picture, once ``visit`` has returned."""

    async def answer(http: web.Request) -> web.Response:
        await visit()
        return web.Response(body=http.path.encode(), content_type="image/png")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def body(*urls: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": u}} for u in urls]}]}


async def test_what_is_at_a_url_is_part_of_the_message(serve: Any) -> None:
    async with serve(protection=OPEN) as server, site() as url:
        asked = body(f"{url}/a", "data:,b", f"{url}/a", f"{url}/c")
        status, _ = await server.post("/v1/chat/completions", asked)
        assert status == 200
        [request] = [frame.request for frame in server.workers[0].sent if isinstance(frame, Ask)]
        assert isinstance(request, GenerateRequest)
        assert isinstance(request.prompt, ChatInput)
        found = [Media("image", data) for data in (b"/a", b"b", b"/a", b"/c")]
        assert list(request.prompt.messages[0].media) == found


async def test_private_addresses_are_not_fetched_for_clients(serve: Any) -> None:
    async with serve() as server, site() as url:
        for address in (f"{url}/a", "http://localhost/a", "ftp://example.org/a", "file:///etc/passwd", "/a"):
            status, answer = await server.post("/v1/chat/completions", body("data:,x", address))
            assert status == 400, address
            assert answer["error"]["code"] in ("media_not_allowed", "media_unreachable", "invalid_media_url")
            assert answer["error"]["param"] == "messages[0].content[1]"
        assert not server.workers


async def test_only_so_many_are_fetched(serve: Any) -> None:
    async with serve(protection=OPEN) as server, site() as url:
        asked = body(*(f"{url}/{number}" for number in range(MAX_URLS + 1)))
        status, answer = await server.post("/v1/chat/completions", asked)
        assert (status, answer["error"]["param"]) == (400, "messages")


def anthropic_body(url: str) -> dict[str, Any]:
    block = {"type": "image", "source": {"type": "url", "url": url}}
    return {"max_tokens": 5, "messages": [{"role": "user", "content": [block]}]}


@pytest.mark.parametrize(
    ("path", "make", "feature"),
    [
        ("/v1/chat/completions", body, Feature.MEDIA),
        ("/v1/messages", anthropic_body, Feature.MEDIA),
        ("/v1/embeddings", body, Feature.EMBED),
    ],
)
async def test_nothing_is_fetched_for_what_cannot_be_answered(
    serve: Any, path: str, make: Callable[[str], dict[str, Any]], feature: Feature
) -> None:
    visits = 0

    async def count() -> None:
        nonlocal visits
        visits += 1

    async with serve(protection=OPEN, features=EVERYTHING - {feature}) as server, site(count) as url:
        asked = make(f"{url}/a")
        assert (await server.post(path, {**asked, "model": "nobody"}))[0] == 400
        assert (await server.post(path, {**asked, "model": "m"}))[0] == 501
        assert (await server.post(path, asked))[0] == 501
    assert visits == 0


async def test_only_so_many_requests_fetch_at_once(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_module, "MAX_FETCHING", 1)
    visited, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        visited.set()
        await go.wait()

    async with serve(protection=OPEN) as server, site(hold) as url:
        asked = body(f"{url}/a")
        first = asyncio.create_task(server.post("/v1/chat/completions", asked))
        await visited.wait()
        with monkeypatch.context() as patience:
            patience.setattr(media_module, "WAIT_S", 0.01)
            status, answer = await server.post("/v1/chat/completions", asked)
            assert (status, answer["error"]["code"]) == (429, "media_queue_full")
        second = asyncio.create_task(server.post("/v1/chat/completions", asked))
        go.set()
        assert [(await each)[0] for each in (first, second)] == [200, 200]
