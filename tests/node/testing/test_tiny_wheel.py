"""Wheels for tests that pip accepts (it does so in the tests of the gallery)."""

from __future__ import annotations

import zipfile
from pathlib import Path

from localai.node.testing.tiny_wheel import tiny_entry, write_tiny_wheel


def test_a_wheel_holds_its_files_and_a_record_of_all(tmp_path: Path) -> None:
    path = write_tiny_wheel(tmp_path, "some-model", "1.0", {"a/b": b"x"})
    assert path.name == "some_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        record = wheel.read("some_model-1.0.dist-info/RECORD").decode()
        assert wheel.read("a/b") == b"x"
        assert {line.split(",")[0] for line in record.splitlines()} == set(wheel.namelist())


def test_an_entry_describes_its_wheel(tmp_path: Path) -> None:
    entry = tiny_entry(tmp_path, b"model", "m")
    assert entry.definition.model_file == entry.files[0].filename == "m.gguf"
    assert entry.download_bytes == next(tmp_path.glob("*.whl")).stat().st_size
