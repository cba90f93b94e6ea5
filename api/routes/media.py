"""Pictures and sounds that a request names by URL (shell)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from aiohttp import web

from localai.api.state import SETTINGS
from localai.mesh.errors import InvalidRequest, LocalAIError
from localai.node.media_fetch import MediaLimits, fetch_media

MAX_URLS = 16


async def fetch_urls(http: web.Request, urls: Mapping[str, str]) -> dict[str, bytes]:
    """What is at each of ``urls``, whose values say where in the body they stand. All share the limits of one fetch.

    Raises:
        InvalidRequest: there are too many, or one cannot be fetched, or not from this node; ``param`` says which.
        TooLarge: they are longer than allowed.
    """
    if len(urls) > MAX_URLS:
        message = f"The request names {len(urls)} addresses; at most {MAX_URLS} are fetched. Send data: URLs."
        raise InvalidRequest(message, param="messages")
    limits = MediaLimits(networks=http.app[SETTINGS].protection.media_networks)
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
