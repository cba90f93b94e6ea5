"""Tokens per second beside llama-server: same model file, threads and slots, at 1, 4 and 16 streams.

llama-server is the server class of the ``xllamacpp`` wheel, in an environment of its own; its build of llama.cpp is not
ours (the wheel's uses AVX2 and FMA, ours what this processor has). Runs are interleaved pairs; figures are medians, the
ratio is the median of the ratios of the pairs. CPU seconds are those of the server's processes, so they hardly feel a
busy neighbour.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import psutil
from harness import Row
from pinned_environment import pinned_environment

from localai.node.testing.models import cached_model
from localai.node.testing.node_process import running_node

STREAMS = (1, 4, 16)
SLOTS = 16
CONTEXT = 512
THREADS = 1
PAIRS = 7
TOKENS = 32
WORDS = [
    "river",
    "stone",
    "house",
    "green",
    "quick",
    "brown",
    "alpha",
    "beta",
    "gamma",
    "delta",
    "winter",
    "paper",
    "window",
]
REQUIREMENTS = Path(__file__).parent / "requirements-llama-server.lock"


@dataclass(frozen=True)
class Server:
    """A running server and its processes."""

    url: str
    model: str
    pid: int


@dataclass(frozen=True)
class Figures:
    """One run of some streams at once."""

    tokens_per_s: float
    tokens_per_cpu_s: float
    ttft_ms: float
    itl_ms: float


UNITS = {
    "tokens_per_s": "tokens/s",
    "tokens_per_cpu_s": "tokens/CPU-s",
    "ttft_ms": "ms to first token",
    "itl_ms": "ms between tokens",
}


def run(quick: bool) -> list[Row]:
    """Compare; get a row per figure and number of streams."""
    model = cached_model("smollm2-135m-instruct")
    with llama_server(model) as theirs, our_node(model) as ours:
        return asyncio.run(_compare(ours, theirs, quick))


@contextmanager
def our_node(model: Path) -> Iterator[Server]:
    """A node of ours with the model."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "models")
        models.mkdir()
        (models / "bench.gguf").symlink_to(model)
        (models / "bench.yaml").write_text(
            f"name: bench\nparameters: {{model: bench.gguf}}\ncontext_size: {CONTEXT}\n"
            f"threads: {THREADS}\noptions: ['parallel:{SLOTS}']\n"
        )
        with running_node(Path(folder)) as node:
            yield Server(node.url, "bench", node.pid)


@contextmanager
def llama_server(model: Path) -> Iterator[Server]:
    """llama-server with the model."""
    script = Path(__file__).parent / "llama_server.py"
    python = pinned_environment(REQUIREMENTS) / "bin" / "python"
    command = [str(python), str(script), str(model), str(SLOTS), str(CONTEXT), str(THREADS)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("http://"):
                yield Server(line.strip(), "bench", process.pid)
                return
        sys.exit("llama-server did not start. Delete its environment in ~/.cache/localai-mesh and run this again.")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def _compare(ours: Server, theirs: Server, quick: bool) -> list[Row]:
    tokens, pairs = (16, 2) if quick else (TOKENS, PAIRS)
    rows: list[Row] = []
    timeout = aiohttp.ClientTimeout(total=300)
    # A connection per request: llama-server closes idle ones when it likes, and a client that picked one would fail.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        for server in (ours, theirs):
            await _measure(http, server, 1, 4, random.Random(0))
        for streams in STREAMS:
            measured: dict[str, list[Figures]] = {"ours": [], "theirs": []}
            for pair in range(pairs):
                order = [("ours", ours), ("theirs", theirs)]
                for name, server in order if pair % 2 else reversed(order):
                    drawn = random.Random(1000 * streams + pair)
                    measured[name].append(await _measure(http, server, streams, tokens, drawn))
            rows += _rows(streams, measured["ours"], measured["theirs"])
    return rows


def _rows(streams: int, ours: list[Figures], theirs: list[Figures]) -> list[Row]:
    rows = []
    for field, unit in UNITS.items():
        a, b = ([getattr(figures, field) for figures in side] for side in (ours, theirs))
        ratio = statistics.median(x / y for x, y in zip(a, b, strict=True))
        rows.append(Row(f"{streams} streams, {unit}", statistics.median(a), unit, statistics.median(b), ratio))
    return rows


async def _measure(
    http: aiohttp.ClientSession, server: Server, streams: int, tokens: int, drawn: random.Random
) -> Figures:
    """Some streams at once, each with a prompt of its own."""
    prompts = [" ".join(drawn.choices(WORDS, k=12)) + ". Tell me a story." for _ in range(streams)]
    cpu, began = _cpu_seconds(server.pid), time.perf_counter()
    times = await asyncio.gather(*(_stream(http, server, prompt, tokens) for prompt in prompts))
    elapsed = time.perf_counter() - began
    spent = _cpu_seconds(server.pid) - cpu
    gaps = [b - a for arrived in times for a, b in itertools.pairwise(arrived)]
    total = streams * tokens
    return Figures(
        tokens_per_s=total / elapsed,
        tokens_per_cpu_s=total / spent if spent else 0.0,
        ttft_ms=statistics.median(arrived[0] - began for arrived in times) * 1000,
        itl_ms=statistics.median(gaps) * 1000,
    )


async def _stream(http: aiohttp.ClientSession, server: Server, prompt: str, tokens: int) -> list[float]:
    """The instants at which pieces of one answer arrived."""
    body = {
        "model": server.model,
        "prompt": prompt,
        "max_tokens": tokens,
        "stream": True,
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.05,
        "seed": 1,
        "ignore_eos": True,
    }
    async with http.post(f"{server.url}/v1/completions", data=msgspec.json.encode(body)) as response:
        response.raise_for_status()
        return [time.perf_counter() async for line in response.content if b'"finish_reason":null' in line]


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)
