from __future__ import annotations

from typing import Any

from localai.mesh.testing.fake_link import FakeSwarm
from localai.node.catalog import Catalog
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
