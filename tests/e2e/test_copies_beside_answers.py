"""A model of 94 MB is copied from two members while they answer 8 streams, all through the same mesh processes.

All machines of the test LAN share the processors of this one. So the engines get one processor and everything else
gets the others: what is measured is then what the nodes do, not whom the scheduler of a full machine prefers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from localai.node.testing.file_asker import FileAsker, running_asker
from localai.node.testing.lan import Host, lan
from localai.node.testing.node_process import NodeProcess, running_node
from localai.node.testing.processors import keep_to, usable_processors
from localai.node.testing.stream_gaps import StreamGaps, percentile_99, running_streams
from localai.node.testing.tokens import new_token_text

pytestmark = pytest.mark.e2e

STREAMS = 8
TOKENS = 1800
PHASES = 3
PHASE_S = 2.5
MOST_ATTEMPTS = 3
"""A neighbour on the machine can spoil a measurement, so it may be repeated; each one is printed."""
LONGEST_GAPS = 2.0
LEAST_SPEED = 0.6


@dataclass
class Figures:
    """One measurement."""

    alone_s: list[float] = field(default_factory=list)
    """Seconds of copies from one member without any streams: one libp2p stream."""
    beside_s: list[float] = field(default_factory=list)
    """Seconds of copies from two members beside the streams."""
    quiet: list[list[float]] = field(default_factory=list)
    """99th percentiles of the streams' gaps without a copy, phase by phase."""
    busy: list[list[float]] = field(default_factory=list)
    """The same during a copy."""

    @property
    def gaps(self) -> list[float]:
        """How much longer the gaps of each stream became."""
        return [
            statistics.median(busy) / statistics.median(quiet)
            for quiet, busy in zip(zip(*self.quiet, strict=True), zip(*self.busy, strict=True), strict=True)
        ]

    @property
    def speed(self) -> float:
        """The copies beside the streams against those without."""
        return statistics.median(self.alone_s) / statistics.median(self.beside_s)

    @property
    def is_good(self) -> bool:
        """Whether both are as they must be."""
        return all(ratio <= LONGEST_GAPS for ratio in self.gaps) and self.speed >= LEAST_SPEED

    def render(self, megabytes: float) -> str:
        """For people."""
        alone, beside = (megabytes / statistics.median(values) for values in (self.alone_s, self.beside_s))
        quiet, busy = (max(map(statistics.median, zip(*values, strict=True))) for values in (self.quiet, self.busy))
        ratios = " ".join(f"{ratio:.2f}" for ratio in self.gaps)
        return (
            f"copy {beside:.1f} MB/s, {self.speed:.2f} of {alone:.1f} MB/s alone; "
            f"slowest stream's p99 {busy * 1e3:.0f} ms, {quiet * 1e3:.0f} ms without; by stream {ratios} times"
        )


@dataclass
class Household:
    """Two machines that answer and give, one that streams come in at, one that copies."""

    givers: list[NodeProcess]
    entry: NodeProcess
    asker: FileAsker

    def measure(self) -> Figures:
        """Copy alone, then streams without and with a copy by turns, then copy alone."""
        self._place()
        figures = Figures([self.asker.copy(1)])
        asyncio.run(self._stream(figures))
        figures.alone_s.append(self.asker.copy(1))
        return figures

    async def _stream(self, figures: Figures) -> None:
        async with running_streams([self.entry.url] * STREAMS, "bench", TOKENS) as streams:
            self._place()
            for _ in range(PHASES):
                streams.take()
                await asyncio.sleep(PHASE_S)
                figures.quiet.append(_percentiles(streams))
                figures.beside_s.append(await asyncio.to_thread(self.asker.copy, 2))
                figures.busy.append(_percentiles(streams))

    def _place(self) -> None:
        first, *others = usable_processors()
        for pid in (*(node.pid for node in (*self.givers, self.entry)), self.asker.pid):
            keep_to(pid, others)
        for node in self.givers:
            for worker in node.workers():
                keep_to(worker, [first])


def _percentiles(streams: StreamGaps) -> list[float]:
    return [percentile_99(gaps) for gaps in streams.take()]


@pytest.fixture
def hosts() -> Iterator[tuple[Host, ...]]:
    with lan(4) as found:
        yield found


@pytest.fixture
def household(hosts: tuple[Host, ...], tmp_path: Path, smollm2: Path) -> Iterator[Household]:
    environment = {"LOCALAI_P2P_TOKEN": new_token_text()}
    definition = {"name": "bench", "parameters": {"model": "bench.gguf"}, "options": [f"parallel:{STREAMS}"]}
    digest = hashlib.sha256(smollm2.read_bytes()).hexdigest()
    options = ("--p2p", "--threads", "1", "--context-size", "2048", "--load-to-memory", "bench")
    with ExitStack() as things:
        givers = []
        for name, host in zip("ab", hosts, strict=False):
            models = tmp_path / name / "models"
            models.mkdir(parents=True)
            shutil.copy(smollm2, models / "bench.gguf")
            (models / "bench.yaml").write_text(json.dumps(definition))
            givers.append(things.enter_context(running_node(models.parent, options, environment, host=host)))
        (tmp_path / "entry").mkdir()
        entry = things.enter_context(
            running_node(tmp_path / "entry", (), environment, command="federated", host=hosts[2])
        )
        (tmp_path / "asker").mkdir()
        asker = things.enter_context(running_asker(tmp_path / "asker", digest, 2, environment, hosts[3]))
        _wait_usable(entry, 2)
        yield Household(givers, entry, asker)


def _wait_usable(node: NodeProcess, count: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        with urllib.request.urlopen(f"{node.url}/api/p2p/peers", timeout=20) as response:
            peers = json.load(response)["peers"]
        if sum(peer["usable"] for peer in peers) == count:
            return
        assert time.monotonic() < deadline, peers
        time.sleep(0.05)


@pytest.mark.skipif(len(usable_processors()) < 2, reason="needs a processor for the engines and one for the rest")
def test_neither_holds_up_the_other_much(household: Household, smollm2: Path) -> None:
    seen = []
    for _ in range(MOST_ATTEMPTS):
        figures = household.measure()
        seen.append(figures.render(smollm2.stat().st_size / 1e6))
        print(seen[-1])
        assert household.asker.copied.read_bytes() == smollm2.read_bytes()
        if figures.is_good:
            return
    pytest.fail("\n".join(seen))
