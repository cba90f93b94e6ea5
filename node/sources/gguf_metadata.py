"""Everything in front of the weights of a GGUF file, read and checked (pure).

Layout, little-endian, after the 24 bytes of ``gguf_header.py``::

    metadata entries    key: text, type: uint32, value
    tensors             name: text, dimensions: uint32, that many uint64, type: uint32, offset: uint64
    padding             to a multiple of general.alignment (32 if not said)
    weights             tensor offsets count from here

A text is its length in bytes (uint64) and UTF-8; an array is a type (uint32), a count (uint64) and the elements.
Source: the GGUF specification, versions 2 and 3. Sizes of tensor types: ggml's block layouts.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from localai.mesh.errors import ModelLoadFailed
from localai.node.gguf_header import GGUF_HEADER_BYTES, parse_gguf_header

MAX_FRONT_BYTES = 64 << 20
"""Longest part in front of the weights; large vocabularies take about 20 MiB."""
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_KEY_BYTES = 65535
MAX_NAME_BYTES = 63
MAX_ARRAY_DEPTH = 2
BLOCKS: dict[int, tuple[int, int]] = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    15: (256, 292),  # Q8_K
    16: (256, 66),  # IQ2_XXS
    17: (256, 74),  # IQ2_XS
    18: (256, 98),  # IQ3_XXS
    19: (256, 50),  # IQ1_S
    20: (32, 18),  # IQ4_NL
    21: (256, 110),  # IQ3_S
    22: (256, 82),  # IQ2_S
    23: (256, 136),  # IQ4_XS
    24: (1, 1),  # I8
    25: (1, 2),  # I16
    26: (1, 4),  # I32
    27: (1, 8),  # I64
    28: (1, 8),  # F64
    29: (256, 56),  # IQ1_M
    30: (1, 2),  # BF16
    34: (256, 54),  # TQ1_0
    35: (256, 66),  # TQ2_0
    39: (32, 17),  # MXFP4
    40: (64, 36),  # NVFP4
    41: (128, 18),  # Q1_0
}
"""Tensor type -> values in a block, bytes of a block."""

Scalar: TypeAlias = int | float | bool | str
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING = 8
_ARRAY = 9


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor. ``offset`` counts from the start of the weights; ``size`` is in bytes, None for an unknown type."""

    name: str
    dimensions: tuple[int, ...]
    type: int
    offset: int
    size: int | None


@dataclass(frozen=True, slots=True)
class GgufFront:
    """What stands in front of the weights."""

    version: int
    metadata: Mapping[str, Scalar]
    """Entries with one value; arrays are passed over."""
    array_lengths: Mapping[str, int]
    tensors: tuple[Tensor, ...]
    data_start: int
    """Where the weights begin, in bytes from the start of the file."""

    @property
    def architecture(self) -> str:
        """The kind of model; empty when it is not said."""
        value = self.metadata.get("general.architecture", "")
        return value if isinstance(value, str) else ""


def parse_gguf_front(data: bytes, file_bytes: int, name: str) -> GgufFront:
    """The part in front of the weights. ``data`` begins the file, which is ``file_bytes`` long; ``name`` is for errors.

    Give the whole file, or its first :data:`MAX_FRONT_BYTES`.

    Raises:
        ModelLoadFailed: it is damaged, cut off, or not what a converter writes.
    """
    header = parse_gguf_header(data[:GGUF_HEADER_BYTES], file_bytes, name)
    reader = _Reader(data, file_bytes, name)
    metadata: dict[str, Scalar] = {}
    array_lengths: dict[str, int] = {}
    for _entry in range(header.metadata_entries):
        key = reader.text(MAX_KEY_BYTES)
        if not key or key in metadata or key in array_lengths:
            raise reader.damaged(f"has the metadata key {key[:100]!r} twice or without a name")
        kind = reader.uint32()
        if kind == _ARRAY:
            array_lengths[key] = reader.pass_array()
        else:
            metadata[key] = reader.scalar(kind)
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        raise reader.damaged(f"has the impossible alignment {str(alignment)[:50]}")
    tensors = tuple(_read_tensor(reader) for _tensor in range(header.tensors))
    data_start = -(-reader.at // alignment) * alignment
    _check_places(tensors, alignment, file_bytes - data_start, reader)
    return GgufFront(header.version, metadata, array_lengths, tensors, data_start)


def _read_tensor(reader: _Reader) -> Tensor:
    name = reader.text(MAX_NAME_BYTES)
    count = reader.uint32()
    if not name or not 1 <= count <= MAX_DIMENSIONS:
        raise reader.damaged(f"has a tensor {name!r} with {count} dimensions")
    dimensions = tuple(reader.uint64() for _dimension in range(count))
    kind = reader.uint32()
    offset = reader.uint64()
    values = math.prod(dimensions)
    if not 0 < values < 1 << 63:
        raise reader.damaged(f"has the tensor {name!r} of the absurd shape {dimensions}")
    per_block, block_bytes = BLOCKS.get(kind, (1, 0))
    if dimensions[0] % per_block:
        raise reader.damaged(f"has the tensor {name!r}, whose rows are not whole blocks")
    return Tensor(name, dimensions, kind, offset, values // per_block * block_bytes if kind in BLOCKS else None)


def _check_places(tensors: tuple[Tensor, ...], alignment: int, data_bytes: int, reader: _Reader) -> None:
    """Refuse tensors that leave the file, overlap, or share a name."""
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise reader.damaged("has two tensors with the same name")
    end = 0
    for tensor in sorted(tensors, key=lambda each: each.offset):
        if tensor.offset % alignment or tensor.offset < end:
            raise reader.damaged(f"has the tensor {tensor.name!r} at the impossible place {tensor.offset}")
        end = tensor.offset + (tensor.size or 0)
        if end > data_bytes:
            missing = end - data_bytes
            raise reader.damaged(
                f"is cut off: the tensor {tensor.name!r} ends {missing} bytes after the end of the file"
            )


class _Reader:
    """Takes values off the beginning of a file, never past its end."""

    def __init__(self, data: bytes, file_bytes: int, name: str) -> None:
        self._data = data
        self._file_bytes = file_bytes
        self._name = name
        self.at = GGUF_HEADER_BYTES

    def text(self, max_bytes: int) -> str:
        """A short text."""
        length = self.uint64()
        if length > max_bytes:
            raise self.damaged(f"has a name of {length} bytes")
        return self._utf8(length)

    def scalar(self, kind: int) -> Scalar:
        """A value that is no array."""
        if kind == _STRING:
            return self._utf8(self.uint64())
        value: Scalar = struct.unpack_from(f"<{self._format(kind)}", self._data, self._take(self._width(kind)))[0]
        return value

    def pass_array(self, depth: int = 1) -> int:
        """Go past an array; get how many elements it has."""
        kind, count = self.uint32(), self.uint64()
        if kind in (_STRING, _ARRAY):
            if count > len(self._data) - self.at or depth > MAX_ARRAY_DEPTH:
                raise self._short_or("has an array that cannot be")
            for _element in range(count):
                if kind == _STRING:
                    self._take(self.uint64())
                else:
                    self.pass_array(depth + 1)
        else:
            self._take(count * self._width(kind))
        return count

    def uint32(self) -> int:
        """A number."""
        start = self._take(4)
        return int.from_bytes(self._data[start : start + 4], "little")

    def uint64(self) -> int:
        """A number."""
        start = self._take(8)
        return int.from_bytes(self._data[start : start + 8], "little")

    def damaged(self, problem: str) -> ModelLoadFailed:
        """The error for a file that has such a problem."""
        return ModelLoadFailed(f"The model file '{self._name}' {problem}. Download it again.", code="bad_model_file")

    def _utf8(self, length: int) -> str:
        start = self._take(length)
        return self._data[start : start + length].decode("utf-8", "replace")

    def _take(self, count: int) -> int:
        start = self.at
        if count > len(self._data) - start:
            raise self._short_or("is cut off inside its header")
        self.at = start + count
        return start

    def _short_or(self, problem: str) -> ModelLoadFailed:
        if len(self._data) < self._file_bytes:
            problem = f"has more than {len(self._data)} bytes in front of its weights"
        return self.damaged(problem)

    def _format(self, kind: int) -> str:
        if kind not in _NUMBERS:
            raise self.damaged(f"has a metadata value of the unknown type {kind}")
        return _NUMBERS[kind]

    def _width(self, kind: int) -> int:
        return struct.calcsize(f"<{self._format(kind)}")
