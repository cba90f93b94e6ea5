from __future__ import annotations

import asyncio
from typing import Any

import pytest

KEYS = [[0.1, 0.0], [0.0, 1.0], [1.0, 1.0]]
FILL = {"store": "s", "keys": KEYS, "values": ["x", "y", "both"]}


async def change(server: Any, path: str, body: Any) -> tuple[int, bytes]:
    async with server.http.post(server.url + path, json=body) as response:
        return response.status, await response.read()


async def test_set_get_find_and_delete(serve: Any) -> None:
    async with serve() as server:
        assert await change(server, "/stores/set", FILL) == (200, b"")
        asked = {"store": "s", "keys": [KEYS[2], [9, 9], KEYS[0]]}
        assert await server.post("/stores/get", asked) == (
            200,
            {"keys": [KEYS[2], KEYS[0]], "values": ["both", "x"]},
        )
        status, found = await server.post("/stores/find/", {"store": "s", "key": [3, 1], "topk": 2})
        assert (status, found["keys"], found["values"]) == (200, [KEYS[0], KEYS[2]], ["x", "both"])
        assert found["similarities"] == pytest.approx([3 / 10**0.5, 4 / 20**0.5])
        assert await change(server, "/stores/delete", {"store": "s", "keys": [KEYS[2]]}) == (200, b"")
        assert (await server.post("/stores/get", asked))[1]["values"] == ["x"]


async def test_stores_are_apart_and_one_may_have_no_name(serve: Any) -> None:
    async with serve() as server:
        await change(server, "/stores/set", FILL)
        await change(server, "/stores/set", {"keys": [[1, 2, 3]], "values": ["other"]})
        assert (await server.post("/stores/find", {"key": [1, 2, 3], "topk": 5}))[1]["values"] == ["other"]
        empty: dict[str, list[Any]] = {"keys": [], "values": []}
        assert await server.post("/stores/get", {"store": "none", "keys": KEYS}) == (200, empty)
        assert await server.post("/stores/find", {"store": "none", "key": [1], "topk": 5}) == (
            200,
            {**empty, "similarities": []},
        )


async def test_many_at_once_come_one_after_the_other(serve: Any) -> None:
    async with serve() as server:
        bodies = [{"keys": [[number, 1]], "values": [str(number)]} for number in range(50)]
        answers = await asyncio.gather(*(change(server, "/stores/set", body) for body in bodies))
        assert set(answers) == {(200, b"")}
        _, found = await server.post("/stores/find", {"key": [1, 0], "topk": 100})
        assert sorted(found["values"], key=int) == [str(number) for number in range(50)]


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("set", {"store": "s"}, 400, "invalid_request", "keys"),
        ("set", {"store": "s", "keys": [[1, 2]], "values": []}, 400, "invalid_request", "values"),
        ("set", {"store": "s", "keys": [[1]], "values": ["x"]}, 400, "key_length", "keys"),
        ("set", {"store": "s", "keys": "x"}, 400, "invalid_type", "keys"),
        ("set", {"store": "t", "keys": [[0] * 70_000], "values": ["x"]}, 413, "key_too_long", "keys"),
        ("get", {"store": "s", "keys": [[1]]}, 400, "key_length", "keys"),
        ("find", {"store": "s", "key": [1, 2]}, 400, "missing_field", "topk"),
        ("find", {"store": "s", "key": [1, 2], "topk": 0}, 400, "invalid_request", "topk"),
        ("find", {"store": "s", "key": [1], "topk": 1}, 400, "key_length", "key"),
        ("find", {"store": "s", "key": [1, 2], "topk": 1, "backend": "other"}, 501, "unsupported_field", "backend"),
        ("delete", {"store": "s"}, 400, "invalid_request", "keys"),
    ],
)
async def test_mistakes_are_the_callers(serve: Any, path: str, body: Any, status: int, code: str, param: str) -> None:
    async with serve() as server:
        await change(server, "/stores/set", {**FILL, "backend": "local-store"})
        answered, error = await server.post(f"/stores/{path}", body)
        assert (answered, error["error"]["code"], error["error"]["param"]) == (status, code, param)


async def test_a_malformed_body_is_400(serve: Any) -> None:
    async with serve() as server, server.http.post(server.url + "/stores/set", data=b"{bad") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_json")
