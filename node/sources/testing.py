"""A server on loopback for tests of downloads (shell): each path has its handler, well-behaved or not."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
_RANGE = re.compile(r"bytes=(\d+)-")


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that came. Header names are in lower case."""

    path: str
    headers: dict[str, str]


@dataclass
class StubServer:
    """A running server."""

    url: str
    """Without a slash at the end."""
    seen: list[Seen] = field(default_factory=list)
    _handlers: dict[str, list[Handler]] = field(default_factory=dict)

    def route(self, path: str, *handlers: Handler) -> str:
        """Answer requests for a path with one handler after the other, then always the last; get its address."""
        self._handlers[path] = list(handlers)
        return self.url + path

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Note a request and answer it."""
        path = request.raw_path
        self.seen.append(Seen(path, {name.lower(): value for name, value in request.headers.items()}))
        handlers = self._handlers.get(path) or self._handlers.get(path.partition("?")[0])
        if not handlers:
            return web.Response(status=404)
        handler = handlers.pop(0) if len(handlers) > 1 else handlers[0]
        return await handler(request)


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate for loopback, and who trusts it."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def loopback_tls(folder: Path) -> Tls:
    """A new certificate for 127.0.0.1; its files go to ``folder``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localai-mesh test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "tls.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return Tls(server, ssl.create_default_context(cafile=path))


@asynccontextmanager
async def stub_server(host: str = "127.0.0.1", tls: Tls | None = None) -> AsyncIterator[StubServer]:
    """A server that runs until the block ends."""
    server = StubServer("")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, 0, ssl_context=tls.server if tls else None).start()
    server.url = f"{'https' if tls else 'http'}://{host}:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def content(data: bytes, etag: str = '"1"', last_modified: str = "") -> Handler:
    """A file server as it should be: ``Range``, ``If-Range``, 416."""

    async def handler(request: web.Request) -> web.StreamResponse:
        headers = {"Accept-Ranges": "bytes"}
        headers |= {"ETag": etag} if etag else {}
        headers |= {"Last-Modified": last_modified} if last_modified else {}
        asked = _RANGE.fullmatch(request.headers.get("Range", ""))
        if asked is None or request.headers.get("If-Range", etag) not in (etag, last_modified):
            return web.Response(body=data, headers=headers)
        start = int(asked[1])
        if start >= len(data):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return web.Response(status=206, body=data[start:], headers=headers)

    return handler


def answer(status: int = 200, body: bytes | str = b"", **headers: str) -> Handler:
    """Always the same answer. Header names are given with underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body.encode() if isinstance(body, str) else body, headers=named)

    return handler


def redirect(location: str, status: int = 302) -> Handler:
    """Sends on to another address."""
    return answer(status, Location=location)


def cut(data: bytes, after: int, etag: str = '"1"') -> Handler:
    """Promises ``data`` whole, and breaks the connection after some bytes of it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Length": str(len(data))} | ({"ETag": etag} if etag else {})
        response = await _begun(request, headers, data[:after])
        if request.transport is not None:
            request.transport.close()
        return response

    return handler


def stalled(data: bytes, after: int, until: asyncio.Event, etag: str = '"1"') -> Handler:
    """Promises ``data`` whole, and says nothing more after some bytes of it until the event comes."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await _begun(request, {"Content-Length": str(len(data)), "ETag": etag}, data[:after])
        await until.wait()
        await response.write(data[after:])
        return response

    return handler


def chunked(data: bytes, **headers: str) -> Handler:
    """Sends ``data`` without saying how long it is."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await _begun(request, {name.replace("_", "-"): value for name, value in headers.items()}, data)
        await response.write_eof()
        return response

    return handler


async def _begun(request: web.Request, headers: dict[str, str], data: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    if "Content-Length" not in headers:
        response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(data)
    return response
