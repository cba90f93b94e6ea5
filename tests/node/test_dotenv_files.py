from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from localai.node.dotenv_files import Problem, env_files, load


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    cwd, home = tmp_path / "cwd", tmp_path / "home"
    cwd.mkdir()
    (home / ".config").mkdir(parents=True)
    for name in ("TEST_A", "TEST_B", "TEST_C", "TEST_D"):
        monkeypatch.setenv(name, "to be removed again")
        monkeypatch.delenv(name)
    return cwd, home


def test_order_of_files() -> None:
    assert [str(path) for path in env_files(Path("/c"), Path("/h"))] == [
        "/c/.env", "/c/localai.env", "/h/localai.env", "/h/.config/localai.env", "/etc/localai.env",
    ]  # fmt: skip


def test_earlier_file_wins_and_the_environment_wins_over_all(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cwd, home = places
    monkeypatch.setenv("TEST_A", "real")
    (cwd / ".env").write_text("TEST_A=1\nTEST_B=1 # note\n")
    (cwd / "localai.env").write_text("export TEST_B=2\nTEST_C='two words'\n")
    (home / ".config" / "localai.env").write_text("TEST_C=3\nTEST_D=${TEST_A}-3\n")
    assert load(cwd, home) == []
    assert {name: os.environ[name] for name in ("TEST_A", "TEST_B", "TEST_C", "TEST_D")} == {
        "TEST_A": "real", "TEST_B": "1", "TEST_C": "two words", "TEST_D": "real-3",
    }  # fmt: skip


def test_missing_files_are_no_problem(places: tuple[Path, Path]) -> None:
    assert load(*places) == []


def test_a_broken_line_is_reported_and_the_rest_used(
    places: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    cwd, home = places
    (cwd / ".env").write_text("a broken line here\nTEST_A=1\n")
    with caplog.at_level(logging.DEBUG):
        (problem,) = load(cwd, home)
    assert problem.path == cwd / ".env"
    assert "line 1" in problem.reason
    assert os.environ["TEST_A"] == "1"
    assert caplog.records == []


def test_an_unreadable_file_is_skipped(places: tuple[Path, Path]) -> None:
    cwd, home = places
    (cwd / ".env").write_bytes(b"TEST_A=\xff\xfe\n")
    (cwd / "localai.env").write_text("TEST_B=1\n")
    assert load(cwd, home) == [Problem(cwd / ".env", "skipped: UnicodeDecodeError")]
    assert os.environ["TEST_B"] == "1"
