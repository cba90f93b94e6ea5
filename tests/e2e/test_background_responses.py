"""Responses in the background outlive their client, and a node that is killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from localai.node.testing.node_process import NodeProcess, running_node

pytestmark = pytest.mark.e2e

LIMIT_S = 60.0


def client(node: NodeProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{node.url}/v1", api_key="k", max_retries=0, timeout=30)


def no_longer(ai: openai.OpenAI, response_id: str, *statuses: str) -> Any:
    deadline = time.monotonic() + LIMIT_S
    found = ai.responses.retrieve(response_id)
    while found.status in statuses:
        assert time.monotonic() < deadline, f"it stays {found.status}"
        time.sleep(0.05)
        found = ai.responses.retrieve(response_id)
    return found


def test_a_killed_node_makes_its_background_responses_when_it_is_back(tmp_path: Path, tiny_model: Path) -> None:
    (folder := tmp_path / "models").mkdir()
    (folder / "tiny.gguf").symlink_to(tiny_model)
    ask: Any = {"model": "tiny", "max_output_tokens": 4, "extra_body": {"ignore_eos": True}}
    with running_node(tmp_path) as node, client(node) as ai:
        first = ai.responses.create(**ask, input="a")
        (worker,) = node.workers()
        os.kill(worker, signal.SIGSTOP)  # it will not be done when the node is killed
        try:
            made = ai.responses.create(**ask, input="b", previous_response_id=first.id, background=True)
            assert made.status == "queued"
            node.send_signal(signal.SIGKILL)
            node.wait()
        finally:
            os.kill(worker, signal.SIGKILL)
    with running_node(tmp_path) as node, client(node) as ai:
        found = no_longer(ai, made.id, "queued", "in_progress")
        assert (found.status, found.previous_response_id) == ("incomplete", first.id)
        assert found.usage.output_tokens == 4
        assert found.usage.input_tokens > first.usage.input_tokens
        last = ai.responses.create(**ask, input="c", previous_response_id=made.id)
        assert last.usage.input_tokens > found.usage.input_tokens
