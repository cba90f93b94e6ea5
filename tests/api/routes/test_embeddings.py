"""Embeddings over HTTP, with bare requests and with the official client."""

from __future__ import annotations

import base64
from array import array
from typing import Any

import openai
import pytest

from localai.api.routes.embeddings import PATHS
from localai.node.catalog import Catalog
from localai.node.features import Feature
from localai.node.inference import EmbedRequest
from localai.node.model_config import ModelConfig
from localai.node.testing.fake_results import DIMENSIONS, fake_vector
from localai.node.testing.fake_worker import FakeWorker
from localai.node.workers.frames import Ask


def vector(text: bytes, dimensions: int | None = None) -> list[float]:
    return list(array("f", fake_vector(text, dimensions)))


@pytest.mark.parametrize("path", PATHS)
async def test_every_path(serve: Any, path: str) -> None:
    async with serve() as server:
        status, answer = await server.post(path.replace("{model}", "m"), {"input": "ab"})
        assert status == 200
        assert (answer["object"], answer["model"]) == ("list", "m")
        assert answer["data"] == [{"object": "embedding", "index": 0, "embedding": vector(b"ab")}]
        assert answer["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


async def test_mixed_inputs_keep_their_order(serve: Any) -> None:
    async with serve() as server:
        _, answer = await server.post("/v1/embeddings", {"input": ["a", [98, 99], ["d", "e"], "f"]})
        texts = [b"a", b"bc", b"d", b"e", b"f"]
        assert [item["index"] for item in answer["data"]] == list(range(5))
        assert [item["embedding"] for item in answer["data"]] == [vector(text) for text in texts]


async def test_a_model_for_it_is_chosen_and_a_conversation_can_be_embedded(serve: Any) -> None:
    models = (ModelConfig("a", "a.gguf"), ModelConfig("e", "e.gguf", embeddings=True))
    async with serve(catalog=Catalog(models)) as server:
        body = {"messages": [{"role": "user", "content": "hi"}]}
        _, answer = await server.post("/v1/embeddings", body, headers={"X-LocalAI-Local-Only": "true"})
        assert answer["model"] == "e"
        assert answer["data"][0]["embedding"] == vector(b"user: hi\n")
        [request] = [frame.request for frame in server.workers[0].sent if isinstance(frame, Ask)]
        assert isinstance(request, EmbedRequest)
        assert request.local_only


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({}, 400, "invalid_request", "input"),
        ({"input": 5}, 400, "invalid_type", "input"),
        ({"input": "a", "model": "none"}, 400, "model_not_found", "model"),
        ({"input": "a", "pooling": "mean"}, 501, "unsupported_field", "pooling"),
        ({"input": [900]}, 400, "invalid_request", "tokens"),
    ],
)
async def test_errors(serve: Any, body: dict[str, Any], status: int, code: str, param: str) -> None:
    async with serve() as server:
        found, answer = await server.post("/v1/embeddings", body)
        error = answer["error"]
        assert (found, error["code"], error["param"]) == (status, code, param)


async def test_a_backend_without_them_says_501(serve: Any) -> None:
    def generating() -> FakeWorker:
        return FakeWorker(features=frozenset({Feature.GENERATE}))

    async with serve(generating) as server:
        status, answer = await server.post("/v1/embeddings", {"input": "a"})
        assert (status, answer["error"]["code"]) == (501, "unsupported_feature")


async def test_the_official_client(serve: Any) -> None:
    async with (
        serve() as server,
        openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0, timeout=20) as ai,
    ):
        plain = await ai.embeddings.create(model="m", input=["a", "b"])  # it asks for base64 by itself
        assert [item.embedding for item in plain.data] == [vector(b"a"), vector(b"b")]
        assert plain.usage.total_tokens == 2
        floats = await ai.embeddings.create(model="m", input=[[97], [98]], encoding_format="float")
        assert [item.embedding for item in floats.data] == [vector(b"a"), vector(b"b")]
        packed = await ai.embeddings.create(model="m", input=[97, 98], encoding_format="base64", dimensions=4)
        raw = packed.data[0].embedding
        assert isinstance(raw, str)
        assert list(array("f", base64.b64decode(raw))) == vector(b"ab", 4)
        assert len(vector(b"ab")) == DIMENSIONS
