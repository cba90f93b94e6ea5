"""The worker's main, from outside: what the conformance suite does not reach."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from localai.node.inference import (
    ChatInput,
    ChatMessage,
    Failed,
    Finished,
    GenerateRequest,
    RequestId,
    TextInput,
)
from localai.node.testing.check_worker import Client
from localai.node.testing.tiny_gguf import write_tiny_gguf
from localai.node.workers.connection import WorkerEnd
from localai.node.workers.frames import Ask, Load
from localai.node.workers.process import WorkerProcess, spawn_worker

pytestmark = pytest.mark.e2e


async def started(load: Load) -> tuple[WorkerProcess, Client, asyncio.Task[None]]:
    worker = await spawn_worker("llama-cpp", "test", 1)
    await worker.receive()
    worker.send(load)
    client = Client(worker)
    reader = asyncio.create_task(client.run())
    await client.wait(lambda: client.loaded is not None, "Loaded")
    return worker, client, reader


async def test_a_model_without_a_chat_template_names_the_other_endpoint(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "base.gguf", chat_template=None)
    worker, client, reader = await started(Load(str(path), 512, 2, 1))
    request = GenerateRequest(RequestId("a"), "m", ChatInput((ChatMessage("user", "hi"),)))
    (failed,) = await client.answer(request)
    assert isinstance(failed, Failed)
    assert failed.code == "no_chat_template"
    assert "/v1/completions" in failed.message
    worker.terminate()
    await reader


@pytest.mark.parametrize("template", ["{{ 1 // 0 }}", "{% if %}"])
async def test_a_model_with_a_broken_template_still_completes(tmp_path: Path, template: str) -> None:
    path = write_tiny_gguf(tmp_path / "odd.gguf", chat_template=template)
    worker, client, reader = await started(Load(str(path), 512, 2, 1))
    chat = GenerateRequest(RequestId("a"), "m", ChatInput((ChatMessage("user", "hi"),)))
    (failed,) = await client.answer(chat)
    assert isinstance(failed, Failed)
    plain = GenerateRequest(RequestId("b"), "m", TextInput("hi"), max_tokens=2, ignore_eos=True)
    assert isinstance((await client.answer(plain))[-1], Finished)
    worker.terminate()
    await reader


async def test_a_second_load_ends_the_worker(tiny_model: Path) -> None:
    load = Load(str(tiny_model), 512, 2, 1)
    worker, client, reader = await started(load)
    worker.send(load)
    await reader
    assert client.end is not None
    assert client.end.exit_code == 2
    assert "second Load" in client.end.last_words


async def test_a_request_before_the_load_ends_the_worker() -> None:
    worker = await spawn_worker("llama-cpp", "test", 1)
    worker.send(Ask(GenerateRequest(RequestId("a"), "m", ChatInput(()))))
    async with asyncio.timeout(20):
        while not isinstance(end := await worker.receive(), WorkerEnd):
            pass
    assert "first frame" in end.last_words


def test_the_worker_dies_with_its_parent(tiny_model: Path) -> None:
    program = f"""
import asyncio, os, signal
from localai.node.workers.frames import Load
from localai.node.workers.process import spawn_worker
async def main():
    worker = await spawn_worker("llama-cpp", "test", 1)
    worker.send(Load({str(tiny_model)!r}, 512, 2, 1))
    await worker.receive()
    print(worker.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    parent = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    try:
        process = os.pidfd_open(int(parent.stdout))
    except ProcessLookupError:
        return
    try:
        gone, _, _ = select.select([process], [], [], 20.0)
        assert gone, "the worker outlived its parent"
    finally:
        os.close(process)
