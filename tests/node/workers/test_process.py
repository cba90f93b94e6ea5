"""The real worker program, in its own process, on the tiny model and on a real one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from localai.mesh.child import spawn_child
from localai.node.inference import Failed, GenerateRequest, RequestId, TextInput, Tokens
from localai.node.testing.check_worker import Client, check_worker
from localai.node.testing.corrupt_gguf import CORRUPTIONS, Corruption, write_corrupt_gguf
from localai.node.workers.connection import WorkerConnection, WorkerEnd
from localai.node.workers.frames import Ask, Cancel, Hello, Load, LoadFailed
from localai.node.workers.process import BACKENDS, WorkerProcess, spawn_worker

pytestmark = pytest.mark.e2e

Connect = Callable[[], Awaitable[WorkerConnection]]


async def connect() -> WorkerProcess:
    return await spawn_worker("llama-cpp", "test", 1)


async def test_the_llama_worker_conforms_on_the_tiny_model(tiny_model: Path) -> None:
    await check_worker(connect, Load(str(tiny_model), 4096, 4, 1))


async def test_the_llama_worker_conforms_on_a_real_model(smollm2: Path) -> None:
    await check_worker(connect, Load(str(smollm2), 2048, 2, 1))


def test_llama_cpp_is_a_backend() -> None:
    assert "llama-cpp" in BACKENDS


async def hello(worker: WorkerProcess) -> None:
    received = await worker.receive()
    assert not isinstance(received, WorkerEnd)
    assert isinstance(received[0], Hello)


async def ended(worker: WorkerProcess) -> WorkerEnd:
    while not isinstance(end := await worker.receive(), WorkerEnd):
        pass
    return end


async def first_failure(worker: WorkerProcess) -> LoadFailed:
    while True:
        received = await worker.receive()
        assert not isinstance(received, WorkerEnd), received
        for frame in received:
            if isinstance(frame, LoadFailed):
                return frame


@pytest.mark.parametrize("corruption", CORRUPTIONS)
async def test_a_damaged_model_is_a_load_failure_and_a_clean_exit(
    tmp_path: Path, tiny_model: Path, corruption: Corruption
) -> None:
    path = write_corrupt_gguf(tmp_path / "bad.gguf", corruption, tiny_model.read_bytes())
    worker = await connect()
    worker.send(Load(str(path), 512, 2, 1))
    async with asyncio.timeout(30):
        failure = await first_failure(worker)
        assert failure.error.code == "model_load_failed"
        assert "bad.gguf" in failure.error.message
        assert str(tmp_path) not in failure.error.message, "no paths of this machine for clients"
        end = await ended(worker)
    assert end.exit_code == 1


async def test_too_much_context_is_a_load_failure_with_advice(tiny_model: Path) -> None:
    worker = await connect()
    worker.send(Load(str(tiny_model), 2_000_000_000, 2, 1))
    async with asyncio.timeout(30):
        failure = await first_failure(worker)
        assert "--context-size" in failure.error.message
        assert (await ended(worker)).exit_code == 1


async def test_a_killed_worker_ends_with_its_signal(tiny_model: Path) -> None:
    worker = await connect()
    client = Client(worker)
    await hello(worker)
    worker.send(Load(str(tiny_model), 512, 2, 1))
    reader = asyncio.create_task(client.run())
    await client.wait(lambda: client.loaded is not None, "Loaded")
    os.kill(worker.pid, signal.SIGKILL)
    await client.wait_end()
    await reader
    assert client.end is not None
    assert client.end.exit_code == -9


async def test_a_step_of_one_client_is_not_lost_when_another_cancels(tiny_model: Path) -> None:
    worker = await connect()
    await hello(worker)
    client = Client(worker)
    reader = asyncio.create_task(client.run())
    worker.send(Load(str(tiny_model), 2048, 4, 1))
    await client.wait(lambda: client.loaded is not None, "Loaded")
    for round_number in range(20):
        keep = GenerateRequest(RequestId(f"keep{round_number}"), "m", TextInput("abc"), max_tokens=30, ignore_eos=True)
        drop = GenerateRequest(RequestId(f"drop{round_number}"), "m", TextInput("xyz"), ignore_eos=True)
        worker.send(Ask(keep))
        worker.send(Ask(drop))
        worker.send(Cancel(drop.id))
        events = await client.finish(keep.id)
        assert sum(len(event.ids) for event in events if isinstance(event, Tokens)) == 30
        assert not any(isinstance(event, Failed) for event in client.events.get(drop.id, []))
    worker.terminate()
    await client.wait_end()
    await reader


async def test_garbage_ends_the_worker_with_its_last_words(tiny_model: Path) -> None:
    worker = await connect()
    worker._child.write(b"\x00\x00\x00\x04junk")
    async with asyncio.timeout(20):
        end = await ended(worker)
    assert end.exit_code == 2
    assert "could not be decoded" in end.last_words


async def test_a_worker_that_speaks_garbage_is_killed() -> None:
    program = "import socket, sys; socket.socket(fileno=int(sys.argv[1])).sendall(b'\\x00\\x00\\x00\\x04junk' * 9)"
    child = await spawn_child("liar", [sys.executable, "-c", program + "; sys.stdin.read()"], {})
    async with asyncio.timeout(20):
        end = await WorkerProcess(child).receive()
    assert isinstance(end, WorkerEnd)
    assert end.exit_code is None
    assert "decoded" in end.last_words
