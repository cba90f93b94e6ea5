"""The models folder changes under a running node and under its answers."""

from __future__ import annotations

import functools
import json
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from localai.node.testing.node_process import NodeProcess, running_node

pytestmark = pytest.mark.e2e

LIMIT_S = 20.0
EDITS = 4


def models(node: NodeProcess) -> list[str]:
    with urllib.request.urlopen(f"{node.url}/v1/models", timeout=10) as response:
        return [model["id"] for model in json.load(response)["data"]]


def wait(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def complete(node: NodeProcess, model: str) -> dict[str, Any]:
    body = json.dumps({"model": model, "prompt": "a", "max_tokens": 8, "ignore_eos": True}).encode()
    request = urllib.request.Request(f"{node.url}/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def edits_taken_in(node: NodeProcess, count: int) -> bool:
    return node.log.count("models_changed") >= count


def definition(**more: object) -> str:
    return json.dumps({"name": "talker", "parameters": {"model": "tiny.gguf"}} | more)


def test_models_come_and_go_without_a_restart(tmp_path: Path, tiny_model: Path) -> None:
    (folder := tmp_path / "models").mkdir()
    (folder / "first.gguf").symlink_to(tiny_model)
    with running_node(tmp_path) as node:
        assert models(node) == ["first"]
        (folder / "tiny.gguf").symlink_to(tiny_model)
        wait(lambda: models(node) == ["first", "tiny"])
        (folder / "talker.yaml").write_text(definition())
        wait(lambda: models(node) == ["first", "talker"])
        assert complete(node, "talker")["choices"][0]["finish_reason"] == "length"
        (folder / "talker.yaml").unlink()
        (folder / "tiny.gguf").unlink()
        wait(lambda: models(node) == ["first"])
        wait(lambda: node.workers() == [])


def test_a_definition_that_is_edited_while_its_model_is_loaded_and_asked(tmp_path: Path, tiny_model: Path) -> None:
    """Every edit ends the worker and begins another load, some leave the file broken: no request sees any of it."""
    (folder := tmp_path / "models").mkdir()
    (folder / "tiny.gguf").symlink_to(tiny_model)
    (file := folder / "talker.yaml").write_text(definition())
    done = threading.Event()

    def ask(node: NodeProcess) -> list[tuple[str, int]]:
        seen = []
        while not done.is_set():
            answer = complete(node, "talker")
            seen.append((answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]))
        return seen

    with running_node(tmp_path) as node, ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask, node) for _ in range(4)]
        try:
            for number in range(EDITS):
                file.write_text('{"name": "talker", "para')
                time.sleep(0.1)
                file.write_text(definition(context_size=256 + number))
                wait(functools.partial(edits_taken_in, node, number + 1))
        finally:
            done.set()
        answers = [answer for each in asking for answer in each.result(LIMIT_S)]
        assert set(answers) == {("length", 8)}
        wait(lambda: len(node.workers()) == 1)
        assert complete(node, "talker")["choices"][0]["finish_reason"] == "length"
