"""What may be wrong with a GGUF file that can be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from localai.node.sources.gguf_check import check_gguf

Change = Callable[[gguf.GGUFWriter], None]


def _written(folder: Path, *changes: Change, architecture: str = "llama", weights: bool = True) -> bytes:
    writer = gguf.GGUFWriter(folder / "m.gguf", architecture)
    for change in changes:
        change(writer)
    if weights:
        writer.add_tensor("w", np.zeros(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "m.gguf").read_bytes()


def _found(data: bytes, architectures: frozenset[str] | None = None) -> list[tuple[str, str]]:
    return [(each.severity, each.sentence) for each in check_gguf(data, len(data), "m", architectures)]


def test_a_good_file(tmp_path: Path, tiny_model: Path) -> None:
    assert (
        _found(_written(tmp_path, lambda w: w.add_chat_template("{{ messages[0].content }}")), frozenset({"llama"}))
        == []
    )
    assert _found(tiny_model.read_bytes()) == []


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        (lambda w: w.add_block_count(100_000), "refuse", "claims the absurd block_count 100000."),
        (lambda w: w.add_int32("llama.context_length", -1), "refuse", "claims the absurd context_length -1."),
        (lambda w: w.add_string("llama.vocab_size", "many"), "refuse", "claims the absurd vocab_size many."),
        (lambda w: w.add_chat_template("{{ x.__class__ }}"), "refuse", "The chat template of 'm' reaches for"),
        (lambda w: w.add_string("tokenizer.chat_template.tools", "{{ x.mro }}"), "refuse", "reaches for"),
    ],
)
def test_what_is_found(tmp_path: Path, change: Change, severity: str, words: str) -> None:
    ((found, sentence),) = _found(_written(tmp_path, change))
    assert found == severity
    assert words in sentence


def test_architectures(tmp_path: Path) -> None:
    ((severity, sentence),) = _found(_written(tmp_path, architecture="mystery"), frozenset({"llama"}))
    assert (severity, "architecture mystery, which no engine here" in sentence) == ("warn", True)
    ((severity, sentence),) = _found(_written(tmp_path, architecture="a b"))
    assert (severity, "does not say which architecture" in sentence) == ("refuse", True)


def test_no_weights(tmp_path: Path) -> None:
    ((severity, sentence),) = _found(_written(tmp_path, weights=False))
    assert (severity, "has no weights" in sentence) == ("refuse", True)
    assert _found(_written(tmp_path, lambda w: w.add_string("general.type", "vocab"), weights=False)) == []


def test_damage_and_unknown_types(tmp_path: Path) -> None:
    data = _written(tmp_path)
    assert [severity for severity, _ in _found(data[:-16])] == ["refuse"]
    unknown = data.replace(b"\x20\0\0\0\0\0\0\0\0\0\0\0", b"\x20\0\0\0\0\0\0\0\xe7\x03\0\0")
    assert _found(unknown) == [
        ("warn", "The model file 'm' has tensors of the unknown types 999; their sizes were not checked.")
    ]
