"""The Responses API on a real PostgreSQL, Debian's, which this test starts and ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localai.api.routes.responses import STORE
from localai.api.state import DATABASE
from localai.mesh.secrets import Secret

pytestmark = pytest.mark.e2e
DEBIAN = Path("/usr/lib/postgresql")


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs."""
    newest = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(newest[-1]) if newest else str(shutil.which(name))


@pytest.fixture
def postgres() -> Iterator[Secret[str]]:
    """The URL of an empty database. PostgreSQL does not run as root."""
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="localai-pg-", dir="/tmp"))  # short: it holds a socket
    if user is not None:
        shutil.chown(folder, user)

    def run(*command: str) -> None:
        done = subprocess.run(
            command, user=user, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    data = str(folder / "data")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    try:
        run(program("initdb"), "--pgdata", data, "--username", "tester", "--auth", "trust", "--no-sync", "-E", "UTF8")
        log = str(folder / "log")
        run(program("pg_ctl"), "--pgdata", data, "--wait", "--log", log, "--options", options, "start")
        try:
            yield Secret(f"postgresql+asyncpg://tester@/postgres?host={folder}")
        finally:
            run(program("pg_ctl"), "--pgdata", data, "--wait", "--mode", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


async def test_responses_are_kept_chained_followed_and_forgotten(serve: Any, postgres: Secret[str]) -> None:
    async with serve(database_url=postgres) as server:
        _, first = await server.post("/v1/responses", {"model": "m", "input": "a\u0000b\u2028ö"})
        body = {"model": "m", "input": "in the background", "background": True, "stream": True}
        async with server.http.post(server.url + "/v1/responses", json=body) as response:
            stream = await response.text()
        assert await server.app[STORE].flush()
        assert not server.app[DATABASE].address.path
    async with serve(database_url=postgres) as server:
        path = f"/v1/responses/{first['id']}"
        assert await server.get(path) == (200, first)
        assert first["output"][0]["content"][0]["text"] == "a\u0000b\u2028ö"
        _, second = await server.post(
            "/v1/responses", {"model": "m", "input": "more", "previous_response_id": first["id"]}
        )
        assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
        _, listed = await server.get(f"{path}/input_items")
        assert listed["data"][0]["content"][0]["text"] == "a\u0000b\u2028ö"
        background_id = stream.partition('"id":"')[2].partition('"')[0]
        async with server.http.get(f"{server.url}/v1/responses/{background_id}/events") as response:
            assert await response.text() == stream
        async with server.http.delete(server.url + path) as response:
            assert response.status == 200
        assert (await server.get(path))[0] == 404
        assert (await server.get("/v1/responses/resp_%00"))[0] == 404
        assert await server.app[STORE].unfinished() == []
        await server.app[STORE].sweep()
        assert (await server.get(f"/v1/responses/{second['id']}"))[0] == 200


async def test_an_unfinished_response_is_begun_anew(serve: Any, postgres: Secret[str]) -> None:
    async with serve(database_url=postgres, catalog=None) as server:
        assert (await server.get("/v1/responses/resp_" + "0" * 32))[0] == 404
    async with serve(database_url=postgres) as server:
        _, made = await server.post("/v1/responses", {"model": "m", "input": "x" * 200, "background": True})
        await server.app[STORE].flush()
    async with serve(database_url=postgres) as server:
        found = made
        while found["status"] in ("queued", "in_progress"):
            _, found = await server.get(f"/v1/responses/{made['id']}")
        assert (found["status"], found["output"][0]["content"][0]["text"]) == ("completed", "x" * 200)
