"""What surrounds every handler, over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import pytest
import structlog
from aiohttp import web
from structlog.testing import capture_logs

from localai.api.errors import KEY_REQUIRED, OPAQUE
from localai.mesh.secrets import Secret
from localai.node.settings import ProtectionSettings

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


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer good-key"}, {"x-api-key": "good-key"}])
async def test_a_key_in_a_header_is_right_under_any_name(serve: Any, headers: dict[str, str]) -> None:
    async with serve(api_keys=KEYS) as server:
        status, _ = await server.get("/v1/models", headers={**headers, "Host": "localai:8080"})
        assert status == 200


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        (KEYS, {"cookies": {"token": "good-key"}}),  # a browser sends it for whatever page
        (KEYS, {"headers": {"x-api-key": "bad"}}),
        ((), {"headers": {"x-api-key": ""}}),
        ((), {"headers": {"x-api-key": "good-key"}}),
    ],
)
async def test_nothing_else_proves_that_a_name_is_right(serve: Any, keys: Any, options: dict[str, Any]) -> None:
    async with serve(api_keys=keys) as server:
        headers = {**options.get("headers", {}), "Host": "localai:8080"}
        status, body = await server.get("/v1/models", **{**options, "headers": headers})
        assert (status, body["error"]["code"]) == (403, "host_not_allowed")


async def test_probes_may_use_any_name_or_none(serve: Any) -> None:
    async with serve() as server:
        for path in ("/healthz", "/healthz/", "/readyz", "/readyz/"):
            async with server.http.get(server.url + path, headers={"Host": "localai:8080"}) as response:
                assert response.status == 200, path
        async with server.http.post(server.url + "/healthz", headers={"Host": "localai:8080"}) as response:
            assert response.status == 403
        head, _ = await exchange_bytes(server, b"GET /healthz HTTP/1.0\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize("path", ["/healthz", "/v1/chat/completions", "/unknown"])
async def test_an_unknown_expectation_is_refused_in_our_shape(serve: Any, path: str) -> None:
    async with (
        serve() as server,
        server.http.get(server.url + path, headers={"Expect": "banana", "X-Correlation-ID": "my-id"}) as response,
    ):
        body = await response.json()
        assert response.status == 417
        assert response.headers["X-Correlation-ID"] == "my-id"
        assert body["error"]["code"] == "expectation_failed"


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n"


async def test_who_is_not_let_in_is_never_told_to_send_a_body(serve: Any) -> None:
    async with serve(api_keys=KEYS) as server:
        for more, status in ((b"", b"401"), (b"x-api-key: good-key\r\n", b"413")):
            head, _ = await exchange_bytes(server, HEAD + more + b"Content-Length: 99000000000\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)


async def test_who_is_let_in_is_told_to_send_its_body(serve: Any) -> None:
    async with serve() as server:
        parts = urlsplit(server.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        body = json.dumps(CHAT).encode()
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        async with asyncio.timeout(10):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


async def test_an_old_client_expects_nothing(serve: Any) -> None:
    async with serve() as server:
        head, _ = await exchange_bytes(server, b"GET /healthz HTTP/1.0\r\nExpect: banana\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200 ")


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
        head, body = await exchange_bytes(server, b"GET /version HTTP/1.0\r\n\r\n")
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


SITE = "https://chat.example"
CORS = ProtectionSettings(cors=True, cors_origins=(SITE,))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/unknown", "/models/apply"])
@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}]
)
async def test_a_page_of_another_site_cannot_make_the_node_work(serve: Any, path: str, headers: dict[str, str]) -> None:
    async with serve() as server:
        status, body = await server.post(path, CHAT, headers=headers)
        assert (status, body["error"]["code"]) == (403, "other_site")
        assert not server.workers


async def test_a_key_in_a_cookie_does_not_help_a_page_of_another_site(serve: Any) -> None:
    async with serve(api_keys=KEYS) as server:
        options = {"headers": {"Origin": "https://evil.example"}, "cookies": {"token": "good-key"}}
        status, _ = await server.post("/v1/chat/completions", CHAT, **options)
        assert status == 403
        own = {"headers": {"Origin": server.url}, "cookies": {"token": "good-key"}}
        status, _ = await server.post("/v1/chat/completions", CHAT, **own)
        assert status == 200


async def test_programs_and_the_nodes_own_pages_are_never_affected(serve: Any) -> None:
    async with serve() as server:
        for headers in (
            {},
            {"Origin": server.url},
            {"Sec-Fetch-Site": "same-origin", "Origin": "http://proxy.example"},
        ):
            status, _ = await server.post("/v1/chat/completions", CHAT, headers=headers)
            assert status == 200


async def test_the_check_of_sites_can_be_switched_off(serve: Any) -> None:
    async with serve(protection=ProtectionSettings(checks_sites=False)) as server:
        status, _ = await server.post("/v1/chat/completions", CHAT, headers={"Origin": "https://evil.example"})
        assert status == 200


async def test_an_allowed_site_may_ask_and_read_also_errors_and_streams(serve: Any) -> None:
    async with serve(protection=CORS, api_keys=KEYS) as server:
        asked = {"Origin": SITE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
        async with server.http.options(server.url + "/v1/chat/completions", headers=asked) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == SITE
            assert response.headers["Access-Control-Allow-Headers"] == "x-api-key"
        for headers, expected in (({}, 401), ({"x-api-key": "good-key"}, 200)):
            for stream in (False, True):
                async with server.http.post(
                    server.url + "/v1/chat/completions",
                    json={**CHAT, "stream": stream},
                    headers={"Origin": SITE, **headers},
                ) as response:
                    await response.read()
                    assert response.status == expected
                    assert response.headers["Access-Control-Allow-Origin"] == SITE
                    assert response.headers["Vary"] == "Origin"


async def test_other_sites_learn_nothing_from_their_question(serve: Any) -> None:
    async with serve(protection=CORS) as server:
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        async with server.http.options(server.url + "/v1/models", headers=asked) as response:
            assert response.status == 204
            assert not [name for name in response.headers if name.startswith("Access-Control")]
        async with server.http.options(server.url + "/", headers={**asked, "Host": "evil.example"}) as response:
            assert response.status == 403
    async with serve() as server:
        asked = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
        async with server.http.options(server.url + "/v1/models", headers=asked) as response:
            assert response.status == 405


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"type": "error", "error": {"type": "authentication_error", "message": KEY_REQUIRED}}),
        ("/api/chat", {"error": KEY_REQUIRED}),
        ("/v1/text-to-speech/x", {"detail": {"status": "invalid_api_key", "message": KEY_REQUIRED}}),
        ("/v1/embeddings", REFUSED),
    ],
)
async def test_a_refusal_has_the_shape_of_its_path(serve: Any, path: str, body: Any) -> None:
    async with serve(api_keys=KEYS) as server, server.http.post(server.url + path, json={}) as response:
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert await response.json() == body


async def test_exempt_routes_are_read_without_a_key_and_nothing_else(serve: Any) -> None:
    protection = ProtectionSettings(exempt_routes=("^/v1/models", "^/unknown"))
    async with serve(protection=protection, api_keys=KEYS) as server:
        for method, path, expected in (
            ("GET", "/v1/models", 200),
            ("GET", "/v1/models/m", 200),
            ("HEAD", "/v1/models", 401),
            ("POST", "/v1/models", 401),
            ("GET", "/system", 401),
            ("GET", "/unknown", 401),
        ):
            async with server.http.request(method, server.url + path) as response:
                assert (path, response.status) == (path, expected)


async def test_opaque_errors_leave_the_status_and_the_log(serve: Any) -> None:
    protection = ProtectionSettings(opaque_errors=True, machine_tag="box-7")
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with serve(protection=protection) as server:
            wrong = {**CHAT, "model": "nobody-has-it"}
            async with server.http.post(server.url + "/v1/chat/completions", json=wrong) as response:
                text = await response.text()
                request_id = response.headers["X-Correlation-ID"]
                assert response.headers["Machine-Tag"] == "box-7"
            assert response.status == 400
            assert "nobody" not in text
            assert OPAQUE in text
            async with server.http.delete(server.url + "/v1/models") as response:
                assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
                assert "DELETE" not in await response.text()
    assert [entry for entry in logs if entry.get("request_id") == request_id]


async def test_a_packed_form_and_a_packed_body_without_limit_are_refused(serve: Any) -> None:
    async with serve(upload_limit_bytes=0) as server:
        for encoding, expected in (("gzip", 415), ("identity", 400)):
            headers = {"Content-Encoding": encoding}
            async with server.http.post(
                server.url + "/v1/chat/completions", data=b"[]", headers=headers, compress=None
            ) as response:
                assert response.status == expected
    async with serve() as server:
        headers = {"Content-Encoding": "gzip", "Content-Type": "multipart/form-data; boundary=b"}
        async with server.http.post(
            server.url + "/v1/chat/completions", data=b"", headers=headers, compress=None
        ) as response:
            assert response.status == 415


async def test_a_body_nested_too_deeply_is_a_400(serve: Any) -> None:
    async with serve() as server:
        deep = b'{"unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        async with server.http.post(server.url + "/v1/chat/completions", data=BytesIO(deep)) as response:
            assert response.status == 400
            assert (await response.json())["error"]["code"] == "invalid_json"
