"""A 94 MB model copied from two members that carry 8 streams meanwhile, against one member that is idle.

Rows: MB/s of a copy from one idle member, which is what one libp2p stream carries, from two idle ones, and from two
that answer 8 streams; the 99th percentile between chunks of those streams, with the copy and without (the baseline).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
import msgspec
from harness import Row

from localai.node.testing.lan import Host, lan
from localai.node.testing.models import cached_model
from localai.node.testing.node_process import NodeProcess, running_node
from localai.node.testing.tokens import new_token_text

RUNS = 5
STREAMS = 8
TOKENS = 220


class _Asker:
    """A running ``file_asker.py``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert self._line() == "ready"

    def copy(self, members: int) -> float:
        """Seconds of one copy."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{members}\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def run(quick: bool) -> list[Row]:
    """Copy and answer; get the medians."""
    model = cached_model("smollm2-135m-instruct")
    megabytes = model.stat().st_size / 1e6
    with lan(3) as hosts, tempfile.TemporaryDirectory() as folder, ExitStack() as things:
        environment = {"LOCALAI_P2P_TOKEN": new_token_text()}
        nodes = [
            things.enter_context(_giver(Path(folder, name), model, environment, host))
            for name, host in zip("bc", hosts[1:], strict=True)
        ]
        asker = things.enter_context(_asking(Path(folder), model, environment, hosts[0]))
        figures: dict[str, list[float]] = {"one": [], "two": [], "busy": [], "quiet_p99": [], "busy_p99": []}
        for _ in range(2 if quick else RUNS):
            figures["one"].append(megabytes / asker.copy(1))
            figures["two"].append(megabytes / asker.copy(2))
            figures["quiet_p99"].append(asyncio.run(_streams_p99(nodes)))
            seconds, p99 = asyncio.run(_both(nodes, asker))
            figures["busy"].append(megabytes / seconds)
            figures["busy_p99"].append(p99)
    one, two, busy, quiet_p99, busy_p99 = (statistics.median(values) for values in figures.values())
    return [
        Row("copy from one idle member", one, "MB/s"),
        Row("copy from two idle members", two, "MB/s", one, two / one),
        Row("copy from two members with 8 streams", busy, "MB/s", one, busy / one),
        Row(
            "99th percentile between chunks during the copy",
            busy_p99 * 1e3,
            "ms",
            quiet_p99 * 1e3,
            busy_p99 / quiet_p99,
        ),
    ]


@contextmanager
def _giver(folder: Path, model: Path, environment: dict[str, str], host: Host) -> Iterator[NodeProcess]:
    (folder / "models").mkdir(parents=True)
    shutil.copy(model, folder / "models" / "bench.gguf")
    arguments = ["--p2p", "--threads", "1", "--context-size", "1024"]
    with running_node(folder, arguments, environment, host=host) as node:
        yield node


@contextmanager
def _asking(folder: Path, model: Path, environment: dict[str, str], host: Host) -> Iterator[_Asker]:
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    script = Path(__file__).parent / "file_asker.py"
    process = subprocess.Popen(
        host.command([sys.executable, str(script), str(folder), digest, "2"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield _Asker(process)
    finally:
        process.communicate(timeout=20)


async def _both(nodes: list[NodeProcess], asker: _Asker) -> tuple[float, float]:
    streams = asyncio.create_task(_streams_p99(nodes))
    await asyncio.sleep(1.0)
    seconds = await asyncio.to_thread(asker.copy, 2)
    return seconds, await streams


async def _streams_p99(nodes: list[NodeProcess]) -> float:
    """Seconds between chunks, 99th percentile over 8 streams."""
    gaps: list[float] = []
    async with aiohttp.ClientSession() as http:
        urls = [nodes[number % 2].url for number in range(STREAMS)]
        await asyncio.gather(*(_stream(http, url, number, gaps) for number, url in enumerate(urls)))
    return sorted(gaps)[int(len(gaps) * 0.99)]


async def _stream(http: aiohttp.ClientSession, url: str, number: int, gaps: list[float]) -> None:
    body = {"model": "bench", "prompt": f"Story {number}.", "max_tokens": TOKENS, "stream": True, "ignore_eos": True}
    async with http.post(f"{url}/v1/completions", data=msgspec.json.encode(body)) as response:
        response.raise_for_status()
        before = None
        async for line in response.content:
            if line.startswith(b"data: {"):
                now = time.perf_counter()
                if before is not None:
                    gaps.append(now - before)
                before = now
