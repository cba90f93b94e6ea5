from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest

from localai.api.routes.tokens import DETOKENIZE_PATHS, TOKENIZE_PATHS
from localai.node.features import Feature
from localai.node.inference import DetokenizeRequest, TokenizeRequest
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.frames import Ask


async def test_there_and_back_on_every_path(serve: Any) -> None:
    async with serve() as server:
        for there, back in zip(TOKENIZE_PATHS, DETOKENIZE_PATHS, strict=True):
            for slash in ("", "/"):
                status, tokens = await server.post(there + slash, {"model": "m", "content": "hü"})
                assert (status, tokens) == (200, {"tokens": list("hü".encode())})
                assert await server.post(back + slash, {"model": "m", **tokens}) == (200, {"content": "hü"})
        assert await server.post("/v1/tokenize", {"model": "m"}) == (200, {"tokens": []})
        assert await server.post("/v1/detokenize", {"model": "m"}) == (200, {"content": ""})


async def test_a_request_may_have_to_stay_here(serve: Any) -> None:
    async with serve() as server:
        here = {"headers": {"X-LocalAI-Local-Only": "yes"}}
        await server.post("/v1/tokenize", {"content": "a"}, **here)
        await server.post("/v1/detokenize", {"tokens": [97]}, **here)
        asked = [frame.request for frame in server.workers[0].sent if isinstance(frame, Ask)]
        assert [type(request) for request in asked] == [TokenizeRequest, DetokenizeRequest]
        assert all(request.local_only for request in asked)


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("tokenize", {"content": 1}, 400, "invalid_type", "content"),
        ("tokenize", {"model": "gpt-9", "content": "a"}, 400, "model_not_found", "model"),
        ("detokenize", {"tokens": "a"}, 400, "invalid_type", "tokens"),
        ("detokenize", {"tokens": [1.5]}, 400, "invalid_type", "tokens[0]"),
        ("detokenize", {"tokens": [-1]}, 400, "invalid_request", "tokens[0]"),
        ("detokenize", {"tokens": [99999]}, 400, "invalid_request", "tokens"),
        ("detokenize", {"model": "gpt-9"}, 400, "model_not_found", "model"),
    ],
)
async def test_errors(serve: Any, path: str, body: Any, status: int, code: str, param: str) -> None:
    async with serve() as server:
        answered, error = await server.post(f"/v1/{path}", body)
        assert (answered, error["error"]["code"], error["error"]["param"]) == (status, code, param)


async def test_a_text_that_is_too_long(serve: Any) -> None:
    async with serve() as server:
        body = BytesIO(json.dumps({"content": "a" * 2_000_000}).encode())
        async with server.http.post(server.url + "/v1/tokenize", data=body) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (413, "request_too_large")


async def test_a_backend_that_cannot_do_it_says_so(serve: Any) -> None:
    async with serve(lambda: FakeWorker(features=frozenset({Feature.GENERATE}))) as server:
        for path in ("tokenize", "detokenize"):
            status, error = await server.post(f"/v1/{path}", {})
            assert (status, error["error"]["code"]) == (501, "unsupported_feature")
