"""Whole files or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from localai.node.atomic_file import commit_partial, replace_file


def test_content_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(path, b"x")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "none" / "a", b"x")


def test_a_partial_file_gets_its_name(tmp_path: Path) -> None:
    partial = tmp_path / "m.partial"
    partial.write_bytes(b"x")
    commit_partial(partial, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == b"x"
    assert not partial.exists()
