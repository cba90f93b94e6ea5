from __future__ import annotations

from typing import Any


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


async def test_a_model_that_is_not_there(serve: Any) -> None:
    async with serve() as server:
        status, body = await server.get("/v1/models/none")
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        assert "GET /v1/models" in body["error"]["message"]
