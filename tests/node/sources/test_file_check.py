"""The look at fetched files."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest

from localai.node.sources.file_check import check_file


def _severities(path: Path, *, allow_pickle: bool = False) -> list[str]:
    return [finding.severity for finding in check_file(path, allow_pickle=allow_pickle)]


def test_a_good_model(tiny_model: Path) -> None:
    assert check_file(tiny_model) == ()
    (finding,) = check_file(tiny_model, name="shown", architectures=["other"])
    assert (finding.severity, "'shown'" in finding.sentence) == ("warn", True)


def test_a_model_that_is_cut_off(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(tiny_model.read_bytes()[:-100])
    (finding,) = check_file(tmp_path / "m.gguf")
    assert "is cut off" in finding.sentence


def test_a_large_vocabulary_is_read_in_a_second_step(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_string("filler", "x" * (5 << 20))
    writer.add_tensor("w", np.zeros(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert check_file(tmp_path / "m.gguf") == ()


def test_pickles(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(pickle.dumps([1], 4))
    assert _severities(tmp_path / "m.gguf") == ["refuse"]
    assert _severities(tmp_path / "m.gguf", allow_pickle=True) == ["warn"]


@pytest.mark.parametrize(("inside", "found"), [("m/data.pkl", ["refuse"]), ("m.txt", [])])
def test_archives(tmp_path: Path, inside: str, found: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr(inside, b"x")
    assert _severities(tmp_path / "m.zip") == found


def test_a_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / "m.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    (finding,) = check_file(tmp_path / "m.zip")
    assert finding.sentence == "The file 'm.zip' is a damaged zip archive."


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert check_file(tmp_path / "empty") == ()
    (tmp_path / "m.gguf").write_bytes(b"<html>")
    assert _severities(tmp_path / "m.gguf") == ["refuse"]
