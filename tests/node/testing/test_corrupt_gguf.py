"""Broken model files, found by their header where that is possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from localai.mesh.errors import ModelLoadFailed
from localai.node.gguf_header import GGUF_HEADER_BYTES, parse_gguf_header
from localai.node.testing.corrupt_gguf import CORRUPTIONS, FOUND_BY_HEADER, Corruption, write_corrupt_gguf


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_each_is_broken_as_it_says(tmp_path: Path, tiny_model: Path, corruption: Corruption) -> None:
    whole = tiny_model.read_bytes()
    data = write_corrupt_gguf(tmp_path / "bad.gguf", corruption, whole).read_bytes()
    assert data != whole
    if corruption in FOUND_BY_HEADER:
        with pytest.raises(ModelLoadFailed):
            parse_gguf_header(data[:GGUF_HEADER_BYTES], len(data), "bad.gguf")
    else:
        assert parse_gguf_header(data[:GGUF_HEADER_BYTES], len(data), "bad.gguf").version == 3
