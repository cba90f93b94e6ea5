from __future__ import annotations

from typing import Any

from localai.mesh.secrets import Secret


async def test_metrics_are_text_that_prometheus_reads(serve: Any) -> None:
    async with serve() as server:
        await server.get("/version")
        for path in ("/metrics", "/metrics/"):
            async with server.http.get(server.url + path) as response:
                assert response.status == 200
                assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                assert 'api_call_count{method="GET",path="/version"} 1.0' in await response.text()


async def test_they_can_be_switched_off(serve: Any) -> None:
    async with serve(metrics=False) as server:
        status, _ = await server.get("/metrics")
        assert status == 404
        _, document = await server.get("/swagger/doc.json")
        assert "/metrics" not in document["paths"]


async def test_they_need_the_key(serve: Any) -> None:
    async with serve(api_keys=(Secret("key"),)) as server:
        assert (await server.get("/metrics"))[0] == 401
        async with server.http.get(server.url + "/metrics", headers={"x-api-key": "key"}) as response:
            text = await response.text()
            assert response.status == 200
            assert "api_call_count" not in text  # those for the metrics are not counted, refused ones neither
