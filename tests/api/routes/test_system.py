from __future__ import annotations

from typing import Any

from localai.mesh.errors import ModelLoadFailed
from localai.node.catalog import Catalog
from localai.node.model_config import ModelConfig
from localai.node.testing.fake_worker import FakeWorker

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


async def test_probes(serve: Any) -> None:
    async with serve(catalog=None) as server:
        async with server.http.get(server.url + "/healthz") as response:
            assert (response.status, await response.read()) == (200, b"")
        status, body = await server.get("/readyz")
        assert (status, body) == (503, {"status": "starting", "reason": "startup preload in progress"})
        server.dispatch.open(Catalog((ModelConfig("m", "m.gguf"),)))
        async with server.http.get(server.url + "/readyz") as response:
            assert (response.status, await response.read()) == (200, b"")
        await server.dispatch.aclose(0.0)
        status, body = await server.get("/readyz")
        assert (status, body["reason"]) == (503, "shutting down")


async def test_version(serve: Any) -> None:
    async with serve() as server:
        _, body = await server.get("/version")
        assert body["version"]


async def test_the_system_tells_of_idle_and_loaded_models(serve: Any) -> None:
    async with serve() as server:
        _, before = await server.get("/system")
        assert before["loaded_models"] == []
        assert before["backends"] == ["llama-cpp"]
        assert [(model["id"], model["state"]) for model in before["models"]] == [("m", "idle"), ("org/other", "idle")]
        await server.post("/v1/chat/completions", CHAT)
        _, after = await server.get("/system")
        assert after["loaded_models"] == [{"id": "m", "backend": "llama-cpp"}]
        assert (after["models"][0]["state"], after["models"][0]["slots"]) == ("ready", 2)


async def test_the_system_tells_what_is_wrong_with_a_model(serve: Any) -> None:
    async with serve(lambda: FakeWorker(load_error=ModelLoadFailed("Not a model."))) as server:
        await server.post("/v1/chat/completions", CHAT)
        _, body = await server.get("/system")
        assert body["models"][0]["problem"] == "Not a model."


async def test_backends_are_those_that_are_installed(serve: Any) -> None:
    async with serve(catalog=Catalog((ModelConfig("w", "w.bin", backend="whisper"),))) as server:
        _, body = await server.get("/system")
        assert (body["backends"], body["loaded_models"]) == (["llama-cpp"], [])
        assert body["models"][0]["backend"] == "whisper"
    async with serve(catalog=Catalog(()), entry_only=True) as server:
        _, body = await server.get("/system")
        assert body["backends"] == []
