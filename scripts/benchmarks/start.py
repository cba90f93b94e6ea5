"""From the command to the first token: a node that has just been started, and one that is warm.

Rows: the process until it says ready; the first request, which loads the model; a request to the loaded model. The
model file is in the page cache. The baseline of the cold request is the warm one.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import msgspec
from harness import Row

from localai.node.testing.models import cached_model
from localai.node.testing.node_process import running_node

RUNS = 7


def run(quick: bool) -> list[Row]:
    """Start and ask; get the medians."""
    model = cached_model("smollm2-135m-instruct")
    help_s = [_help_s() for _ in range(2 if quick else RUNS)]
    measured = [_start(model) for _ in range(2 if quick else RUNS)]
    ready, cold, warm = (statistics.median(values) for values in zip(*measured, strict=True))
    return [
        Row("localai --help", statistics.median(help_s), "s"),
        Row("ready after the command", ready, "s"),
        Row("first token, model not loaded", cold, "s", warm, cold / warm),
        Row("first token, model loaded", warm, "s"),
    ]


def _help_s() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "localai.node.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _start(model: Path) -> tuple[float, float, float]:
    """Seconds to ready, to the first token cold, to the first token warm."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "models")
        models.mkdir()
        (models / "bench.gguf").symlink_to(model)
        began = time.perf_counter()
        with running_node(Path(folder), ["--context-size", "2048"]) as node:
            ready = time.perf_counter() - began
            return ready, *asyncio.run(_two_requests(node.url))


async def _two_requests(url: str) -> tuple[float, float]:
    async with aiohttp.ClientSession() as http:
        return await _first_token_s(http, url, "Once upon a time"), await _first_token_s(http, url, "In the north")


async def _first_token_s(http: aiohttp.ClientSession, url: str, prompt: str) -> float:
    body = {"model": "bench", "prompt": prompt, "max_tokens": 4, "stream": True, "temperature": 0}
    began = time.perf_counter()
    async with http.post(f"{url}/v1/completions", data=msgspec.json.encode(body)) as response:
        response.raise_for_status()
        await response.content.readline()
        return time.perf_counter() - began
