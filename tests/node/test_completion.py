from __future__ import annotations

import os
import pty
import re
import select
import stat
import sys
import time
from typing import TYPE_CHECKING

import pytest

from localai.node.completion import SCRIPTS, VARIABLE, complete, join_split_words, render_answer

if TYPE_CHECKING:
    from pathlib import Path


def words(*typed: str) -> list[str]:
    answer = complete(typed)
    assert answer.want == "words"
    return [candidate.text for candidate in answer.candidates]


def test_first_word_is_a_command_or_else_a_file() -> None:
    assert words("") == ["run", "federated", "models", "util", "p2p", "version", "completion"]
    assert words("ver") == ["version"]
    assert complete([]).want == "words"
    assert complete(["./mod"]).want == "files"


def test_options_of_run_are_offered_before_and_after_the_command() -> None:
    assert words("--thr") == ["--threads"]
    assert words("run", "--thr") == ["--threads"]
    assert words("--f16", "--log-") == ["--log-level", "--log-format"]
    assert "-h" in words("-")
    assert "--debug" not in words("--")


def test_other_commands_offer_their_own_options_only() -> None:
    assert words("version", "--") == ["--log-level", "--log-format", "--help"]


def test_groups_offer_what_they_hold() -> None:
    assert words("p2p", "") == ["token"]
    assert words("p2p", "token", "") == ["new", "inspect", "qr"]
    assert words("--log-level", "debug", "p2p", "token", "i") == ["inspect"]
    assert words("p2p", "token", "--") == ["--log-level", "--log-format", "--help"]
    assert words("p2p", "token", "new", "--p2p-o") == ["--p2p-otp-interval"]
    assert words("p2p", "token", "x") == []
    assert complete(["p2p", "token", "nwe", ""]).want == "nothing"
    assert complete(["p2p", "token", "new", ""]).want == "nothing"


def test_a_secret_argument_is_no_file() -> None:
    assert complete(["p2p", "token", "inspect", ""]).want == "nothing"


def test_old_names_are_not_offered() -> None:
    assert words("--p2pt") == []
    assert words("--p2p-token") == ["--p2p-token", "--p2p-token-file"]


def test_values() -> None:
    assert words("--log-format", "") == ["default", "text", "json"]
    assert words("run", "--log-level=d") == ["debug"]
    assert words("--f16=") == ["true", "false"]
    assert complete(["--models-path", ""]).want == "dirs"
    assert complete(["run", "--data-path=./d"]).want == "dirs"
    assert complete(["--p2p-token-file", ""]).want == "files"
    assert complete(["p2p", "token", "qr", "--output=./c"]).want == "files"
    assert complete(["--threads", ""]).want == "nothing"
    assert words("--nonsense=x") == []


def test_a_bool_waits_for_no_value() -> None:
    assert words("--f16", "") == ["run", "federated", "models", "util", "p2p", "version", "completion"]


def test_arguments() -> None:
    assert words("completion", "") == ["bash", "zsh", "fish"]
    assert words("completion", "z") == ["zsh"]
    assert words("--log-level", "debug", "completion", "f") == ["fish"]
    assert complete(["completion", "bash", ""]).want == "nothing"
    assert complete(["version", ""]).want == "nothing"
    assert complete(["run", ""]).want == "files"
    assert complete(["run", "a", ""]).want == "files"
    assert complete(["a", ""]).want == "files"
    assert complete(["run", "--", "--thr"]).want == "files"
    assert complete(["--nonsense", ""]).want == "nothing"


def test_rendered_for_each_shell() -> None:
    answer = complete(["--thr"])
    assert render_answer(answer, "bash") == "words\n--threads\n"
    assert render_answer(answer, "zsh").startswith("words\n--threads:Threads that compute")
    assert render_answer(answer, "fish").startswith("words\n--threads\tThreads that compute")
    assert render_answer(complete(["--models-path", ""]), "zsh") == "dirs\n"


def test_words_cut_by_bash_are_joined() -> None:
    assert join_split_words(["--log-level", "=", "de"]) == ["--log-level=de"]
    assert join_split_words(["--log-level", "=", ""]) == ["--log-level="]
    assert join_split_words(["--log-level", "="]) == ["--log-level="]
    assert join_split_words(["--f16", "a", "="]) == ["--f16", "a", "="]
    assert join_split_words(["=", "--x=1", "b"]) == ["=", "--x=1", "b"]
    assert join_split_words([]) == []


def test_scripts_ask_through_the_variable_and_know_both_names() -> None:
    for script in SCRIPTS.values():
        assert VARIABLE in script
        assert "local-ai" in script


# The real shells, typed at through a terminal


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the program on its path, the scripts, and something to complete."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "localai"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m localai.node.cli "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "unusual-folder").mkdir()
    (tmp_path / "unusual-model.gguf").write_text("")
    for shell, script in SCRIPTS.items():
        (tmp_path / f"script.{shell}").write_text(script)
    return tmp_path


def completed(home: Path, command: list[str], source: str, typed: str) -> str:
    """What the shell makes of the typed text and a tab: the line is then echoed instead of run."""
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover  # another process
        os.chdir(home)
        keep = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ}
        path = f"{home}/bin:{os.environ['PATH']}"
        os.execvpe(command[0], command, {**keep, "PATH": path, "HOME": str(home), "TERM": "dumb", "PS1": "> "})
    try:
        os.write(terminal, f"{source}; echo READ''Y\r".encode())
        _read_until(terminal, "READY")
        os.write(terminal, f'{typed}\t\x01echo "GO""T<\x05>"\r'.encode())
        return _read_until(terminal, "GOT<([^>]*)>").strip()
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def _read_until(terminal: int, pattern: str) -> str:
    """The last group of the pattern, once it has been read."""
    seen, deadline = "", time.monotonic() + 20
    while not (match := re.search(pattern, seen)):
        left = deadline - time.monotonic()
        assert left > 0, f"the shell did not answer; it said {seen!r}"
        if select.select([terminal], [], [], left)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
    return match[match.lastindex or 0]


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("localai --log-f", "localai --log-format"),
        ("localai comp", "localai completion"),
        ("localai p2p token insp", "localai p2p token inspect"),
        ("localai p2p t", "localai p2p token"),
        ("localai --p2p-token-file ./unusual-m", "localai --p2p-token-file ./unusual-model.gguf"),
        ("localai run --log-format js", "localai run --log-format json"),
        ("localai --log-format=js", "localai --log-format=json"),
        ("localai --models-path ./unu", "localai --models-path ./unusual-folder"),
        ("localai --models-path=./unu", "localai --models-path=./unusual-folder"),
        ("localai run ./unusual-m", "localai run ./unusual-model.gguf"),
    ],
)
def test_bash_completes(home: Path, typed: str, line: str) -> None:
    """zsh and fish are tried by hand (docs/evidence.md): they are not on every machine that runs the tests."""
    bash = ["bash", "--norc", "--noprofile", "-i"]
    assert completed(home, bash, "source ./script.bash", typed).rstrip("/") == line
