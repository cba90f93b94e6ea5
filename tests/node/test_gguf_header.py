"""The look at a model file's first bytes."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localai.mesh.errors import ModelLoadFailed
from localai.node.gguf_header import GGUF_HEADER_BYTES, GgufHeader, parse_gguf_header


def _header(version: int = 3, tensors: int = 2, entries: int = 5, order: str = "<") -> bytes:
    return b"GGUF" + struct.pack(f"{order}IQQ", version, tensors, entries)


@pytest.mark.parametrize("version", [2, 3])
def test_a_good_header(version: int) -> None:
    assert parse_gguf_header(_header(version), 1000, "m.gguf") == GgufHeader(version, 2, 5)
    assert len(_header()) == GGUF_HEADER_BYTES


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty. Download it again."),
        (b"<!DOCTYPE html><html>", "it starts with '<!DOCTYPE html><' (a web page, probably saved in its place)."),
        (b"\n<html>", "(a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "(a Git LFS pointer in its place)"),
        (b"PK\x03\x04" + b"\0" * 30, "it starts with the bytes 50 4b 03 04 00"),
        (b"PK\x03\x04" + b"\0" * 30, "(a zip archive)"),
        (b"GGML" + b"\1" * 30, "it starts with 'GGML' (a model in the format before GGUF)"),
        (b"\x00\xff", "it starts with the bytes 00 ff."),
        (b"GGUF\3\0", "ends after 6 bytes, inside its header"),
        (_header(order=">"), "for big-endian machines. Get the little-endian one."),
        (_header(version=1), "old version 1. Convert it, or get a newer one."),
        (_header(version=77), "unknown version 77"),
        (_header(tensors=1 << 40), "damaged header: it claims 1099511627776 tensors and 5"),
        (_header(entries=1 << 40), "damaged header"),
        (_header(tensors=1000), "is cut off: it is 500 bytes long"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, problem: str) -> None:
    with pytest.raises(ModelLoadFailed, match=r"^The model file 'm\.gguf' ") as caught:
        parse_gguf_header(data[:GGUF_HEADER_BYTES], 500, "m.gguf")
    assert problem in caught.value.message
    assert caught.value.code == "bad_model_file"


@given(st.binary(max_size=GGUF_HEADER_BYTES) | st.binary(max_size=20).map(lambda rest: b"GGUF" + rest), st.integers(0))
def test_any_bytes_give_a_header_or_our_error(data: bytes, size: int) -> None:
    with contextlib.suppress(ModelLoadFailed):
        assert parse_gguf_header(data, size, "m").version in (2, 3)
