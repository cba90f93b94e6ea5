from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from localai.mesh.errors import SetupError
from localai.node.argument_hiding import VARIABLE, hide_secrets
from localai.node.arguments import split_command
from localai.node.options import UsageError

PROGRAM = f"""
import json, os, sys
from localai.node.argument_hiding import hide_secrets
from localai.node.arguments import split_command

command, tokens = split_command(sys.argv[1:])
tokens = hide_secrets(command, tokens)
print(json.dumps({{
    "command": command and command.name,
    "tokens": tokens,
    "seen": sys.orig_argv,
    "pid": os.getpid(),
    "variable": os.environ.get({VARIABLE!r}),
    "open": len(os.listdir("/dev/fd")),
}}))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def run(*words: str) -> tuple[dict[str, object], int]:
    """What the program says, and the id of the process that was started."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    said = json.loads(out)
    assert isinstance(said, dict)
    return said, process.pid


@pytest.mark.parametrize(
    ("tokens", "command", "rest", "seen"),
    [
        (["--p2p-token", "T", "phi"], "run", ["--p2p-token", "T", "phi"], ["run", "phi"]),
        (["--api-keys=k", "federated"], "federated", ["--api-keys=k"], ["federated"]),
        (["p2p", "token", "inspect", "T"], "p2p token inspect", ["T"], ["p2p", "token", "inspect"]),
    ],
)
def test_secrets_leave_the_process_list(
    script: Path, tokens: list[str], command: str, rest: list[str], seen: list[str]
) -> None:
    untouched, _ = run(str(script), "phi")
    said, pid = run(str(script), *tokens)
    assert (said["command"], said["tokens"]) == (command, rest)
    assert said["seen"] == [sys.executable, str(script), *seen]
    assert (said["pid"], said["variable"]) == (pid, None)
    assert said["open"] == untouched["open"], "the pipe is closed"


def test_options_of_the_interpreter_stay() -> None:
    said, _ = run("-X", "utf8", "-c", PROGRAM, "--p2p-token=T")
    assert said["tokens"] == ["--p2p-token=T"]
    assert said["seen"] == [sys.executable, "-X", "utf8", "-c", PROGRAM, "run"]


def test_without_secrets_nothing_is_started_anew(script: Path) -> None:
    said, _ = run(str(script), "phi", "--threads", "4")
    assert said["tokens"] == ["phi", "--threads", "4"]
    assert said["seen"] == [sys.executable, str(script), "phi", "--threads", "4"]


def hide(*tokens: str) -> list[str]:
    return hide_secrets(*split_command(tokens))


def test_the_second_program_puts_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, b'[[1, "--p2p-token"], [2, "T"]]')
    os.close(writer)
    monkeypatch.setenv(VARIABLE, str(reader))
    assert hide("run", "phi", "--f16") == ["phi", "--p2p-token", "T", "--f16"]
    assert VARIABLE not in os.environ
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)


@pytest.mark.parametrize("number", ["x", "999999", "-1"])
def test_lost_secrets_are_one_sentence(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setenv(VARIABLE, number)
    with pytest.raises(SetupError, match="got lost on the way"):
        hide("run")
    assert VARIABLE not in os.environ


def test_where_the_script_cannot_be_told_the_arguments_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["localai", "--p2p-token=T"])
    monkeypatch.setattr(sys, "orig_argv", ["embedding-program"])
    assert hide("--p2p-token=T") == ["--p2p-token=T"]


def test_secrets_that_no_pipe_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = f"--api-keys={'k' * 2_000_000}"
    monkeypatch.setattr(sys, "argv", ["localai", secret])
    monkeypatch.setattr(sys, "orig_argv", ["python", "localai", secret])
    open_before = len(os.listdir("/dev/fd"))
    with pytest.raises(UsageError, match="too long"):
        hide(secret)
    assert len(os.listdir("/dev/fd")) == open_before
