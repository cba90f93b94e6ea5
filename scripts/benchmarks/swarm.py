"""How quickly a swarm reacts on one LAN of network namespaces: joining, dying, freezing, coming back.

Medians of several runs. Join is counted from the second node's own "mesh ready" to the end of its first answer through
the first node. The rest is counted from the signal to the moment the entry's list of usable peers says so.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness import Row

from localai.mesh.network_token import ALPHABET, new_network_token
from localai.node.testing.lan import Host, lan
from localai.node.testing.node_process import NodeProcess, running_node
from localai.node.testing.tiny_gguf import write_tiny_gguf

RUNS = 5
LIMIT_S = 30.0


def run(quick: bool) -> list[Row]:
    """Let machines come and go; get the medians."""
    runs = 2 if quick else RUNS
    with lan(2) as hosts, tempfile.TemporaryDirectory() as folder:
        model = write_tiny_gguf(Path(folder, "tiny.gguf"))
        figures: dict[str, list[float]] = {}
        for number in range(runs):
            for name, seconds in _one_run(hosts, Path(folder, str(number)), model).items():
                figures.setdefault(name, []).append(seconds)
    return [Row(name, statistics.median(seconds), "s") for name, seconds in figures.items()] + [
        Row(f"{name}, slowest", max(seconds), "s") for name, seconds in figures.items()
    ]


def _one_run(hosts: tuple[Host, ...], folder: Path, model: Path) -> dict[str, float]:
    secret = new_network_token(lambda length: "".join(secrets.choice(ALPHABET) for _ in range(length)))
    environment = {"LOCALAI_P2P_TOKEN": secret.text.reveal()}
    (folder / "a").mkdir(parents=True)
    (folder / "b" / "models").mkdir(parents=True)
    (folder / "b" / "models" / "tiny.gguf").symlink_to(model)
    figures: dict[str, float] = {}
    with ExitStack() as things:
        entry = things.enter_context(running_node(folder / "a", (), environment, command="federated", host=hosts[0]))
        entry.wait_log("mesh_ready")

        def start() -> NodeProcess:
            arguments = ("--p2p", "--threads", "1")
            return things.enter_context(running_node(folder / "b", arguments, environment, host=hosts[1]))

        node = start()
        node.wait_log("mesh_ready")
        with _timed(figures, "first answer after mesh ready"):
            _until(lambda: _answers(entry))
        with _timed(figures, "frozen peer out of routing"), _frozen(node):
            _until(lambda: _usable(entry) == 0)
        _until(lambda: _usable(entry) == 1)
        with _timed(figures, "killed peer out of routing"):
            _kill(node)
            _until(lambda: _usable(entry) == 0)
        with _timed(figures, "restarted peer usable, from its command"):
            start()
            _until(lambda: _usable(entry) == 1)
        with _timed(figures, "killed mesh process of the entry: peer usable again"):
            os.kill(entry.mesh_process(), signal.SIGKILL)
            _until(lambda: _usable(entry) == 0)
            _until(lambda: _usable(entry) == 1)
    return figures


@contextmanager
def _timed(figures: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    figures[name] = time.perf_counter() - began


@contextmanager
def _frozen(node: NodeProcess) -> Iterator[None]:
    pids = [node.pid, *node.workers(), node.mesh_process()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _kill(node: NodeProcess) -> None:
    for pid in (node.pid, *node.workers(), node.mesh_process()):
        os.kill(pid, signal.SIGKILL)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + LIMIT_S
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"nothing happened for {LIMIT_S:g} s")
        time.sleep(0.01)


def _usable(entry: NodeProcess) -> int:
    with urllib.request.urlopen(f"{entry.url}/api/p2p/peers", timeout=10) as response:
        body: dict[str, Any] = json.load(response)
    return sum(peer["usable"] for peer in body["peers"])


def _answers(entry: NodeProcess) -> bool:
    body = json.dumps({"model": "tiny", "prompt": "x", "max_tokens": 1}).encode()
    request = urllib.request.Request(f"{entry.url}/v1/completions", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10):
            return True
    except urllib.error.HTTPError:
        return False
