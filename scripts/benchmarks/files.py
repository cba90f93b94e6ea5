"""A 94 MB model copied from two members that carry 8 streams meanwhile, against one member that is idle.

Rows: MB/s of a copy from one idle member, which is what one libp2p stream carries, from two idle ones, and from two
that answer 8 streams; the 99th percentile between chunks of those streams, with the copy and without (the baseline).
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness import Row

from localai.node.testing.file_asker import FileAsker, running_asker
from localai.node.testing.lan import Host, lan
from localai.node.testing.models import cached_model
from localai.node.testing.node_process import NodeProcess, running_node
from localai.node.testing.stream_gaps import percentile_99, running_streams
from localai.node.testing.tokens import new_token_text

RUNS = 5
STREAMS = 8
TOKENS = 220


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
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        asker = things.enter_context(running_asker(Path(folder), digest, 2, environment, hosts[0]))
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


async def _both(nodes: list[NodeProcess], asker: FileAsker) -> tuple[float, float]:
    streams = asyncio.create_task(_streams_p99(nodes))
    await asyncio.sleep(1.0)
    seconds = await asyncio.to_thread(asker.copy, 2)
    return seconds, await streams


async def _streams_p99(nodes: list[NodeProcess]) -> float:
    """Seconds between chunks, 99th percentile over 8 streams."""
    urls = [nodes[number % 2].url for number in range(STREAMS)]
    async with running_streams(urls, "bench", TOKENS) as streams:
        await streams.wait_end()
        return percentile_99([gap for gaps in streams.take() for gap in gaps])
