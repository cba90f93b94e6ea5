"""What stands in front of weights."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import ModelLoadFailed
from localai.node.sources.gguf_metadata import BLOCKS, GgufFront, parse_gguf_front


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _tensor(name: str, dimensions: tuple[int, ...], kind: int, offset: int) -> bytes:
    return _text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)


ARCHITECTURE = _entry("general.architecture", 8, _text("llama"))
WEIGHTS = _tensor("w", (32,), 0, 0)


def _file(entries: list[bytes], tensors: list[bytes], data_bytes: int = 4096, version: int = 3) -> bytes:
    front = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)) + b"".join([*entries, *tensors])
    return front + bytes(-len(front) % 32) + bytes(data_bytes)


def _parse(data: bytes) -> GgufFront:
    return parse_gguf_front(data, len(data), "m.gguf")


def test_a_whole_file() -> None:
    entries = [
        ARCHITECTURE,
        _entry("a.u8", 0, b"\xff"),
        _entry("a.i32", 5, struct.pack("<i", -5)),
        _entry("a.bool", 7, b"\1"),
        _entry("a.f64", 12, struct.pack("<d", 0.5)),
        _entry("a.texts", 9, struct.pack("<IQ", 8, 2) + _text("x") + _text("")),
        _entry("a.numbers", 9, struct.pack("<IQ", 4, 3) + bytes(12)),
        _entry("a.nested", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 0, 4) + bytes(4)),
    ]
    data = _file(entries, [_tensor("b", (256, 2), 12, 128), WEIGHTS])
    front = _parse(data)
    assert front.architecture == "llama"
    assert front.metadata == {"general.architecture": "llama", "a.u8": 255, "a.i32": -5, "a.bool": True, "a.f64": 0.5}
    assert front.array_lengths == {"a.texts": 2, "a.numbers": 3, "a.nested": 1}
    assert [(tensor.name, tensor.size) for tensor in front.tensors] == [("b", 288), ("w", 128)]
    assert front.data_start == len(data) - 4096


def test_a_file_by_the_reference_writer(tiny_model: Path) -> None:
    data = tiny_model.read_bytes()
    front = _parse(data)
    reader = gguf.GGUFReader(tiny_model)
    assert front.data_start == reader.data_offset
    assert [(each.name, each.size, front.data_start + each.offset) for each in front.tensors] == [
        (each.name, int(each.n_bytes), int(each.data_offset)) for each in reader.tensors
    ]


def test_block_sizes_are_those_of_ggml() -> None:
    theirs = {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items() if kind.name != "Q8_1"}
    assert {kind: BLOCKS.get(kind) for kind in theirs} == theirs


def test_an_unknown_type_has_no_size() -> None:
    assert _parse(_file([ARCHITECTURE], [_tensor("w", (7,), 999, 0)])).tensors[0].size is None


def test_no_architecture_and_another_alignment() -> None:
    front = _parse(_file([_entry("general.alignment", 4, struct.pack("<I", 64))], [_tensor("w", (32,), 0, 64)]))
    assert front.architecture == ""
    assert front.data_start % 64 == 0
    assert _parse(_file([_entry("general.architecture", 4, bytes(4))], [WEIGHTS])).architecture == ""


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"no", "is not a GGUF file"),
        (_file([ARCHITECTURE, ARCHITECTURE], [WEIGHTS]), "the metadata key 'general.architecture' twice"),
        (_file([_entry("", 7, b"\0")], [WEIGHTS]), "or without a name"),
        (_file([_entry("x" * 70_000, 7, b"\0")], [WEIGHTS]), "a name of 70000 bytes"),
        (_file([_entry("x", 77, b"\0")], [WEIGHTS]), "a metadata value of the unknown type 77"),
        (_file([_entry("x", 9, struct.pack("<IQ", 77, 1))], [WEIGHTS]), "a metadata value of the unknown type 77"),
        (_file([_entry("x", 9, struct.pack("<IQ", 8, 1 << 40))], [WEIGHTS]), "an array that cannot be"),
        (_file([_entry("x", 9, struct.pack("<IQ", 9, 1) * 3)], [WEIGHTS]), "an array that cannot be"),
        (_file([_entry("x", 9, struct.pack("<IQ", 4, 1 << 60))], [WEIGHTS]), "is cut off inside its header"),
        (_file([_entry("x", 8, struct.pack("<Q", 1 << 63))], [WEIGHTS]), "is cut off inside its header"),
        (_file([_entry("general.alignment", 4, bytes(4))], [WEIGHTS]), "the impossible alignment 0"),
        (_file([_entry("general.alignment", 4, struct.pack("<I", 48))], [WEIGHTS]), "the impossible alignment 48"),
        (_file([_entry("general.alignment", 8, _text("32"))], [WEIGHTS]), "the impossible alignment 32"),
        (_file([], [_tensor("", (1,), 0, 0)]), "has a tensor '' with 1 dimensions"),
        (_file([], [_tensor("w", (), 0, 0)]), "has a tensor 'w' with 0 dimensions"),
        (_file([], [_tensor("w", (1,) * 5, 0, 0)]), "has a tensor 'w' with 5 dimensions"),
        (_file([], [_tensor("x" * 64, (1,), 0, 0)]), "a name of 64 bytes"),
        (_file([], [_tensor("w", (0, 4), 0, 0)]), "of the absurd shape (0, 4)"),
        (_file([], [_tensor("w", (1 << 40, 1 << 40), 0, 0)]), "of the absurd shape"),
        (_file([], [_tensor("w", (100,), 12, 0)]), "whose rows are not whole blocks"),
        (_file([], [WEIGHTS, WEIGHTS]), "two tensors with the same name"),
        (_file([], [_tensor("w", (1,), 0, 7)]), "the tensor 'w' at the impossible place 7"),
        (_file([], [WEIGHTS, _tensor("v", (32,), 0, 64)]), "the tensor 'v' at the impossible place 64"),
        (_file([], [_tensor("w", (1024,), 0, 32)]), "the tensor 'w' ends 32 bytes after the end of the file"),
        (_file([], [_tensor("w", (1,), 999, 1 << 20)]), "after the end of the file"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, problem: str) -> None:
    with pytest.raises(ModelLoadFailed, match=r"^The model file 'm\.gguf' .*\.$") as caught:
        _parse(data)
    assert problem in caught.value.message
    assert caught.value.code == "bad_model_file"


def test_a_part_of_the_file_is_enough_if_it_has_the_front() -> None:
    data = _file([ARCHITECTURE], [WEIGHTS])
    assert parse_gguf_front(data[:200], len(data), "m").tensors[0].name == "w"
    with pytest.raises(ModelLoadFailed, match="has more than 40 bytes in front of its weights"):
        parse_gguf_front(data[:40], len(data), "m")


@given(st.data())
def test_any_damage_is_our_error_or_goes_unseen(data: st.DataObject) -> None:
    whole = bytearray(_file([ARCHITECTURE, _entry("t", 9, struct.pack("<IQ", 8, 1) + _text("x"))], [WEIGHTS], 128))
    for _change in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 129))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(whole)))
    with suppress(ModelLoadFailed):
        front = parse_gguf_front(bytes(whole[:end]), end, "m")
        assert all(front.data_start + tensor.offset + (tensor.size or 0) <= end for tensor in front.tensors)
