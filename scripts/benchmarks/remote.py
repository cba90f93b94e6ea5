"""What another node on the way costs: time to first token, CPU per token and tokens per second, at 1 and 16 streams.

Three ways to the same node B: asked directly; through node A, which has no models, over a session; and as LocalAI does
it, each connection spliced through libp2p by a process beside the client and one beside B (``splice.py``, on our host
with our repairs). Everything is on the loopback of one machine, a new connection for each request. The three ways run
in turn, rotating, in each round; figures are medians of the rounds, ratios the medians of the rounds' ratios. With
``--json``, rows also have the quartiles.

CPU is that of whole processes, per LLM token: *on A* is A's node and its mesh process, or the splice's entry; *on B* is
B's node, its mesh process and the splice's exit, without the worker. What all of them spend while nobody asks is not
taken off; it has rows of its own. The tiny random model gives enough tokens to see what one costs, but so fast that
several travel together (*tokens per event*). With many layers it is as fast as a model on a GPU, and each token travels
alone, as it does with SmolLM2, which has the speed of a CPU.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import aiohttp
import msgspec
from engine import WORDS
from harness import Row

from localai.mesh.identity import load_identity
from localai.mesh.network_token import ALPHABET, new_network_token
from localai.node.testing.models import cached_model
from localai.node.testing.node_process import NodeProcess, running_node
from localai.node.testing.tiny_gguf import write_tiny_gguf

SLOTS = 16
CONTEXT = 512
DEEP_LAYERS = 40
ROUNDS = 9
IDLE_S = 5.0
QUICK_IDLE_S = 1.0
QUICK_ROUNDS = 2
JOIN_TIMEOUT_S = 30.0
SWARM = ("--p2p-listen", "/ip4/127.0.0.1/tcp/0", "--p2p-disable-mdns")
_LISTENS = re.compile(r"/ip4/127\.0\.0\.1/tcp/\d+")


@dataclass(frozen=True)
class Work:
    """What one run asks for: ``requests`` one after the other in each of ``streams``."""

    streams: int
    requests: int
    tokens: int

    @property
    def total(self) -> int:
        """LLM tokens of all answers."""
        return self.streams * self.requests * self.tokens


WORK = {
    "tiny": (Work(1, 8, 384), Work(16, 1, 384)),
    "deep": (Work(1, 4, 128), Work(16, 1, 128)),
    "smollm2": (Work(1, 4, 32), Work(16, 1, 32)),
}
QUICK_WORK = {
    "deep": (Work(1, 2, 64), Work(16, 1, 64)),
    "smollm2": (Work(1, 1, 16), Work(16, 1, 4)),
}


class Part(StrEnum):
    """Who spends CPU."""

    A_NODE = "A's node"
    A_MESH = "A's mesh"
    B_NODE = "B's node"
    B_MESH = "B's mesh"
    WORKER = "B's worker"


@dataclass(frozen=True)
class Way:
    """One way to the model: where to ask, and the processes that take part."""

    url: str
    processes: Mapping[Part, Sequence[int]]


@dataclass(frozen=True)
class Figures:
    """One run."""

    tokens_per_s: float
    ttft_ms: float
    tokens_per_event: float
    cpu_us: Mapping[Part, float]
    """Per LLM token."""

    def on(self, *parts: Part) -> float:
        """CPU microseconds per token of these together."""
        return sum(self.cpu_us[part] for part in parts)


@dataclass(frozen=True)
class Answer:
    """What the client saw of one answer."""

    wait_s: float
    """Until its first piece."""
    events: int


@dataclass(frozen=True)
class SpreadRow(Row):
    """A row with the quartiles of its ratio over the rounds, or of its value where it has no ratio."""

    low: float = 0.0
    high: float = 0.0


def run(quick: bool) -> list[Row]:
    """Compare; get the rows of all models."""
    rows: list[Row] = []
    plan = QUICK_WORK if quick else WORK
    with tempfile.TemporaryDirectory() as folder:
        models = {
            "tiny": write_tiny_gguf(Path(folder, "tiny.gguf"), end_bias=-20.0),
            "deep": write_tiny_gguf(Path(folder, "deep.gguf"), end_bias=-20.0, layers=DEEP_LAYERS),
            "smollm2": cached_model("smollm2-135m-instruct"),
        }
        for name, works in plan.items():
            with three_ways(models[name]) as ways:
                rows += [] if rows else asyncio.run(_idle_rows(ways["ours"], QUICK_IDLE_S if quick else IDLE_S))
                rows += asyncio.run(_compare(name, ways, works, QUICK_ROUNDS if quick else ROUNDS))
    return rows


@contextmanager
def three_ways(model: Path) -> Iterator[dict[str, Way]]:
    """The ways ``direct``, ``ours`` and ``splice``, all to one node with the model."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as things:
        b, address = _start_b(Path(folder, "b"), model, things)
        a = _start_a(Path(folder, "a"), address, things)
        asyncio.run(_wait_answers(a.url))
        (worker,) = b.workers()
        answering = {Part.B_NODE: [b.pid], Part.B_MESH: [b.mesh_process()], Part.WORKER: [worker]}
        leaving, (listens, peer) = things.enter_context(_splice("exit", b.url.rsplit(":", 1)[1]))
        entering, (port,) = things.enter_context(_splice("entry", listens, peer))
        yield {
            "direct": Way(b.url, answering),
            "ours": Way(a.url, {Part.A_NODE: [a.pid], Part.A_MESH: [a.mesh_process()], **answering}),
            "splice": Way(
                f"http://127.0.0.1:{port}",
                {**answering, Part.A_MESH: [entering], Part.B_MESH: [*answering[Part.B_MESH], leaving]},
            ),
        }


def _start_b(folder: Path, model: Path, things: ExitStack) -> tuple[NodeProcess, str]:
    """The node with the model, and where it is dialled. Its swarm's token is in a file beside the folder."""
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "bench.gguf").symlink_to(model)
    (folder / "models" / "bench.yaml").write_text(
        f"name: bench\nparameters: {{model: bench.gguf}}\ncontext_size: {CONTEXT}\n"
        f"threads: 1\noptions: ['parallel:{SLOTS}']\n"
    )
    token = new_network_token(lambda length: "".join(secrets.choice(ALPHABET) for _ in range(length)))
    token_file = folder.parent / "token"
    token_file.touch(0o600)
    token_file.write_text(token.text.reveal())
    node = things.enter_context(running_node(folder, ["--p2p", "--p2p-token-file", str(token_file), *SWARM]))
    listens = _LISTENS.search(node.wait_log("mesh_ready"))
    assert listens is not None, node.log
    return node, f"{listens[0]}/p2p/{load_identity(folder / 'data' / 'identity.key').peer_id}"


def _start_a(folder: Path, address: str, things: ExitStack) -> NodeProcess:
    """The node without models."""
    folder.mkdir()
    arguments = ["--p2p-token-file", str(folder.parent / "token"), "--p2p-peers", address, *SWARM]
    return things.enter_context(running_node(folder, arguments, command="federated"))


@contextmanager
def _splice(*arguments: str) -> Iterator[tuple[int, list[str]]]:
    """One half of the splice: its process id and the words that it printed."""
    command = [sys.executable, str(Path(__file__).parent / "splice.py"), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    try:
        words = process.stdout.readline().split()
        assert words, "The splice did not start; what it printed above says why."
        yield process.pid, words
    finally:
        process.kill()
        process.communicate()


async def _wait_answers(url: str) -> None:
    """Wait until the node's peer answers through it; that also loads the model."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(JOIN_TIMEOUT_S):
        while True:
            async with http.get(f"{url}/v1/models") as response:
                if "bench" in await response.text():
                    break
            await asyncio.sleep(0.05)
        await _answer(http, url, "Hello", 4)


async def _compare(model: str, ways: Mapping[str, Way], works: Sequence[Work], rounds: int) -> list[Row]:
    rows: list[Row] = []
    drawn = random.Random(0)  # no prompt comes twice: it would be in a slot's memory
    # A connection per request: what a client library does at first, and where a splice has most to do.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as http:
        for work in works:
            for way in ways.values():
                await _measure(http, way, Work(work.streams, 1, min(work.tokens, 8)), drawn)
            measured: dict[str, list[Figures]] = {name: [] for name in ways}
            for number in range(rounds):
                for position in range(len(ways)):
                    name = list(ways)[(number + position) % len(ways)]
                    measured[name].append(await _measure(http, ways[name], work, drawn))
            rows += _rows(f"{model}, {work.streams} streams", measured)
    return rows


async def _measure(http: aiohttp.ClientSession, way: Way, work: Work, drawn: random.Random) -> Figures:
    """Some streams at once, each request with a prompt of its own."""
    prompts = [[" ".join(drawn.sample(WORDS, 12)) for _ in range(work.requests)] for _ in range(work.streams)]

    async def stream(prompts: Sequence[str]) -> list[Answer]:
        return [await _answer(http, way.url, prompt, work.tokens) for prompt in prompts]

    cpu, began = _cpu_seconds(way), time.perf_counter()
    answers = [answer for each in await asyncio.gather(*map(stream, prompts)) for answer in each]
    elapsed = time.perf_counter() - began
    spent = _cpu_seconds(way)
    return Figures(
        tokens_per_s=work.total / elapsed,
        ttft_ms=statistics.median(answer.wait_s for answer in answers) * 1000,
        tokens_per_event=work.total / sum(answer.events for answer in answers),
        cpu_us={part: (spent[part] - cpu[part]) / work.total * 1e6 for part in Part},
    )


async def _answer(http: aiohttp.ClientSession, url: str, prompt: str, tokens: int) -> Answer:
    """Read one answer to its end."""
    body = {"model": "bench", "prompt": prompt, "max_tokens": tokens, "stream": True, "seed": 1, "ignore_eos": True}
    began, wait_s, pieces = time.perf_counter(), 0.0, []
    async with http.post(f"{url}/v1/completions", data=msgspec.json.encode(body)) as response:
        response.raise_for_status()
        async for data in response.content.iter_any():
            wait_s = wait_s or time.perf_counter() - began
            pieces.append(data)
    whole = b"".join(pieces)
    assert b'"finish_reason":"length"' in whole, whole
    return Answer(wait_s, whole.count(b'"finish_reason":null'))


async def _idle_rows(way: Way, idle_s: float) -> list[Row]:
    """What everybody spends while nobody asks."""
    cpu = _cpu_seconds(way)
    await asyncio.sleep(idle_s)
    spent = _cpu_seconds(way)
    return [Row(f"idle: {part}", (spent[part] - cpu[part]) / idle_s * 1000, "ms/s") for part in Part]


def _cpu_seconds(way: Way) -> dict[Part, float]:
    """CPU time of each part so far."""
    return {part: sum(map(_process_seconds, way.processes.get(part, ()))) for part in Part}


def _process_seconds(pid: int) -> float:
    """The CPU time of a process's threads, in finer steps than the ticks of 10 ms that ``stat`` has (Linux)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _rows(what: str, measured: Mapping[str, list[Figures]]) -> list[Row]:
    direct, ours, splice = (measured[name] for name in ("direct", "ours", "splice"))
    on_a, on_b = (Part.A_NODE, Part.A_MESH), (Part.B_NODE, Part.B_MESH)

    def against(name: str, unit: str, figure: Callable[[Figures], float], *sides: str) -> Iterator[Row]:
        mine = [figure(each) for each in ours]
        for side in sides:
            theirs = [figure(each) for each in measured[side]]
            yield _ratio_row(f"{what}: {name}, against {side}", unit, mine, theirs)

    def added(side: list[Figures]) -> list[float]:
        return [a.ttft_ms - b.ttft_ms for a, b in zip(side, direct, strict=True)]

    return [
        *against("tokens/s", "tokens/s", lambda run: run.tokens_per_s, "direct", "splice"),
        *against("first token", "ms", lambda run: run.ttft_ms, "direct", "splice"),
        _value_row(f"{what}: first token, added by a node", "ms", added(ours)),
        _value_row(f"{what}: first token, added by a splice", "ms", added(splice)),
        *against("tokens per event", "tokens", lambda run: run.tokens_per_event, "direct", "splice"),
        *against("CPU on A", "us/token", lambda run: run.on(*on_a), "splice"),
        *against("CPU on B", "us/token", lambda run: run.on(*on_b), "direct", "splice"),
        *against("CPU on both", "us/token", lambda run: run.on(*on_a, *on_b), "direct", "splice"),
        *(_value_row(f"{what}: {part}", "us/token", [run.on(part) for run in ours]) for part in Part),
    ]


def _ratio_row(name: str, unit: str, mine: Sequence[float], theirs: Sequence[float]) -> Row:
    low, ratio, high = statistics.quantiles([a / b for a, b in zip(mine, theirs, strict=True)], n=4, method="inclusive")
    return SpreadRow(name, statistics.median(mine), unit, statistics.median(theirs), ratio, low=low, high=high)


def _value_row(name: str, unit: str, values: Sequence[float]) -> Row:
    low, value, high = statistics.quantiles(values, n=4, method="inclusive")
    return SpreadRow(name, value, unit, low=low, high=high)
