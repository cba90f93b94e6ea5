"""Fetching images and sounds that a request names by URL (shell).

The address is checked where the socket is made, after the name was looked up and after every redirect, so that what
was checked is what is connected to.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from localai.mesh.errors import InvalidRequest, LocalAIError
from localai.node.fetch_rules import (
    Media,
    Network,
    check_media_url,
    is_allowed_address,
    media_too_large,
    parse_data_url,
)
from localai.node.sources.redirects import REDIRECT_STATUSES, next_url

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What one fetch may take: bytes, seconds in all, redirects; ``networks`` are allowed beside public addresses."""

    max_bytes: int = 20_000_000
    total_s: float = 30.0
    redirects: int = 5
    networks: tuple[Network, ...] = ()


async def fetch_media(url: str, limits: MediaLimits) -> Media:
    """What an ``http:``, ``https:`` or ``data:`` URL holds.

    Raises:
        InvalidRequest: it cannot be fetched, or not from this node.
        TooLarge: it is longer than allowed.
    """
    if (inline := parse_data_url(url, limits.max_bytes)) is not None:
        return inline
    refused: list[str] = []
    connector = aiohttp.TCPConnector(socket_factory=_checked_sockets(limits, refused), force_close=True)
    try:
        async with (
            asyncio.timeout(limits.total_s),
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
            ) as session,
        ):
            return await _follow(session, url, limits)
    except TimeoutError:
        raise _unreachable(url, f"it takes longer than {limits.total_s:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if refused:
            message = "The address leads into a private network, from which this node fetches nothing for clients."
            advice = "Its owner can allow it with --allow-media-from."
            raise InvalidRequest(f"{message} {advice}", code="media_not_allowed", detail=repr(refused)) from error
        raise _unreachable(url, "there is no answer", repr(error)) from error


async def _follow(session: aiohttp.ClientSession, url: str, limits: MediaLimits) -> Media:
    for _ in range(limits.redirects + 1):
        check_media_url(url)
        async with session.get(URL(url), allow_redirects=False) as response:
            location = response.headers.get("Location", "")
            if response.status in REDIRECT_STATUSES:
                url = _next(url, location)
                continue
            if response.status != 200:
                raise _unreachable(url, f"the answer has status {response.status}")
            return Media(_content_type(response), await _read(response, limits.max_bytes))
    raise _unreachable(url, "there are too many redirects")


def _next(url: str, location: str) -> str:
    try:
        return next_url(url, location)
    except LocalAIError as error:
        raise _unreachable(url, "it redirects to where nothing can be fetched", error.detail) from error


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    if (response.content_length or 0) > max_bytes:
        raise media_too_large(max_bytes)
    data = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        data += chunk
        if len(data) > max_bytes:
            raise media_too_large(max_bytes)
    return bytes(data)


def _content_type(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()[:100]


def _checked_sockets(limits: MediaLimits, refused: list[str]) -> Callable[[Any], socket.socket]:
    """Makes sockets for allowed addresses only, and takes down the others."""

    def make(place: Any) -> socket.socket:
        family, kind, protocol, _name, where = place
        address = str(where[0])
        if not is_allowed_address(address, limits.networks):
            refused.append(address)
            raise PermissionError(f"{address} is not allowed")
        return socket.socket(family, kind, protocol)

    return make


def _unreachable(url: str, reason: str, detail: str = "") -> InvalidRequest:
    host = URL(url).host if url.isascii() else ""
    return InvalidRequest(
        f"Media from '{host}' cannot be fetched: {reason}. Check the URL.",
        code="media_unreachable",
        detail=detail[:500],
    )
