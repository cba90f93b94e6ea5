from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from localai.mesh.testing.fake_link import FakeSwarm
from localai.node.catalog import Catalog
from localai.node.model_config import ModelConfig
from localai.node.peers.peers import Peers
from localai.node.peers.session_frames import PROTOCOL
from localai.node.testing.fake_node import QUICK, fake_node


async def test_all_models_and_each_of_them(serve: Any) -> None:
    async with serve() as server:
        for path in ("/v1/models", "/models", "/v1/models/"):
            status, body = await server.get(path)
            assert status == 200
            assert body["object"] == "list"
            assert [model["id"] for model in body["data"]] == ["m", "org/other"]
            assert all(model["created"] > 1_700_000_000 and model["owned_by"] for model in body["data"])
        for name in ("m", "org/other", "m/"):
            status, body = await server.get(f"/v1/models/{name}")
            assert (status, body["id"]) == (200, name.rstrip("/"))


async def test_a_filter_and_files_of_definitions(serve: Any) -> None:
    models = (
        ModelConfig("bare", "bare.gguf"),
        ModelConfig("llama", "llama-3.gguf", source="llama.yaml"),
        ModelConfig("other", "other.gguf", source="other.yaml"),
    )
    async with serve(catalog=Catalog(models)) as server:
        for query, found in (
            ("", ["bare", "llama", "other"]),
            ("?excludeConfigured=true", ["bare", "llama", "other"]),
            ("?excludeConfigured=false", ["bare", "llama", "llama-3.gguf", "other", "other.gguf"]),
            ("?filter=l{2}am.", ["llama"]),
            ("?filter=(?i)LLAMA&excludeConfigured=0", ["llama", "llama-3.gguf"]),
            ("?filter=none", []),
        ):
            status, body = await server.get(f"/v1/models{query}")
            assert (status, [model["id"] for model in body["data"]]) == (200, found)
        status, body = await server.post("/v1/completions", {"model": "llama-3.gguf", "prompt": "abc"})
        assert (status, body["model"]) == (200, "llama-3.gguf")


@pytest.mark.parametrize(
    ("query", "param"),
    [("filter=(", "filter"), ("filter=(a*)*", "filter"), ("excludeConfigured=x", "excludeConfigured")],
)
async def test_a_list_that_cannot_be_made(serve: Any, query: str, param: str) -> None:
    async with serve() as server:
        status, body = await server.get(f"/v1/models?{query}")
        assert (status, body["error"]["type"], body["error"]["param"]) == (400, "invalid_request_error", param)


async def test_the_official_client(serve: Any) -> None:
    async with (
        serve() as server,
        openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0, timeout=20) as ai,
    ):
        assert [model.id async for model in ai.models.list()] == ["m", "org/other"]
        model = await ai.models.retrieve("m")
        assert (model.id, model.owned_by) == ("m", "localai")
        with pytest.raises(openai.NotFoundError):
            await ai.models.retrieve("none")


async def test_the_official_client_of_anthropic(serve: Any) -> None:
    async with serve() as server, anthropic.AsyncAnthropic(base_url=server.url, api_key="k", max_retries=0) as ai:
        found = [model async for model in ai.models.list(limit=1)]
        assert [(model.id, model.type, model.display_name) for model in found] == [
            ("m", "model", "m"),
            ("org/other", "model", "org/other"),
        ]
        assert all(model.created_at.year > 2023 for model in found)
        assert (await ai.models.retrieve("m")) == found[0]
        headers = {"anthropic-version": "2023-06-01"}
        for query, expected in (("", ["m", "org/other", False]), ("?filter=none", [None, None, False])):
            _, body = await server.get(f"/v1/models{query}", headers=headers)
            assert [body["first_id"], body["last_id"], body["has_more"]] == expected


async def test_a_model_that_is_not_there(serve: Any) -> None:
    async with serve() as server:
        status, body = await server.get("/v1/models/none")
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        assert "GET /v1/models" in body["error"]["message"]


async def test_the_models_of_the_swarm_are_listed_too(serve: Any) -> None:
    swarm = FakeSwarm()
    for catalog in (None, Catalog()):
        async with serve(**({} if catalog is None else {"catalog": catalog})) as server:
            peers = Peers(swarm.link(1, (PROTOCOL,)), server.dispatch, server.dispatch.record, "fake 1", QUICK)
            server.dispatch.connect(peers)
            own = [] if catalog is not None else ["m", "org/other"]
            async with fake_node(swarm, 2, ["far/model", "m"]):
                while peers.models() != {"far/model", "m"}:
                    await peers.wait_changed()
                _, body = await server.get("/v1/models")
                assert [model["id"] for model in body["data"]] == sorted({"far/model", "m", *own})
                status, body = await server.get("/v1/models/far/model")
                assert (status, body["id"]) == (200, "far/model")
                status, body = await server.get("/v1/models/none")
                assert (status, body["error"]["code"]) == (404, "model_not_found")
            while peers.models():
                await peers.wait_changed()
            _, body = await server.get("/v1/models")
            assert [model["id"] for model in body["data"]] == own
