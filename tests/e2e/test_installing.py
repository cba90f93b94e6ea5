"""Models that are installed and deleted while a node runs, when things go wrong and when much goes on at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from localai.node.sources.testing import StubServer, answer, content, stalled, stub_server
from localai.node.testing.node_process import NodeProcess, node_environment, running_node
from localai.node.testing.small_disk import can_mount, on_small_disk, seen_by
from localai.node.testing.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.e2e

OPTIONS = ("--threads", "1", "--context-size", "2048")
LIMIT_S = 60.0
"""For whatever is waited for. Waits end earlier; this is only where they give up."""


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    """A node's folder with one model, so that it does not look for the default one."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.gguf").symlink_to(tiny_model)
    return tmp_path


@pytest.fixture(scope="module")
def large_model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model of a few MB: the file of one that works, with the zeros that files may end in."""
    path = write_tiny_gguf(tmp_path_factory.mktemp("large") / "large.gguf")
    return path.read_bytes().ljust(8 << 20, b"\0")


@dataclass
class Owner:
    """Who installs and deletes models at a node, and where from."""

    node: NodeProcess
    server: StubServer
    http: aiohttp.ClientSession = field(repr=False)

    async def apply(self, name: str, url: str, data: bytes) -> str:
        """Ask for a model of one file; get the id of the job."""
        body = wish(name, url, data)
        return await self._job("/models/apply", body)

    async def delete(self, name: str) -> str:
        """Ask for a model to be removed; get the id of the job."""
        return await self._job(f"/models/delete/{name}", {})

    async def _job(self, path: str, body: dict[str, Any]) -> str:
        async with self.http.post(self.node.url + path, data=json.dumps(body)) as response:
            assert response.status == 200, await response.text()
            return str((await response.json())["uuid"])

    async def jobs(self) -> dict[str, dict[str, Any]]:
        """All jobs by their ids."""
        async with self.http.get(f"{self.node.url}/models/jobs") as response:
            found: dict[str, dict[str, Any]] = await response.json()
            return found

    async def end_of(self, job_id: str) -> dict[str, Any]:
        """A job when it is finished."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                job = (await self.jobs())[job_id]
                if job["processed"]:
                    return job
                await asyncio.sleep(0.02)

    async def complete(self, model: str) -> str:
        """A short answer of a model."""
        body = {"model": model, "prompt": "x", "max_tokens": 3, "ignore_eos": True}
        async with self.http.post(f"{self.node.url}/v1/completions", data=json.dumps(body)) as response:
            assert response.status == 200, await response.text()
            return str((await response.json())["choices"][0]["text"])

    async def models(self) -> list[str]:
        """Names of all models."""
        async with self.http.get(f"{self.node.url}/v1/models") as response:
            return [model["id"] for model in (await response.json())["data"]]


def wish(name: str, url: str, data: bytes) -> dict[str, Any]:
    """The body of an installation."""
    return {
        "name": name,
        "config_file": {"name": name, "parameters": {"model": f"{name}.gguf"}},
        "files": [{"filename": f"{name}.gguf", "sha256": hashlib.sha256(data).hexdigest(), "uri": url}],
    }


@asynccontextmanager
async def owner(node: NodeProcess, server: StubServer) -> AsyncIterator[Owner]:
    """An owner of a node."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as http:
        yield Owner(node, server, http)


def files(models: Path) -> list[str]:
    """Names of what is in a models folder, hidden files too."""
    return sorted(os.listdir(models))


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


async def test_two_requests_and_a_command_at_once_download_once(folder: Path, large_model: bytes) -> None:
    async with stub_server() as server:
        release = asyncio.Event()
        url = server.route("/mine", stalled(large_model, 1 << 20, release), answer(500))
        definition = {"name": "mine", "parameters": {"model": "mine.gguf"}}
        definition["download_files"] = wish("mine", url, large_model)["files"]
        (folder / "mine.yaml").write_text(json.dumps(definition))
        with running_node(folder, OPTIONS) as node:
            async with owner(node, server) as user:
                jobs = [await user.apply("mine", url, large_model) for _ in range(2)]
                await wait_for(lambda: bool(server.seen))
                command = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "localai.node.cli", "models", "install", "./mine.yaml"),
                    cwd=folder,
                    env=node_environment({}),
                    stderr=asyncio.subprocess.PIPE,
                )
                assert command.stderr is not None
                async with asyncio.timeout(LIMIT_S):
                    while b"Waiting for another process" not in (line := await command.stderr.readline()):
                        assert line, "it did not wait"
                    release.set()
                    await command.communicate()
                assert command.returncode == 0
                assert [(await user.end_of(job))["message"] for job in jobs] == ["completed"] * 2
                assert [seen.path for seen in server.seen] == ["/mine"]
                assert files(folder / "models") == ["mine.gguf", "mine.yaml", "tiny.gguf"]
                assert (folder / "models" / "mine.gguf").read_bytes() == large_model
                assert await user.complete("mine")


@dataclass(frozen=True)
class Ask:
    """One way to ask for an answer."""

    path: str
    body: dict[str, Any]
    stream: bool


def ways_to_ask(tokens: int) -> list[Ask]:
    """Both dialects, streamed and whole."""
    chat = {"messages": [{"role": "user", "content": "x"}]}
    return [
        Ask(path, {"model": "mine", "max_tokens": tokens, "ignore_eos": True, "stream": stream, **body}, stream)
        for stream in (True, False)
        for path, body in (("/v1/completions", {"prompt": "x"}), ("/v1/chat/completions", chat))
    ]


async def outcome(user: Owner, ask: Ask, on_begin: Callable[[], None] = lambda: None) -> str:
    """``finished``, or the code and message of the error that it ended with; anything else fails."""
    async with user.http.post(user.node.url + ask.path, data=json.dumps(ask.body)) as response:
        if response.status != 200:
            return _error(await response.json())
        if not ask.stream:
            choice = (await response.json())["choices"][0]
            assert choice["finish_reason"] == "length"
            return "finished"
        events: list[bytes] = []
        async for line in response.content:
            if line.startswith(b"data: "):
                events.append(line.removeprefix(b"data: ").strip())
                on_begin()
    if events[-1] != b"[DONE]" or b'"error"' in events[-2]:
        return _error(json.loads(events[-2] if events[-1] == b"[DONE]" else events[-1]))
    reasons = [choice["finish_reason"] for event in events[:-1] for choice in json.loads(event)["choices"]]
    assert [reason for reason in reasons if reason] == ["length"]
    return "finished"


def _error(body: dict[str, Any]) -> str:
    error = body["error"]
    assert error["type"]
    return f"{error['code']}: {error['message']}"


async def test_a_model_that_is_deleted_while_it_answers(folder: Path, tiny_model: Path) -> None:
    """16 long answers are under way; others ask all the time, until it is installed again."""
    data = tiny_model.read_bytes()
    long, short = ways_to_ask(1000), ways_to_ask(20)
    async with stub_server() as server:
        url = server.route("/mine", content(data))
        with running_node(folder, OPTIONS) as node:
            async with owner(node, server) as user, asyncio.timeout(LIMIT_S):
                await user.end_of(await user.apply("mine", url, data))
                begun = [asyncio.Event() for _ in range(8)]
                answers = [
                    asyncio.create_task(outcome(user, ask, event.set))
                    for ask, event in zip(long[:2] * 4, begun, strict=True)
                ]
                answers += [asyncio.create_task(outcome(user, ask)) for ask in long[2:] * 4]
                for event in begun:
                    await event.wait()
                is_back = asyncio.Event()

                async def ask_on(ask: Ask) -> set[str]:
                    ends = set()
                    while not is_back.is_set():
                        ends.add(await outcome(user, ask))
                    return ends

                others = [asyncio.create_task(ask_on(ask)) for ask in short]
                assert (await user.end_of(await user.delete("mine")))["message"] == "completed"
                assert files(folder / "models") == ["tiny.gguf"]
                ends = await asyncio.gather(*answers)
                await wait_for(lambda: not node.workers())
                assert await user.models() == ["tiny"]
                assert (await user.end_of(await user.apply("mine", url, data)))["message"] == "completed"
                is_back.set()
                ends_of_others = set[str]().union(*await asyncio.gather(*others))
                assert await user.complete("mine")
        print(f"16 answers: {Counter(ends)}, others: {ends_of_others}")
        allowed = ("finished", "unavailable: Model 'mine' was unloaded: ")
        assert all(end.startswith(allowed) for end in ends)
        assert any(end.startswith("model_not_found: ") for end in ends_of_others)
        assert all(end.startswith((*allowed, "model_not_found: ")) for end in ends_of_others)
        assert "Traceback" not in node.log


async def test_a_node_killed_during_a_download_goes_on_where_it_was(folder: Path, large_model: bytes) -> None:
    async with stub_server() as server:
        url = server.route("/mine", stalled(large_model, 5 << 20, asyncio.Event()), content(large_model))
        partial = folder / "models" / "mine.gguf.partial"
        with ExitStack() as things:
            node = things.enter_context(running_node(folder, OPTIONS))
            async with owner(node, server) as user:
                await user.apply("mine", url, large_model)
                await wait_for(lambda: partial.exists() and partial.stat().st_size >= 4 << 20)
                node.send_signal(signal.SIGKILL)
                node.wait()
            kept = partial.stat().st_size
            assert not (folder / "models" / "mine.yaml").exists()
            node = things.enter_context(running_node(folder, OPTIONS))
            async with owner(node, server) as user:
                going_on = [job for job, state in (await user.jobs()).items() if not state["cancelled"]]
                job = going_on[0] if going_on else await user.apply("mine", url, large_model)
                assert (await user.end_of(job))["message"] == "completed"
                assert [seen.headers.get("range") for seen in server.seen] == [None, f"bytes={kept}-"]
                assert (folder / "models" / "mine.gguf").read_bytes() == large_model
                assert files(folder / "models") == ["mine.gguf", "mine.yaml", "tiny.gguf"]
                assert await user.complete("mine")


@pytest.mark.skipif(not can_mount(), reason="needs mount namespaces")
async def test_a_full_disk(folder: Path, large_model: bytes) -> None:
    """One model is too large from the start; for another one the disk becomes full on the way."""
    disk_bytes = 288 << 20  # a download begins only while 256 MiB stay free
    async with stub_server() as server:
        huge = server.route("/huge", answer(200, bytes(64 << 20)))
        release = asyncio.Event()
        url = server.route("/mine", stalled(large_model, 2 << 20, release), content(large_model))
        prefix = on_small_disk(folder / "models", disk_bytes)
        with running_node(folder, OPTIONS, prefix=prefix) as node:
            models = seen_by(node.pid, folder / "models")
            async with owner(node, server) as user:
                job = await user.end_of(await user.apply("huge", huge, bytes(64 << 20)))
                assert "The download needs 68 MB" in job["error"]
                assert files(models) == ["tiny.gguf"]

                job_id = await user.apply("mine", url, large_model)
                partial = models / "mine.gguf.partial"
                await wait_for(lambda: partial.exists() and partial.stat().st_size >= 1 << 20)
                _fill(models / "other")
                release.set()
                job = await user.end_of(job_id)
                assert "became full. Free some space and try again" in job["error"]
                assert files(models) == ["mine.gguf.partial", "mine.gguf.partial.json", "other", "tiny.gguf"]
                assert await user.complete("tiny")
                assert await user.models() == ["tiny"]

                (models / "other").unlink()
                kept = partial.stat().st_size
                job = await user.end_of(await user.apply("mine", url, large_model))
                assert job["message"] == "completed", job["error"]
                assert server.seen[-1].headers["range"] == f"bytes={kept}-"
                assert (models / "mine.gguf").read_bytes() == large_model
                assert files(models) == ["mine.gguf", "mine.yaml", "tiny.gguf"]
                assert await user.complete("mine")
        assert "Traceback" not in node.log


def _fill(path: Path) -> None:
    """Take all the room that is left on a disk."""
    with path.open("wb") as file:
        status = os.statvfs(path)
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize)


async def test_a_source_that_lies_and_one_that_is_down(folder: Path, tiny_model: Path) -> None:
    data = tiny_model.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        down = f"http://127.0.0.1:{closed.getsockname()[1]}/mine"
    async with stub_server() as server:
        false = server.route("/false", content(data[:-1] + b"?"))
        gone = server.route("/gone", answer(503, Retry_After="3600"))
        missing = server.route("/missing", answer(404))
        with running_node(folder, OPTIONS) as node:
            async with owner(node, server) as user:
                jobs = [await user.apply("mine", url, data) for url in (false, missing, gone, down)]
                errors = [(await user.end_of(job))["error"] for job in jobs]
                assert errors[0].startswith("The file 'mine.gguf' has the SHA-256 ")
                assert errors[1].startswith(f"There is nothing at {missing}. ")
                assert errors[2].startswith(f"{gone} cannot be fetched now: its server answers with status 503. ")
                assert errors[3].startswith("127.0.0.1 cannot be reached"), errors[3]
                assert files(folder / "models") == ["tiny.gguf"]
                assert await user.models() == ["tiny"]
                assert await user.complete("tiny")
                listed = await user.jobs()
                assert [listed[job]["message"] for job in jobs] == [f"error: {error}" for error in errors]
        assert "Traceback" not in node.log


async def test_200_definitions(folder: Path) -> None:
    names = [f"model-{number:03}" for number in range(200)]
    for name in names:
        definition = {"name": name, "parameters": {"model": "tiny.gguf"}, "context_size": 512}
        (folder / "models" / f"{name}.yaml").write_text(json.dumps(definition))
    asked = names[::40]
    began = time.monotonic()
    with running_node(folder, [*OPTIONS, "--max-active-backends", "2"]) as node:
        print(f"ready after {time.monotonic() - began:.1f} s")
        async with stub_server() as server, owner(node, server) as user:
            assert sorted(await user.models()) == sorted(names)
            most = 0
            answers = asyncio.gather(*(user.complete(name) for name in asked))
            async with asyncio.timeout(LIMIT_S):
                while not answers.done():
                    most = max(most, len(node.workers()))
                    await asyncio.sleep(0.005)
            assert all(await answers)
            assert most == 2
