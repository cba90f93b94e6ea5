"""Which node answered: said to clients on this machine and to those with a key, and to others when asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from localai.api.route_headers import (
    LOCAL_ONLY_HEADER,
    NODE_HEADER,
    ROUTE_HEADER,
    is_local_only,
    keep_route,
    render_route,
    route_headers,
)
from localai.api.state import SETTINGS
from localai.mesh.errors import InvalidRequest, ModelLoadFailed
from localai.mesh.ids import short_id
from localai.mesh.secrets import Secret
from localai.mesh.testing.fake_link import FakeSwarm
from localai.node.dispatch import Route
from localai.node.option_values import Address
from localai.node.peers.peers import Peers
from localai.node.peers.session_frames import PROTOCOL
from localai.node.settings import Settings
from localai.node.testing.fake_node import QUICK, FakeNode, fake_node
from localai.node.testing.fake_worker import FakeWorker

ROUTE = Route("abcd1234", is_local=False, candidates=2, expected_s=1.234, attempt=1)


def request_from(remote: str | None, **settings: Any) -> web.Request:
    app = web.Application()
    app[SETTINGS] = Settings(Address("127.0.0.1", 0), Path("models"), Path("data"), **settings)
    request = make_mocked_request("POST", "/v1/chat/completions", app=app)
    return request if remote is None else request.clone(remote=remote)


@pytest.mark.parametrize(
    ("remote", "settings", "shown"),
    [
        ("127.0.0.1", {}, True),
        ("127.8.8.8", {}, True),
        ("::1", {}, True),
        ("::ffff:127.0.0.1", {}, True),
        ("192.168.1.5", {}, False),
        ("::ffff:192.168.1.5", {}, False),
        ("2001:db8::1", {}, False),
        ("not an address", {}, False),
        ("", {}, False),
        (None, {}, False),
        ("192.168.1.5", {"api_keys": (Secret("key"),)}, True),
        ("192.168.1.5", {"show_route": True}, True),
    ],
)
def test_who_is_told(remote: str | None, settings: dict[str, Any], shown: bool) -> None:
    request = request_from(remote, **settings)
    keep_route(request)(ROUTE)
    expected = {NODE_HEADER: "abcd1234", ROUTE_HEADER: "peer; expected=1.23s; candidates=2; attempt=1"}
    assert route_headers(request) == (expected if shown else {})


def test_the_last_try_counts() -> None:
    request = request_from("127.0.0.1")
    keep_route(request)(ROUTE)
    keep_route(request)(Route("wxyz9876", is_local=True, candidates=1, expected_s=0.0, attempt=2))
    assert route_headers(request) == {
        NODE_HEADER: "wxyz9876",
        ROUTE_HEADER: "local; expected=0.00s; candidates=1; attempt=2",
    }


def test_nothing_routed_and_nobody_else_is_nothing_to_say() -> None:
    request = request_from("127.0.0.1")
    assert route_headers(request) == {}
    keep_route(request)(Route("", is_local=True, candidates=1, expected_s=0.0, attempt=1))
    assert route_headers(request) == {}


def test_a_route_in_words() -> None:
    assert render_route(ROUTE) == "peer; expected=1.23s; candidates=2; attempt=1"


def chat(model: str = "far", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}


@asynccontextmanager
async def in_swarm(
    serve: Any, make_far: Callable[[], FakeWorker] = FakeWorker, **settings: Any
) -> AsyncIterator[tuple[Any, FakeNode]]:
    """A server that has joined a swarm, and the other node of it, which has a model ``far``."""
    swarm = FakeSwarm()
    async with serve(**settings) as server, fake_node(swarm, 2, ["far"], make_far) as far:
        peers = Peers(swarm.link(1, (PROTOCOL,)), server.dispatch, server.dispatch.record, "fake 1", QUICK)
        server.dispatch.connect(peers)
        while "far" not in peers.models():
            await peers.wait_changed()
        yield server, far


async def test_whole_answers_and_streams_say_who_answered(serve: Any) -> None:
    async with in_swarm(serve) as (server, far):
        own = short_id(server.dispatch.peers.peer_id)
        for model, node, kind in (("far", short_id(far.peer_id), "peer; "), ("m", own, "local; ")):
            for stream in (False, True):
                async with server.http.post(
                    f"{server.url}/v1/chat/completions", json=chat(model, stream=stream)
                ) as response:
                    assert response.status == 200
                    assert b"hello" in await response.read() or stream
                    assert response.headers[NODE_HEADER] == node
                    assert response.headers[ROUTE_HEADER].startswith(kind)
                    assert response.headers[ROUTE_HEADER].endswith("; candidates=1; attempt=1")


async def test_answers_of_a_node_that_is_alone_say_nothing(serve: Any) -> None:
    async with serve() as server, server.http.post(f"{server.url}/v1/chat/completions", json=chat("m")) as response:
        assert response.status == 200
        assert NODE_HEADER not in response.headers
        assert ROUTE_HEADER not in response.headers


async def test_failures_keep_their_shape_and_say_who_failed(serve: Any) -> None:
    broken = ModelLoadFailed("The file is broken.")
    for stream in (False, True):
        async with (
            in_swarm(serve, lambda: FakeWorker(load_error=broken)) as (server, far),
            server.http.post(f"{server.url}/v1/chat/completions", json=chat(stream=stream)) as response,
        ):
            body = await response.json()
            assert (response.status, body["error"]["code"]) == (500, "model_load_failed")
            assert body["error"]["type"] == "server_error"
            assert body["error"]["message"] == "The file is broken."
            assert response.headers[NODE_HEADER] == short_id(far.peer_id)


async def test_a_model_that_nobody_has_is_the_same_error_as_alone(serve: Any) -> None:
    async with in_swarm(serve) as (server, _):
        for stream in (False, True):
            status, body = await server.post("/v1/chat/completions", chat("nothing", stream=stream))
            assert status == 400
            assert (body["error"]["code"], body["error"]["param"]) == ("model_not_found", "model")
            assert body["error"]["type"] == "invalid_request_error"


async def test_other_paths_say_nothing(serve: Any) -> None:
    async with in_swarm(serve) as (server, _), server.http.get(f"{server.url}/v1/models") as response:
        assert NODE_HEADER not in response.headers


async def test_a_request_without_a_key_is_told_nothing(serve: Any) -> None:
    async with in_swarm(serve, api_keys=(Secret("key"),)) as (server, far):
        path = f"{server.url}/v1/chat/completions"
        async with server.http.post(path, json=chat()) as response:
            assert response.status == 401
            assert NODE_HEADER not in response.headers
        async with server.http.post(path, json=chat(), headers={"Authorization": "Bearer key"}) as response:
            assert response.status == 200
            assert response.headers[NODE_HEADER] == short_id(far.peer_id)


@pytest.mark.parametrize(("value", "expected"), [("true", True), (" YES ", True), ("1", True), ("false", False)])
def test_a_request_may_stay_here(value: str, expected: bool) -> None:
    assert is_local_only({LOCAL_ONLY_HEADER: value}) is expected
    assert is_local_only({}) is False


def test_a_wish_that_cannot_be_read_is_not_ignored() -> None:
    with pytest.raises(InvalidRequest, match="Send 'true' or 'false'"):
        is_local_only({LOCAL_ONLY_HEADER: "ture"})
