from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest

from localai.api.routes.rerank import RERANK_PATHS
from localai.node.catalog import Catalog
from localai.node.features import Feature
from localai.node.model_config import ModelConfig
from localai.node.testing.fake_worker import FakeWorker

ASK = {"query": "red fish", "documents": ["blue sky", {"text": "red fish"}, "red sky"]}


@pytest.mark.parametrize("path", RERANK_PATHS)
async def test_on_every_path(serve: Any, path: str) -> None:
    async with serve() as server:
        for variant in (path, path + "/"):
            status, answer = await server.post(variant, {"model": "m", "top_n": 2, **ASK})
            assert status == 200
            assert answer["model"] == "m"
            assert answer["results"] == [
                {"index": 1, "relevance_score": 1.0, "document": {"text": "red fish"}},
                {"index": 2, "relevance_score": 0.5, "document": {"text": "red sky"}},
            ]
            assert answer["usage"] == {"total_tokens": 47, "prompt_tokens": 47}


async def test_a_request_without_a_model_means_the_first_reranker(serve: Any) -> None:
    models = (ModelConfig("a", "a.gguf"), ModelConfig("b", "b.gguf", reranking=True))
    async with serve(catalog=Catalog(models)) as server:
        assert (await server.post("/v1/rerank", ASK))[1]["model"] == "b"


async def test_no_documents_give_no_results_but_a_list(serve: Any) -> None:
    async with serve() as server:
        status, answer = await server.post("/v1/rerank", {"query": "q", "documents": []})
        assert (status, answer["results"]) == (200, [])


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({**ASK, "top_n": 0}, 422, "top_n_too_small", "top_n"),
        ({**ASK, "top_n": "two"}, 400, "invalid_type", "top_n"),
        ({**ASK, "model": "gpt-9"}, 400, "model_not_found", "model"),
        ({"documents": []}, 400, "missing_field", "query"),
        ({"query": "q"}, 400, "missing_field", "documents"),
        ({"query": "q", "documents": [{}]}, 400, "missing_field", "documents[0].text"),
        ({"query": "q", "documents": [1]}, 400, "invalid_type", "documents[0]"),
        ({"query": "q", "documents": "text"}, 400, "invalid_type", "documents"),
    ],
)
async def test_errors(serve: Any, body: Any, status: int, code: str, param: str) -> None:
    async with serve() as server:
        answered, error = await server.post("/v1/rerank", body)
        error = error["error"]
        assert (answered, error["code"], error["param"]) == (status, code, param)
        assert error["type"] == "invalid_request_error"


async def test_documents_that_are_too_long_together(serve: Any) -> None:
    async with serve() as server:
        body = BytesIO(json.dumps({"query": "q", "documents": ["d" * 600_000] * 2}).encode())
        async with server.http.post(server.url + "/v1/rerank", data=body) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (413, "request_too_large")


async def test_a_backend_that_cannot_do_it_says_so(serve: Any) -> None:
    async with serve(lambda: FakeWorker(features=frozenset({Feature.GENERATE}))) as server:
        status, error = await server.post("/v1/rerank", ASK)
        assert (status, error["error"]["code"]) == (501, "unsupported_feature")
        assert "reranking" in error["error"]["message"]
