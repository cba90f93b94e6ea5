from __future__ import annotations

import os
from pathlib import Path

import pytest

from localai.node import model_files
from localai.node.model_config import ModelConfig
from localai.node.model_details import ModelDetails
from localai.node.model_files import ModelFiles


async def test_a_model_file_is_read_once_until_it_changes(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.gguf").write_bytes(tiny_model.read_bytes())
    os.utime(tmp_path / "m.gguf", (1000, 1000))
    files, config = ModelFiles(tmp_path), ModelConfig("m", "m.gguf")
    found = await files.look_at(config)
    assert found is not None
    assert (found.size_bytes, found.modified_s) == (tiny_model.stat().st_size, 1000)
    assert found.details.family == "llama"
    assert found.details.parameters > 0
    assert await files.look_at(config) is found
    monkeypatch.setattr(model_files, "MAX_KNOWN", 1)
    (tmp_path / "n.gguf").write_bytes(b"no model")
    other = await files.look_at(ModelConfig("n", "n.gguf"))
    assert other is not None
    assert (other.size_bytes, other.details) == (8, ModelDetails())
    again = await files.look_at(config)
    assert again == found
    assert again is not found
    (tmp_path / "m.gguf").write_bytes(b"no model either")
    changed = await files.look_at(config)
    assert changed is not None
    assert changed.details == ModelDetails()


async def test_a_long_front_is_read_further(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "_READS", (30, 1 << 24))
    found = await ModelFiles(tiny_model.parent).look_at(ModelConfig("m", tiny_model.name))
    assert found is not None
    assert found.details.family == "llama"
    monkeypatch.setattr(model_files, "_READS", (30, 40))
    found = await ModelFiles(tiny_model.parent).look_at(ModelConfig("m", tiny_model.name))
    assert found is not None
    assert found.details == ModelDetails()


async def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    files = ModelFiles(tmp_path)
    for name in ("missing.gguf", "pipe.gguf", "."):
        assert await files.look_at(ModelConfig("m", name)) is None
