"""Pictures and sounds that a request names by URL (shell)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import replace

from aiohttp import web

from localai.api.route_headers import is_local_only
from localai.api.routes.answering import missing_model_begun
from localai.api.state import DISPATCH, SETTINGS
from localai.mesh.errors import InvalidRequest, LocalAIError, RateLimited
from localai.node.features import Feature
from localai.node.media_fetch import MediaLimits, fetch_media

MAX_URLS = 16
MAX_FETCHING = 8
"""Requests whose media are being fetched at once; the others wait."""
WAIT_S = 30.0
"""How long."""
_PLACES = web.AppKey("media_places", asyncio.Semaphore)
_NEEDED = frozenset({Feature.MEDIA})


def add_to(app: web.Application) -> None:
    """Make room for fetches."""
    app[_PLACES] = asyncio.Semaphore(MAX_FETCHING)


async def fetch_urls(
    http: web.Request, urls: Mapping[str, str], model: str, needed: Set[Feature] = _NEEDED
) -> dict[str, bytes]:
    """What is at each of ``urls``, whose values say where in the body they stand. All share the limits of one fetch.

    Nothing is fetched for a request that nobody could answer: ``model`` must exist and do what is ``needed``.

    Raises:
        InvalidRequest: there are too many, or one cannot be fetched, or not from this node; ``param`` says which.
        TooLarge: they are longer than allowed.
        RateLimited: too many requests have media fetched.
        LocalAIError: nobody could answer.
    """
    with missing_model_begun(http, model):
        http.app[DISPATCH].check_answerable(model, needed, local_only=is_local_only(http.headers))
    if len(urls) > MAX_URLS:
        message = f"The request names {len(urls)} addresses; at most {MAX_URLS} are fetched. Send data: URLs."
        raise InvalidRequest(message, param=next(iter(urls.values())).partition("[")[0])
    limits = MediaLimits(networks=http.app[SETTINGS].protection.media_networks)
    async with _place(http.app):
        return await _fetch_all(urls, limits)


@asynccontextmanager
async def _place(app: web.Application) -> AsyncIterator[None]:
    places = app[_PLACES]
    try:
        await asyncio.wait_for(places.acquire(), WAIT_S)
    except TimeoutError as error:
        message = "Too many media are being fetched. Try again soon, or send data: URLs."
        raise RateLimited(message, code="media_queue_full", retry_after_s=5.0) from error
    try:
        yield
    finally:
        places.release()


async def _fetch_all(urls: Mapping[str, str], limits: MediaLimits) -> dict[str, bytes]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.total_s
    found: dict[str, bytes] = {}
    for url, path in urls.items():
        try:
            media = await fetch_media(url, replace(limits, total_s=max(0.001, deadline - loop.time())))
        except LocalAIError as error:
            error.param = path
            raise
        limits = replace(limits, max_bytes=limits.max_bytes - len(media.data))
        found[url] = media.data
    return found
