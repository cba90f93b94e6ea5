"""Requests to hubs and registries (shell): redirects followed by our own rules, failures as our errors."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from localai.mesh.errors import LocalAIError, Unavailable, UpstreamFailed
from localai.node.sources.plan import Headers
from localai.node.sources.redirects import REDIRECT_STATUSES, carried_headers, next_url
from localai.node.sources.transfer import Attempts, FetchLimits, is_passing, status_error

CONNECT_LIMIT_S = 30.0
ANSWER_LIMIT_S = 300.0
"""Seconds for one small answer, all tries together."""
MAX_ANSWER_BYTES = 32 << 20
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    """A small answer, read to its end. Header names are in lower case."""

    url: str
    """Where it came from, after redirects."""
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body.

        Raises:
            UpstreamFailed: this is no JSON.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            host = urlsplit(self.url).hostname
            message = f"{host} gave an answer that is not JSON. Check its address and any proxy on the way."
            raise UpstreamFailed(message, code="bad_answer", detail=repr(self.body[:200])) from error


def hub_session(user_agent: str, *, trust_env: bool) -> aiohttp.ClientSession:
    """A session for downloads; who makes it closes it. ``trust_env`` takes proxies from the environment."""
    return aiohttp.ClientSession(
        headers={"User-Agent": user_agent},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S),
        trust_env=trust_env,
    )


@asynccontextmanager
async def open_response(
    session: aiohttp.ClientSession, url: str, headers: Headers, limits: FetchLimits
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer at the end of all redirects, its body unread.

    Raises:
        UpstreamFailed: too many redirects, or one that leads where it must not.
        aiohttp.ClientError, TimeoutError, ConnectionError: as the network says; see :func:`connection_error`.
    """
    at = url
    for _hop in range(limits.redirects + 1):
        async with asyncio.timeout(limits.idle_s):
            carried = {"Accept-Encoding": "identity", **carried_headers(headers, url, at)}
            response = await session.get(URL(at, encoded=True), headers=carried, allow_redirects=False)
        async with response:
            if response.status not in REDIRECT_STATUSES:
                yield response
                return
            at = next_url(at, response.headers.get("Location", ""))
    host = urlsplit(url).hostname
    message = f"{host} sends the download on more than {limits.redirects} times. Use another source."
    raise UpstreamFailed(message, code="bad_redirect", detail=at[:500])


async def read_answer(
    session: aiohttp.ClientSession,
    url: str,
    headers: Headers,
    limits: FetchLimits,
    *,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> Answer:
    """A small answer, whatever its status; failures that may pass are tried again.

    Raises:
        LocalAIError: no answer, or one that is too long.
    """
    attempts = Attempts(limits)
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            while True:
                try:
                    answer = await _read_once(session, url, headers, limits, max_bytes)
                    if not is_passing(answer.status):
                        return answer
                    error = status_error(answer.status, answer.url, answer.headers, time.time())
                except (aiohttp.ClientError, TimeoutError, ConnectionError) as cause:
                    error = connection_error(cause, url)
                wait_s = attempts.wait_s(0, error) if may_pass(error) else None
                if wait_s is None:
                    raise error
                await asyncio.sleep(wait_s)
    except TimeoutError as cause:
        raise connection_error(cause, url) from cause


async def read_json(session: aiohttp.ClientSession, url: str, headers: Headers, limits: FetchLimits) -> Answer:
    """As :func:`read_answer`, but only a success.

    Raises:
        LocalAIError: anything else.
    """
    answer = await read_answer(session, url, (("Accept", "application/json"), *headers), limits)
    check_success(answer)
    return answer


def check_success(answer: Answer) -> None:
    """Pass an answer with status 200.

    Raises:
        LocalAIError: any other status.
    """
    if answer.status != 200:
        raise status_error(answer.status, answer.url, answer.headers, time.time())


async def _read_once(
    session: aiohttp.ClientSession, url: str, headers: Headers, limits: FetchLimits, max_bytes: int
) -> Answer:
    async with open_response(session, url, headers, limits) as response:
        body = bytearray()
        while chunk := await read_chunk(response, limits):
            body += chunk
            if len(body) > max_bytes:
                host = urlsplit(url).hostname
                message = f"{host} gave an answer of more than {max_bytes} bytes where a short one belongs. Check it."
                raise UpstreamFailed(message, code="bad_answer")
        return Answer(str(response.url), response.status, lowered_headers(response), bytes(body))


async def read_chunk(response: aiohttp.ClientResponse, limits: FetchLimits) -> bytes:
    """Some bytes of the body, as they come; empty at its end.

    Raises:
        TimeoutError: nothing came for ``limits.idle_s``.
        aiohttp.ClientError: the connection broke.
    """
    async with asyncio.timeout(limits.idle_s):
        return await response.content.read(_CHUNK_BYTES)


def lowered_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Headers with lower-case names."""
    return {name.lower(): value for name, value in response.headers.items()}


def connection_error(error: Exception, url: str) -> LocalAIError:
    """The error for a connection that failed or broke."""
    host = urlsplit(url).hostname
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch):
        message = f"{host} has a certificate that is not trusted. Check the clock and any proxy on the way."
        return Unavailable(message, code="bad_certificate", detail=repr(error))
    if isinstance(error, aiohttp.InvalidURL):
        message = f"The address {url[:200]!r} cannot be fetched. Correct it."
        return UpstreamFailed(message, code="invalid_uri", detail=repr(error))
    if isinstance(error, TimeoutError):
        message = f"{host} stopped answering. Check the network and try again."
    elif isinstance(error, aiohttp.ClientConnectorError):
        message = f"{host} cannot be reached. Check the network and the proxy settings, and try again."
    else:
        message = f"The connection to {host} broke. Check the network and try again."
    return Unavailable(message, code="offline", detail=repr(error))


def may_pass(error: LocalAIError) -> bool:
    """True for errors after which another try makes sense."""
    return error.code in ("offline", "source_busy", "source_unavailable")
