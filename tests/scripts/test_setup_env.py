"""What of an environment is trusted. Making one is what set-up does."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import setup_env  # noqa: E402  # scripts are not a package
from setup_steps import held_locks, run_logged  # noqa: E402


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished environment, as far as set-up looks at it."""
    folder = tmp_path / ".venv"
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "localai"
    program.touch()
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c pass\n')
    python.chmod(0o755)
    clients = tmp_path / "clients"
    (clients / "node_modules").mkdir(parents=True)
    (clients / "node_modules" / ".package-lock.json").touch()
    monkeypatch.setattr(setup_env, "CLIENTS", clients)
    places = {"ROOT": tmp_path, "VENV": folder, "STAMP": folder / "stamp.json", "UNFINISHED": folder / "unfinished"}
    for name, path in {**places, "PYTHON": python, "PROGRAM": program}.items():
        monkeypatch.setattr(setup_env, name, path)
    setup_env.write_stamp({"fingerprint": "now", "test": False, "root": str(tmp_path)})
    return folder


def test_a_finished_environment_is_left_alone(environment: Path) -> None:
    assert setup_env.is_current("now", False)
    assert setup_env.can_be_updated()
    assert not setup_env.is_current("later", False)
    assert not setup_env.is_current("now", True)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_damaged_stamp_counts_as_none(environment: Path, text: str) -> None:
    setup_env.STAMP.write_bytes(text.encode("latin-1"))
    assert setup_env.read_stamp() == {}
    assert not setup_env.is_current("now", False)


@pytest.mark.parametrize("gone", ["PYTHON", "PROGRAM"])
def test_a_missing_program_is_noticed(environment: Path, gone: str) -> None:
    getattr(setup_env, gone).unlink()
    assert not setup_env.is_current("now", False)


def test_missing_clients_are_noticed_where_tests_run(environment: Path) -> None:
    setup_env.write_stamp({"fingerprint": "now", "test": True, "root": str(environment.parent)})
    assert setup_env.is_current("now", True)
    (setup_env.CLIENTS / "node_modules" / ".package-lock.json").unlink()
    assert setup_env.is_current("now", False)
    assert not setup_env.is_current("now", True)


def test_the_lock_of_the_clients_names_no_place() -> None:
    lock = json.loads((SCRIPTS.parent / "tests" / "clients" / "package-lock.json").read_text())
    packages = [package for name, package in lock["packages"].items() if name]
    assert packages
    assert all("resolved" not in package and package["integrity"].startswith("sha512-") for package in packages)


def test_an_interrupted_environment_is_made_again(environment: Path) -> None:
    setup_env.UNFINISHED.touch()
    assert not setup_env.can_be_updated()


def test_a_moved_environment_is_made_again(environment: Path) -> None:
    setup_env.write_stamp({"root": "/somewhere/else"})
    assert not setup_env.can_be_updated()


def test_an_environment_whose_python_broke_is_made_again(environment: Path) -> None:
    setup_env.PYTHON.write_text("#!/bin/sh\nexit 1\n")
    assert not setup_env.can_be_updated()


def test_a_discarded_environment_is_gone(environment: Path) -> None:
    setup_env.discard_environment()
    assert list(environment.parent.iterdir()) == [setup_env.CLIENTS]
    setup_env.discard_environment()


def test_the_copied_library_can_be_deleted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "cached"
    source.mkdir()
    (source / "libllama.so.0").write_bytes(b"code")
    (source / "libllama.so").symlink_to("libllama.so.0")
    source.chmod(0o555)
    monkeypatch.setattr(setup_env, "LIBRARY", tmp_path / "share" / "libllama")
    setup_env.copy_library(source)
    source.chmod(0o755)
    assert (setup_env.LIBRARY / "libllama.so").is_symlink()
    assert (setup_env.LIBRARY / "libllama.so").read_bytes() == b"code"
    assert setup_env.LIBRARY.stat().st_mode & 0o200


def test_the_lock_is_held_by_what_we_run(environment: Path) -> None:
    program = "import fcntl, os, sys; fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with setup_env.only_one():
        (descriptor,) = held_locks
        run_logged([sys.executable, "-c", program, str(descriptor)], "The lock was not passed on")
        other = os.open(environment.parent, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
    assert held_locks == set()


def test_an_incomplete_clone_is_one_sentence(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("setup_env.py", "setup_steps.py", "build_libllama.py"):
        (scripts / name).write_bytes((SCRIPTS / name).read_bytes())
    command = [sys.executable, str(scripts / "setup_env.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Setting up failed, No such file or directory:")


def test_tests_need_tools_for_a_lan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(setup_env, "_SYSTEM_PATH", str(tmp_path))
    assert not {"ip", "unshare"} & set(setup_env.missing_parts(False))
    assert {"ip", "unshare"} <= set(setup_env.missing_parts(True))
    for tool in ("ip", "unshare"):
        (tmp_path / tool).touch(mode=0o755)
    assert not {"ip", "unshare"} & set(setup_env.missing_parts(True))


def test_tests_need_postgresql(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(setup_env, "_SYSTEM_PATH", str(tmp_path))
    monkeypatch.setattr(setup_env, "_POSTGRES", tmp_path)
    assert "postgres" not in setup_env.missing_parts(False)
    assert "postgres" in setup_env.missing_parts(True)
    (tmp_path / "15" / "bin").mkdir(parents=True)
    (tmp_path / "15" / "bin" / "initdb").touch(mode=0o755)
    assert "postgres" not in setup_env.missing_parts(True)
