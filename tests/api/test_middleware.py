"""What surrounds every handler, over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web

from localai.mesh.secrets import Secret

KEYS = (Secret("good-key"), Secret("other-key"))
REFUSED = {
    "error": {
        "code": 401,
        "message": "An authentication key is required",
        "type": "invalid_request_error",
    }
}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Authorization": "Bearer good-key"}},
        {"headers": {"Authorization": "other-key"}},
        {"headers": {"x-api-key": "good-key"}},
        {"headers": {"xi-api-key": "good-key"}},
        {"cookies": {"token": "good-key"}},
    ],
)
async def test_a_key_is_taken_in_every_documented_place(serve: Any, options: dict[str, Any]) -> None:
    async with serve(api_keys=KEYS) as server:
        status, _ = await server.get("/v1/models", **options)
        assert status == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer bad"}, {"x-api-key": "good-key-not"}])
@pytest.mark.parametrize("path", ["/v1/models", "/system", "/version", "/unknown", "/v1/chat/completions"])
async def test_without_a_right_key_nothing_is_told(serve: Any, headers: dict[str, str], path: str) -> None:
    async with serve(api_keys=KEYS) as server, server.http.get(server.url + path, headers=headers) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert await response.json() == REFUSED


async def test_probes_and_the_page_need_no_key_but_only_for_reading(serve: Any) -> None:
    async with serve(api_keys=KEYS) as server:
        for path in ("/healthz", "/readyz", "/", "/static/status.css", "/healthz/"):
            async with server.http.get(server.url + path) as response:
                assert response.status == 200, path
        async with server.http.post(server.url + "/healthz") as response:
            assert response.status == 401


async def test_a_body_that_announces_too_much_is_refused_at_once(serve: Any) -> None:
    async with serve() as server:
        async with server.http.post(server.url + "/v1/chat/completions", data=BytesIO(b"y" * 20_000_000)) as response:
            status, body = response.status, await response.json()
        assert status == 413
        assert body["error"]["code"] == "request_too_large"
        assert "--upload-limit" in body["error"]["message"]


async def test_a_body_that_turns_out_too_large_is_refused_too(serve: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(25):
            yield b"x" * 1000

    async with (
        serve(upload_limit_bytes=20_000) as server,
        server.http.post(server.url + "/v1/chat/completions", data=pieces()) as response,
    ):
        assert response.status == 413
        assert (await response.json())["error"]["code"] == "request_too_large"


async def test_no_limit_is_no_limit(serve: Any) -> None:
    async with serve(upload_limit_bytes=0) as server:
        data = BytesIO(json.dumps({**CHAT, "x": "y" * 3_000_000}).encode())
        async with server.http.post(server.url + "/v1/chat/completions", data=data) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("host", "status"), [("localhost", 200), ("127.0.0.1:1", 200), ("my.box", 200), ("evil.com", 403), ("", 403)]
)
async def test_only_our_names_are_answered(serve: Any, host: str, status: int) -> None:
    async with serve(allowed_hosts=("my.box",)) as server:
        got, body = await server.get("/v1/models", headers={"Host": host})
        assert got == status
        if status == 403:
            assert body["error"]["code"] == "host_not_allowed"


async def test_every_response_has_an_id_and_the_security_headers_and_no_cors(serve: Any) -> None:
    async with serve() as server:
        for method, path, body in (
            ("GET", "/v1/models", b""),
            ("GET", "/unknown", b""),
            ("DELETE", "/v1/models", b""),
            ("POST", "/v1/chat/completions", json.dumps({**CHAT, "stream": True}).encode()),
            ("POST", "/v1/chat/completions", b"y" * 20_000_000),
        ):
            headers = {"X-Correlation-ID": "my-id", "Origin": "http://elsewhere.example"}
            data = BytesIO(body)
            async with server.http.request(method, server.url + path, data=data, headers=headers) as response:
                await response.read()
                assert response.headers["X-Correlation-ID"] == "my-id"
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert "default-src 'self'" in response.headers["Content-Security-Policy"]
                assert "Access-Control-Allow-Origin" not in response.headers
                assert "Server" not in response.headers


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é"])
async def test_an_id_that_could_confuse_a_log_is_replaced(serve: Any, given: str) -> None:
    async with (
        serve() as server,
        server.http.get(server.url + "/healthz", headers={"X-Correlation-ID": given}) as response,
    ):
        assert response.headers["X-Correlation-ID"] != given
        assert len(response.headers["X-Correlation-ID"]) == 36


async def test_an_unknown_path_and_a_wrong_method(serve: Any) -> None:
    async with serve() as server:
        status, body = await server.get("/v2/nothing")
        assert (status, body["error"]["code"]) == (404, "unknown_path")
        async with server.http.delete(server.url + "/v1/models") as response:
            assert response.status == 405
            assert response.headers["Allow"] == "GET, HEAD"
            assert (await response.json())["error"]["code"] == "method_not_allowed"


async def test_a_crash_inside_says_nothing_about_the_inside(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve() as server:

        def crash() -> None:
            raise ZeroDivisionError("/secret/path")

        monkeypatch.setattr(server.dispatch, "models", crash)
        status, body = await server.get("/system")
        assert status == 500
        assert body["error"]["code"] == "internal_error"
        assert "secret" not in str(body)


async def test_a_broken_request_line_is_a_plain_400(serve: Any) -> None:
    async with serve() as server:
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GARBAGE\r\n\r\n")
        assert b"400" in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def exchange_bytes(server: Any, data: bytes) -> tuple[bytes, bytes]:
    """Head and body that a bare connection gets for some bytes; the server must close it."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head, body


async def test_a_host_that_is_no_text_is_refused_like_any_other(serve: Any) -> None:
    async with serve() as server:
        head, body = await exchange_bytes(server, b"GET / HTTP/1.1\r\nHost: evil\xff.com\r\nConnection: close\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403")
        assert json.loads(body)["error"]["code"] == "host_not_allowed"


async def test_a_request_without_host(serve: Any) -> None:
    async with serve() as server:
        head, body = await exchange_bytes(server, b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b" 403 " in head.splitlines()[0]
        assert "Host" in json.loads(body)["error"]["message"]


async def test_a_body_that_is_not_what_its_encoding_says_is_the_clients_mistake(serve: Any) -> None:
    async with (
        serve() as server,
        server.http.post(
            server.url + "/v1/chat/completions", data=b"garbage", headers={"Content-Encoding": "gzip"}, compress=None
        ) as response,
    ):
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "unreadable_body"


async def test_a_packed_body_is_counted_unpacked(serve: Any) -> None:
    async with serve(upload_limit_bytes=20_000) as server:
        for size, status in ((1000, 200), (100_000, 413)):
            data = gzip.compress(json.dumps({**CHAT, "x": "y" * size}).encode())
            headers = {"Content-Encoding": "gzip"}
            async with server.http.post(server.url + "/v1/chat/completions", data=data, headers=headers) as response:
                assert response.status == status
                await response.read()


async def test_other_refusals_of_the_http_library_have_our_shape(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve() as server:

        def refuse() -> None:
            raise web.HTTPConflict(reason="Not now")

        monkeypatch.setattr(server.dispatch, "models", refuse)
        status, body = await server.get("/system")
        assert (status, body["error"]["message"]) == (409, "Not now")
        status, body = await server.get("/static/")
        assert (status, body["error"]["code"]) == (404, "unknown_path")


async def test_an_expectation_nobody_can_meet_still_has_the_security_headers(serve: Any) -> None:
    async with (
        serve() as server,
        server.http.get(server.url + "/healthz", headers={"Expect": "magic"}, expect100=False) as response,
    ):
        assert response.status == 417
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in response.headers
