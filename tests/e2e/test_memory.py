"""Models that come and go in a whole node: limits, watchdogs, preloading."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from localai.node.testing.node_process import NodeProcess, running_node

pytestmark = pytest.mark.e2e

NAMES = ("one", "two", "three", "four")


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    """A node's folder with four models and one thread for each."""
    (tmp_path / "models").mkdir()
    for name in NAMES:
        (tmp_path / "models" / f"{name}.gguf").symlink_to(tiny_model)
    return tmp_path


async def ask(client: openai.AsyncOpenAI, model: str, tokens: int) -> str:
    answer = await client.completions.create(
        model=model, prompt="x", max_tokens=tokens, extra_body={"ignore_eos": True}
    )
    return str(answer.choices[0].finish_reason)


def wait_for(condition: Callable[[], bool], node: NodeProcess) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, node.log
        time.sleep(0.02)


def test_an_eviction_storm(folder: Path) -> None:
    """Four models, two places, requests for all of them at once: every answer comes, never more than two workers."""

    async def storm(node: NodeProcess) -> list[str]:
        most = 0
        done = asyncio.Event()

        async def watch() -> None:
            nonlocal most
            while not done.is_set():
                most = max(most, len(node.workers()))
                await asyncio.sleep(0.005)

        async with openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0, timeout=60) as client:
            watching = asyncio.create_task(watch())
            draw = random.Random(3)
            asks = [ask(client, draw.choice(NAMES), draw.randrange(1, 40)) for _ in range(40)]
            ends = await asyncio.gather(*asks)
            done.set()
            await watching
        assert most == 2
        return ends

    options = ["--threads", "1", "--context-size", "512", "--max-active-backends", "2"]
    retries = ["--lru-eviction-retry-interval", "20ms", "--lru-eviction-max-retries", "2000"]
    with running_node(folder, [*options, *retries]) as node:
        assert set(asyncio.run(storm(node))) == {"length"}
        assert "model_evicted" in node.log
        assert "model_limit_exceeded" not in node.log


def test_an_idle_model_is_unloaded_and_comes_back(folder: Path) -> None:
    options = ["--threads", "1", "--context-size", "512", "--enable-watchdog-idle", "--watchdog-idle-timeout", "300ms"]
    preload = ["--load-to-memory", "one,no-such-model"]
    with (
        running_node(folder, [*options, *preload]) as node,
        openai.OpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0, timeout=60) as client,
    ):
        assert "model_not_preloaded" in node.log
        wait_for(lambda: "model_unloaded" in node.log, node)
        wait_for(lambda: not node.workers(), node)
        assert client.completions.create(model="one", prompt="x", max_tokens=1).choices
        wait_for(lambda: not node.workers(), node)


def test_a_hung_worker_is_killed_by_the_busy_watchdog(folder: Path) -> None:
    options = ["--threads", "1", "--context-size", "512", "--enable-watchdog-busy", "--watchdog-busy-timeout", "500ms"]
    with (
        running_node(folder, options) as node,
        openai.OpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0, timeout=60) as client,
    ):
        client.completions.create(model="one", prompt="x", max_tokens=1)
        (pid,) = node.workers()
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(openai.APIStatusError, match="running for more than"):
            client.completions.create(model="one", prompt="x", max_tokens=400)
        assert client.completions.create(model="one", prompt="x", max_tokens=1).choices
        assert node.workers() != [pid]
