"""Clients that send too slowly, too much, nonsense, or from everywhere at once, over bare sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localai.api import server as server_module
from localai.api.app import make_app, make_runner
from localai.api.connection_rules import ConnectionLimits, Door, Refusal
from localai.api.server import GuardedRunner, GuardedServer, default_limits
from localai.mesh.secrets import Secret
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch
from localai.node.model_config import ModelConfig
from localai.node.option_values import Address
from localai.node.settings import ProtectionSettings, Settings
from localai.node.supervisor import ModelSupervisor

QUICK = ConnectionLimits(headers_s=0.3, window_s=0.3, idle_s=5.0)
"""A client has a third of a second; the fastest way to see patience end."""


class Bare:
    """A bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one answer with a length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def rest(self) -> bytes:
        """Everything until the server closes; a reset is a way to close."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def closed(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The node runs on uvloop, whose transports differ in small things."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Thousands of connections need not be in a failure's report."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(20))


@asynccontextmanager
async def connect(url: str, **options: Any) -> AsyncIterator[Bare]:
    host, port = url.removeprefix("http://").split(":")
    async with asyncio.timeout(20):
        bare = Bare(*await asyncio.open_connection(host, int(port), **options))
        try:
            yield bare
        finally:
            await bare.closed()


def error_of(body: bytes) -> Any:
    return json.loads(body)["error"]


POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


async def test_headers_that_never_end_are_answered_and_closed(serve: Any) -> None:
    protection = ProtectionSettings(machine_tag="box-7")
    async with serve(limits=QUICK, protection=protection) as server, connect(server.url) as bare:
        await bare.send(b"GET /healthz HTTP/1.1\r\nHost: local")
        status, headers, body = await bare.answer()
        assert status == 408
        assert error_of(body)["code"] == "request_too_slow"
        assert (headers["connection"], headers["machine-tag"]) == ("close", "box-7")
        assert headers["x-content-type-options"] == "nosniff"
        assert await bare.rest() == b""


async def test_a_trickle_of_headers_does_not_help(serve: Any) -> None:
    async with serve(limits=QUICK) as server, connect(server.url) as bare:
        await bare.send(b"GET /healthz HTTP/1.1\r\n")

        async def trickle() -> None:
            while True:
                await bare.send(b"X-A: b\r\n")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        status, _, _ = await bare.answer()
        trickling.cancel()
        assert status == 408


async def test_a_second_request_has_its_time_too(serve: Any) -> None:
    async with serve(limits=QUICK) as server, connect(server.url) as bare:
        await bare.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await bare.answer())[0] == 200
        await bare.send(b"GET /healthz HTT")
        assert (await bare.answer())[0] == 408


async def test_a_connection_that_says_nothing_is_closed_without_a_word(serve: Any) -> None:
    async with serve(limits=QUICK) as server, connect(server.url) as bare:
        assert await bare.rest() == b""


async def test_an_idle_connection_is_closed_after_its_own_time(serve: Any) -> None:
    async with serve(limits=ConnectionLimits(idle_s=0.2)) as server, connect(server.url) as bare:
        await bare.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await bare.answer())[0] == 200
        assert await bare.rest() == b""


async def test_a_body_that_stops_is_a_408_in_the_shape_of_the_path(serve: Any) -> None:
    async with serve(limits=QUICK) as server, connect(server.url) as bare:
        await bare.send(POST + b'Content-Length: 1000\r\n\r\n{"model"')
        status, headers, body = await bare.answer()
        assert (status, error_of(body)["code"]) == (408, "request_too_slow")
        assert headers["x-correlation-id"]
        assert await bare.rest() == b""


async def test_a_body_that_is_fast_enough_may_be_slow(serve: Any) -> None:
    limits = ConnectionLimits(window_s=0.2, bytes_per_s=100.0)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "unknown": "x" * 2000}).encode()
    async with serve(limits=limits) as server, connect(server.url) as bare:
        await bare.send(POST + b"Content-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 200):
            await bare.send(body[start : start + 200])
            await asyncio.sleep(0.05)
        assert (await bare.answer())[0] == 200


def small_app(*, limit: int = 0) -> tuple[web.Application, Settings]:
    """The real application without models, to which a test adds routes."""

    def supervise(config: ModelConfig) -> ModelSupervisor:
        raise AssertionError("nothing is asked")

    settings = Settings(Address("127.0.0.1", 0), Path("models"), Path("data"), upload_limit_bytes=limit)
    return make_app(Dispatch(supervise, Catalog()), settings), settings


@asynccontextmanager
async def running(app: web.Application, limits: ConnectionLimits, *, limit: int = 0) -> AsyncIterator[str]:
    runner = GuardedRunner(app, limits, headers={}, max_body_bytes=limit, shutdown_timeout_s=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_client_that_does_not_read_a_whole_answer_is_cut_off() -> None:
    gone = asyncio.Event()

    async def huge(_http: web.Request) -> web.Response:
        return web.Response(body=b"x" * 30_000_000)

    def watch(_logger: Any, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if entry["event"] == "client_too_slow":
            assert entry["wait"] == "reader"
            gone.set()
        raise structlog.DropEvent

    structlog.configure(processors=[watch])
    app, _ = small_app()
    app.router.add_get("/huge", huge)
    async with running(app, ConnectionLimits(window_s=0.3)) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /huge HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(20):
                await gone.wait()


async def test_a_chunked_form_is_counted_too() -> None:
    async def form(http: web.Request) -> web.Response:
        total = 0
        async for part in await http.multipart():
            assert not isinstance(part, type(None))
            while chunk := await part.read_chunk(8192):  # type: ignore[union-attr]  # no form in the form
                total += len(chunk)
        return web.Response(text=str(total))

    app, _ = small_app(limit=100_000)
    app.router.add_post("/form", form)

    def pieces(count: int) -> list[bytes]:
        head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        return [head, *[b"y" * 10_000] * count, b"\r\n--B--\r\n"]

    head = b"POST /form HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n"
    async with running(app, ConnectionLimits(), limit=100_000) as url:
        for count, expected in ((3, 200), (2000, 413)):
            async with connect(url) as bare:

                async def send(bare: Bare = bare, count: int = count) -> None:
                    await bare.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
                    for piece in pieces(count):
                        await bare.send(b"%x\r\n%s\r\n" % (len(piece), piece))
                    await bare.send(b"0\r\n\r\n")

                sending = asyncio.create_task(send())
                status, _, body = await bare.answer()
                sending.cancel()
                await asyncio.wait({sending})
                assert status == expected
                if expected == 413:
                    assert error_of(body)["code"] == "request_too_large"


async def test_a_small_body_cannot_become_a_huge_one(serve: Any) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    packed = POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with serve(upload_limit_bytes=1_000_000) as server, connect(server.url) as bare:
        await bare.send(packed + bomb)
        assert (await bare.answer())[0] == 413
    async with serve(upload_limit_bytes=0) as server, connect(server.url) as bare:
        await bare.send(packed + bomb)
        status, _, body = await bare.answer()
        assert (status, error_of(body)["code"]) == (415, "unsupported_encoding")


SMUGGLED = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}" + SMUGGLED,
        POST + b"Content-Length: 2, 2\r\n\r\n{}" + SMUGGLED,
        POST + b"Content-Length: +2\r\n\r\n{}" + SMUGGLED,
        POST + b"Content-Length: -1\r\n\r\n{}" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n" + SMUGGLED,
        POST + b"X-A: b\n\n\r\n" + b"\x00" + SMUGGLED,
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX\x00Y: 1\r\n\r\n" + SMUGGLED,
        b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n" + SMUGGLED,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SMUGGLED,
        b"GARBAGE\r\n\r\n" + SMUGGLED,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_one_answer_and_no_second_one(serve: Any, data: bytes) -> None:
    with structlog.testing.capture_logs() as logs:
        async with serve() as server, connect(server.url) as bare:
            await bare.send(data)
            answer = await bare.rest()
    assert answer.count(b"HTTP/1.") == 1
    assert answer.split()[1] == b"400"
    body = answer.partition(b"\r\n\r\n")[2]
    assert error_of(body)["code"] in {"bad_http", "unreadable_body"}
    assert not [entry for entry in logs if entry["log_level"] in ("error", "critical")]


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X" * 10_000 + b": 1\r\n\r\n",
    ],
)
async def test_a_head_that_is_too_long(serve: Any, data: bytes) -> None:
    async with serve() as server, connect(server.url) as bare:
        await bare.send(data)
        status, headers, body = await bare.answer()
        assert (status, error_of(body)["code"]) == (431, "headers_too_large")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-correlation-id"]
        assert await bare.rest() == b""


async def test_too_many_headers(serve: Any) -> None:
    async with serve() as server, connect(server.url) as bare:
        await bare.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 5000 + b"\r\n")
        status, _, body = await bare.answer()
        assert status == 400
        assert error_of(body)["code"] == "bad_http"


async def test_two_hosts_are_one_too_many(serve: Any) -> None:
    async with serve() as server, connect(server.url) as bare:
        await bare.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        status, _, _ = await bare.answer()
        assert status == 400


async def test_thousands_of_connections_are_bounded(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MAX_TURNED_AWAY", 5)
    limits = ConnectionLimits(total=20)
    async with serve(limits=limits) as server:
        host, port = server.url.removeprefix("http://").split(":")
        inside = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
        for _, writer in inside:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for reader, _ in inside:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")

        async def knock() -> bytes:
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
                answer = await reader.read()
                writer.close()
                await writer.wait_closed()
                return answer
            except ConnectionError:
                return b""

        for _ in range(10):
            for answer in await asyncio.gather(*(knock() for _ in range(100))):
                assert answer == b"" or (b" 503 " in answer and b"Retry-After: 5" in answer)
        async with connect(server.url) as bare:
            await bare.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            status, headers, body = await bare.answer()
            assert (status, error_of(body)["code"], headers["retry-after"]) == (503, "node_full", "5")
        for _, writer in inside:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(10):
            while (await server.http.get(server.url + "/healthz")).status != 200:
                pass


class OneTooMany(Door):
    """A door at which every address has all its connections."""

    def enter(self, address: str) -> Refusal | None:
        return "address"


async def test_one_address_with_too_many_connections_gets_a_429() -> None:
    app, _ = small_app()
    runner = GuardedRunner(app, ConnectionLimits(), headers={"X-Tag": "t"}, shutdown_timeout_s=0.1)
    await runner.setup()
    assert isinstance(runner.server, GuardedServer)
    runner.server.door = OneTooMany(ConnectionLimits())
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with connect(f"http://127.0.0.1:{runner.addresses[0][1]}") as bare:
        status, headers, body = await bare.answer()
        assert (status, error_of(body)["code"]) == (429, "too_many_connections")
        assert (headers["retry-after"], headers["x-tag"]) == ("5", "t")
    await runner.cleanup()
    assert runner.server is None


async def test_opaque_errors_also_hide_what_was_wrong_with_the_http(serve: Any) -> None:
    async with serve(protection=ProtectionSettings(opaque_errors=True)) as server, connect(server.url) as bare:
        await bare.send(b"GARBAGE\r\n\r\n")
        status, _, body = await bare.answer()
        assert status == 400
        assert error_of(body)["code"] == "invalid_request"
        assert "HTTP" not in error_of(body)["message"]


GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_a_mistake_while_an_answer_is_sent_ends_the_connection_with_one_line() -> None:
    app, _ = small_app()

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("/secret/path")

    app.on_response_prepare.append(broken)
    with structlog.testing.capture_logs() as logs:
        async with running(app, ConnectionLimits()) as url, connect(url) as bare:
            await bare.send(GET)
            assert await bare.rest() == b""
    assert [entry["log_level"] for entry in logs if entry["event"] == "connection_broken"] == ["warning"]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_mistake_outside_the_application_is_a_500_without_details(begun: bool) -> None:
    @web.middleware
    async def broken(request: web.Request, handler: Any) -> web.StreamResponse:
        if begun:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"some" * 100_000)
        raise ZeroDivisionError(f"/secret/path of {handler}")

    app, _ = small_app()
    app.middlewares.insert(0, broken)
    async with running(app, ConnectionLimits()) as url, connect(url) as bare:
        await bare.send(GET)
        if begun:
            answer = await bare.rest()
            assert (answer.count(b"HTTP/1."), answer.split()[1]) == (1, b"200")
        else:
            status, _, body = await bare.answer()
            assert (status, error_of(body)["code"]) == (500, "internal_error")
            assert b"secret" not in body


async def test_a_client_that_reads_a_long_answer_gets_it_all() -> None:
    async def huge(_http: web.Request) -> web.Response:
        return web.Response(body=b"x" * 10_000_000)

    app, _ = small_app()
    app.router.add_get("/huge", huge)
    async with running(app, QUICK) as url, connect(url) as bare:
        await bare.send(GET.replace(b"/healthz", b"/huge") + GET)
        assert len((await bare.answer())[2]) == 10_000_000
        assert (await bare.answer())[0] == 200


def test_the_limits_leave_files_for_the_rest() -> None:
    assert 16 <= default_limits().total <= 1024


async def test_the_runner_of_a_node_has_all_of_it() -> None:
    _, settings = small_app()

    def supervise(config: ModelConfig) -> ModelSupervisor:
        raise AssertionError("nothing is asked")

    runner = make_runner(Dispatch(supervise, Catalog()), settings)
    await runner.setup()
    assert isinstance(runner.server, GuardedServer)
    assert runner.server.headers["X-Content-Type-Options"] == "nosniff"
    await runner.cleanup()


NAMES = st.sampled_from(
    ["Host", "Content-Length", "Transfer-Encoding", "Content-Encoding", "Content-Type", "Authorization", "Cookie",
     "Origin", "Sec-Fetch-Site", "X-Correlation-ID", "Expect", "Upgrade", "Connection", "Access-Control-Request-Method"]
) | st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=20)  # fmt: skip
VALUES = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=60) | st.sampled_from(
    [
        "localhost",
        "chunked",
        "gzip",
        "0",
        "5",
        "-1",
        "100-continue",
        "websocket",
        "close",
        "application/json",
        "token=x",
    ]
)


def test_any_headers_are_answered_or_closed_and_never_crash() -> None:
    with asyncio.Runner() as loop:
        app, settings_of_app = small_app(limit=1000)
        keys = Settings(settings_of_app.address, Path("models"), Path("data"), api_keys=(Secret("k"),))

        def supervise(config: ModelConfig) -> ModelSupervisor:
            raise AssertionError("nothing is asked")

        app = make_app(Dispatch(supervise, Catalog()), keys)

        async def start() -> GuardedRunner:
            limits = ConnectionLimits(headers_s=0.06, window_s=0.06, idle_s=0.01)
            runner = GuardedRunner(app, limits, headers={}, shutdown_timeout_s=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return runner

        runner = loop.run(start())
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"

        async def ask(data: bytes) -> bytes:
            async with connect(url) as bare:
                await bare.send(data)
                return await bare.rest()

        @settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
        @given(
            st.sampled_from(["GET", "POST", "OPTIONS", "HEAD", "BREW"]),
            st.sampled_from(["/healthz", "/v1/models", "/api/x", "/v1/messages", "*", "http://a/b", "//", "/%00%ff"]),
            st.lists(st.tuples(NAMES, VALUES), max_size=6),
            st.binary(max_size=30),
            st.booleans(),
        )
        def fuzz(method: str, target: str, headers: list[tuple[str, str]], body: bytes, no_host: bool) -> None:
            lines = [
                f"{method} {target} HTTP/1.1",
                *["Host: localhost"][no_host:],
                *(f"{name}: {value}" for name, value in headers),
                "",
                "",
            ]
            with structlog.testing.capture_logs() as logs:
                answer = loop.run(ask("\r\n".join(lines).encode("latin-1") + body))
            assert not answer or answer.startswith(b"HTTP/1.")
            assert b"Traceback" not in answer
            assert not [entry for entry in logs if entry["event"] == "request_crashed"]

        fuzz()
        loop.run(runner.cleanup())
