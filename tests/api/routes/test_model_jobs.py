from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from localai.api.app import make_app
from localai.api.routes.model_jobs import JOBS, begin_autoload, job_body
from localai.mesh.secrets import Secret
from localai.node.catalog import Catalog
from localai.node.dispatch import Dispatch
from localai.node.gallery.job_status import Job
from localai.node.model_config import ModelConfig
from localai.node.option_values import Address
from localai.node.settings import InstallSettings, Settings
from localai.node.sources.testing import stub_server
from localai.node.supervisor import ModelSupervisor


class Client:
    """A node that can install, and who asks it."""

    def __init__(self, url: str, app: web.Application, dispatch: Dispatch, http: aiohttp.ClientSession) -> None:
        self.url, self.app, self.dispatch, self._http = url, app, dispatch, http

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and decoded JSON."""
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        async with self._http.request(method, self.url + path, data=data, headers=headers) as response:
            return response.status, await response.json()


@asynccontextmanager
async def node(folder: Path, *, autoload: bool = False, **more: Any) -> AsyncIterator[Client]:
    def supervise(config: ModelConfig) -> ModelSupervisor:
        raise AssertionError("nothing is loaded")

    (folder / "data").mkdir(exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    (folder / "index.yaml").write_text("- {name: a/b, license: MIT, overrides: {parameters: {model: m.gguf}}}")
    galleries = json.dumps([{"name": "mine", "url": f"file://{folder}/index.yaml"}])
    settings = Settings(
        Address("127.0.0.1", 0),
        folder / "models",
        folder / "data",
        install=InstallSettings(galleries=galleries, autoload=autoload),
        **more,
    )
    dispatch = Dispatch(supervise, Catalog())
    app = make_app(dispatch, settings)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as http:
            yield Client(f"http://127.0.0.1:{runner.addresses[0][1]}", app, dispatch, http)
    finally:
        await dispatch.aclose(0.0)
        await runner.cleanup()


async def test_install_use_delete(tmp_path: Path) -> None:
    async with node(tmp_path) as client:
        status, created = await client.ask("POST", "/models/apply", {"id": "mine@A__b", "name": "x"})
        assert status == 200
        assert created["status"] == f"{client.url}/models/jobs/{created['uuid']}"
        await client.app[JOBS].wait_idle()
        status, job = await client.ask("GET", f"/models/jobs/{created['uuid']}")
        assert (status, job["message"], job["progress"], job["processed"]) == (200, "completed", 100.0, True)
        assert (job["error"], job["gallery_element_name"], job["deletion"]) == (None, "mine@A__b", False)
        assert client.dispatch.model_names() == ["x"]

        status, created = await client.ask("POST", "/models/delete/x", {})
        assert status == 200
        await client.app[JOBS].wait_idle()
        _, jobs = await client.ask("GET", "/models/jobs")
        assert jobs[created["uuid"]]["deletion"]
        assert len(jobs) == 2
        assert client.dispatch.model_names() == []
    async with node(tmp_path) as client:
        assert len((await client.ask("GET", "/models/jobs"))[1]) == 2


async def test_what_there_is(tmp_path: Path) -> None:
    async with node(tmp_path) as client:
        (tmp_path / "models" / "a__b.yaml").write_text("name: a/b")
        status, models = await client.ask("GET", "/models/available")
        assert status == 200
        assert [model["name"] for model in models] == ["smollm2-135m-instruct", "a/b"]
        assert (models[1]["gallery"]["name"], models[1]["license"], models[1]["installed"]) == ("mine", "MIT", True)
        _, galleries = await client.ask("GET", "/models/galleries")
        assert [gallery["name"] for gallery in galleries] == ["localai-mesh", "mine"]


async def test_wishes_that_fail(tmp_path: Path) -> None:
    async with node(tmp_path) as client:
        _, created = await client.ask("POST", "/models/apply", {"id": "nobody"})
        _, local = await client.ask(
            "POST",
            "/models/apply",
            {"name": "y", "config_file": {}, "files": [{"filename": "p", "uri": "file:///etc/passwd"}]},
        )
        await client.app[JOBS].wait_idle()
        _, job = await client.ask("GET", f"/models/jobs/{created['uuid']}")
        assert job["error"].startswith('No model found with name "nobody"')
        assert job["message"] == f"error: {job['error']}"
        _, job = await client.ask("GET", f"/models/jobs/{local['uuid']}")
        assert "of this machine" in job["error"]
        status, body = await client.ask("GET", "/models/jobs/none")
        assert (status, body["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/models/jobs/{}/cancel", "/api/operations/{}/cancel"])
async def test_cancelling(tmp_path: Path, path: str) -> None:
    async with stub_server() as server, node(tmp_path) as client:
        started, release = asyncio.Event(), asyncio.Event()

        async def stall(request: web.Request) -> web.StreamResponse:
            started.set()
            await release.wait()
            return web.Response()

        server.route("/slow.gguf", stall)
        file = {"filename": "slow.gguf", "uri": f"{server.url}/slow.gguf", "sha256": "0" * 64}
        wish = {"name": "slow", "config_file": {"parameters": {"model": "slow.gguf"}}, "files": [file]}
        _, running = await client.ask("POST", "/models/apply", wish)
        _, waiting = await client.ask("POST", "/models/delete/x", {})
        await started.wait()
        jobs = (await client.ask("GET", "/models/jobs"))[1]
        assert [job["cancellable"] for job in jobs.values()] == [True, True]
        for created in (waiting, running, running):
            status, answer = await client.ask("POST", path.format(created["uuid"]))
            assert status == 200
            assert answer.get("success", True)
            assert not answer.get("cancellable", False)
        await client.app[JOBS].wait_idle()
        release.set()
        jobs = (await client.ask("GET", "/models/jobs"))[1].values()
        assert [(job["cancelled"], job["processed"], job["cancellable"], job["message"]) for job in jobs] == [
            (True, True, False, "cancelled")
        ] * 2
        for created in (waiting, running):
            assert (await client.ask("POST", path.format(created["uuid"])))[0] == 200
        assert (await client.ask("POST", path.format("none")))[0] == 404


@pytest.mark.parametrize("name", ["%ED%A0%80", "%FF", "%00", "x" * 256])
async def test_odd_names_are_kept_too(tmp_path: Path, name: str) -> None:
    async with node(tmp_path) as client:
        status, _ = await client.ask("POST", f"/models/delete/{name}", {})
        assert status == 200
        await client.app[JOBS].wait_idle()
    async with node(tmp_path) as client:
        assert [job["processed"] for job in (await client.ask("GET", "/models/jobs"))[1].values()] == [True]


async def test_a_node_whose_database_is_damaged_answers(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "state.db").write_bytes(b"?" * 2000)
    async with node(tmp_path) as client:
        status, created = await client.ask("POST", "/models/apply", {"id": "a/b"})
        assert status == 200
        await client.app[JOBS].wait_idle()
        assert (await client.ask("GET", f"/models/jobs/{created['uuid']}"))[1]["message"] == "completed"
        assert client.dispatch.model_names() == ["a/b"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"files": 3}, "invalid_type"),
        ({"files": [{"filename": "../x"}]}, "invalid_path"),
        ({"name": "x" * (1 << 20)}, "invalid_request"),
        ({"name": "x" * 257}, "invalid_request"),
        ({"id": "x" * 900_000}, "invalid_request"),
        ({"url": "x" * 5000}, "invalid_request"),
    ],
)
async def test_bodies_that_are_refused(tmp_path: Path, body: Any, code: str) -> None:
    async with node(tmp_path) as client:
        status, answer = await client.ask("POST", "/models/apply", body)
        assert (status, answer["error"]["code"]) == (400, code)


async def test_pages_of_other_sites_and_clients_without_a_key_are_refused(tmp_path: Path) -> None:
    async with node(tmp_path) as client:
        for path in ("/models/apply", "/models/delete/x"):
            status, body = await client.ask("POST", path, {}, Origin="https://evil.example")
            assert (status, body["error"]["code"]) == (403, "other_site")
        status, _ = await client.ask("POST", "/models/apply", {"id": "x"}, Origin=client.url)
        assert status == 200
        await client.app[JOBS].wait_idle()
    async with node(tmp_path, api_keys=(Secret("k"),)) as client:
        assert (await client.ask("GET", "/models/jobs"))[0] == 401


async def test_an_entry_has_no_models_to_install(tmp_path: Path) -> None:
    async with node(tmp_path, entry_only=True) as client:
        assert (await client.ask("GET", "/models/jobs"))[0] == 404


def test_how_a_job_looks_on_its_way() -> None:
    body = job_body(Job("1", "m", state="running", phase="downloading", done_bytes=1 << 20, total_bytes=1 << 22))
    assert (body.phase, body.file_size, body.downloaded_size, body.progress) == (
        "downloading", "4.0 MiB", "1.0 MiB", 25.0,
    )  # fmt: skip
    assert (job_body(Job("1", "m")).phase, job_body(Job("1", "m")).file_size) == ("queued", "")


async def test_a_request_may_start_an_installation_only_if_that_is_allowed(tmp_path: Path) -> None:
    async with node(tmp_path) as client:
        assert begin_autoload(client.app, "a/b") is None
    async with node(tmp_path, entry_only=True, autoload=True) as client:
        assert begin_autoload(client.app, "a/b") is None
    async with node(tmp_path, autoload=True) as client:
        assert begin_autoload(client.app, "") is None
        for _ in range(2):
            error = begin_autoload(client.app, "a/b")
            assert error is not None
            assert error.code == "model_installing"
        assert begin_autoload(client.app, "nobody") is not None
        await client.app[JOBS].wait_idle()
        assert client.dispatch.model_names() == ["a/b"]
        assert begin_autoload(client.app, "nobody") is None, "it has failed before"


def test_opaque_errors_hide_why_a_job_failed() -> None:
    failed = Job("1", "m", state="failed", error="/secret/path", message="/secret/path")
    body = job_body(failed, opaque=True)
    assert (body.error, body.message) == ("an error occurred", "an error occurred")
    assert job_body(failed).error == "/secret/path"
    assert not job_body(Job("1", "m"), opaque=True).error


@pytest.mark.parametrize("path", ["/mcp/v1/chat/completions", "/v1/chat/completions"])
async def test_every_way_to_name_a_model_may_install_it(tmp_path: Path, path: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/never-fetched"}}
    body = {"model": "a/b", "messages": [{"role": "user", "content": [picture]}]}
    async with node(tmp_path, autoload=True) as client:
        status, answer = await client.ask("POST", path, body)
        assert (status, answer["error"]["code"]) == (503, "model_installing")


async def test_the_address_of_a_job_is_that_of_the_proxy(tmp_path: Path) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ai.example"}
    async with node(tmp_path) as client:
        _, created = await client.ask("POST", "/models/delete/x", {}, **headers)
        assert created["status"] == f"https://ai.example/models/jobs/{created['uuid']}"
