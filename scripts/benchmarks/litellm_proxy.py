"""LiteLLM's proxy before a server that speaks OpenAI's API, in an environment of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pinned_environment import pinned_environment

REQUIREMENTS = Path(__file__).parent / "requirements-litellm.lock"
START_S = 240.0


@contextmanager
def litellm_proxy(backend_port: int) -> Iterator[tuple[psutil.Process, int]]:
    """Process and port of a proxy that sends model ``m`` on to the backend.

    Raises:
        TimeoutError: it does not start.
    """
    parameters = {"model": "openai/m", "api_base": f"http://127.0.0.1:{backend_port}/v1", "api_key": "unused"}
    config = {
        "model_list": [{"model_name": "m", "litellm_params": parameters}],
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},  # as ours: no keys
    }
    program = pinned_environment(REQUIREMENTS) / "bin" / "litellm"
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        file.write_text(json.dumps(config))
        place = ["--host", "127.0.0.1", "--port", str(port)]
        words = [str(program), "--config", str(file), *place, "--telemetry", "False"]
        process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait(port)
            yield psutil.Process(process.pid), port
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _question(port: int) -> urllib.request.Request:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    headers = {"Content-Type": "application/json"}
    return urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), headers)


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(_question(port), timeout=30):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError("LiteLLM's proxy does not start.") from None
            time.sleep(0.2)
