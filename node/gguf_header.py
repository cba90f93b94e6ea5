"""The first bytes of a model file, checked before a worker is started for it (pure).

A GGUF file begins with 24 bytes: ``GGUF``, version (uint32), number of tensors (uint64), number of metadata entries
(uint64), little-endian unless the file was made for a big-endian machine.
Source: the GGUF specification, versions 2 and 3.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from localai.mesh.errors import ModelLoadFailed

GGUF_HEADER_BYTES = 24
"""How many first bytes :func:`parse_gguf_header` wants; fewer are given only when the file is shorter."""
MAX_TENSORS = 1 << 20
MAX_METADATA_ENTRIES = 1 << 20
_VERSIONS = (2, 3)
_PRINTABLE = re.compile(rb"[ -~]{4,}")
_MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # name length, name, dimensions, one dimension, type, offset
_MIN_ENTRY_BYTES = 8 + 1 + 4 + 1  # key length, key, type, smallest value


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the first bytes say."""

    version: int
    tensors: int
    metadata_entries: int


def parse_gguf_header(data: bytes, file_bytes: int, name: str) -> GgufHeader:
    """The header in the first :data:`GGUF_HEADER_BYTES` of a file that is ``file_bytes`` long; ``name`` is for errors.

    Raises:
        ModelLoadFailed: this is no GGUF file, or one that cannot be whole.
    """
    if not data:
        raise _broken(name, "is empty")
    if data[:4] != b"GGUF":
        raise _broken(name, f"is not a GGUF file: it starts with {_shown(data[:16])}{_guess(data)}")
    if len(data) < GGUF_HEADER_BYTES:
        raise _broken(name, f"ends after {len(data)} bytes, inside its header")
    version, tensors, entries = struct.unpack_from("<IQQ", data, 4)
    if version not in _VERSIONS:
        raise _unusable_version(name, version)
    if tensors > MAX_TENSORS or entries > MAX_METADATA_ENTRIES:
        raise _broken(name, f"has a damaged header: it claims {tensors} tensors and {entries} metadata entries")
    smallest = GGUF_HEADER_BYTES + tensors * _MIN_TENSOR_BYTES + entries * _MIN_ENTRY_BYTES
    if file_bytes < smallest:
        raise _broken(name, f"is cut off: it is {file_bytes} bytes long, but its header alone needs {smallest}")
    return GgufHeader(version, tensors, entries)


def _unusable_version(name: str, version: int) -> ModelLoadFailed:
    if int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS:
        return _broken(name, "is a GGUF file for big-endian machines", next_step="Get the little-endian one.")
    if version == 1:
        return _broken(name, "is a GGUF file of the old version 1", next_step="Convert it, or get a newer one.")
    return _broken(name, f"is a GGUF file of the unknown version {version}")


def _broken(name: str, problem: str, next_step: str = "Download it again.") -> ModelLoadFailed:
    return ModelLoadFailed(f"The model file '{name}' {problem}. {next_step}", code="bad_model_file")


def _shown(data: bytes) -> str:
    match = _PRINTABLE.match(data)
    return f"'{match[0].decode()}'" if match else f"the bytes {data.hex(' ')}"


def _guess(data: bytes) -> str:
    start = data[:GGUF_HEADER_BYTES].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return " (a web page, probably saved in its place)"
    if start.startswith(b"version https://git"):
        return " (a Git LFS pointer in its place)"
    if start.startswith(b"pk\x03\x04"):
        return " (a zip archive)"
    if start.startswith((b"ggml", b"lmgg", b"tjgg")):
        return " (a model in the format before GGUF)"
    return ""
