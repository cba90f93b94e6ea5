from __future__ import annotations

from localai.node.gguf_report import render_gguf
from localai.node.sources.gguf_metadata import GgufFront

FRONT = GgufFront(
    version=3,
    metadata={
        "general.architecture": "llama",
        "general.name": "A\x1b[31mB",
        "llama.context_length": 512,
        "tokenizer.chat_template": "x\n" * 300,
    },
    array_lengths={"tokenizer.ggml.tokens": 7},
    tensors=(),
    data_start=0,
)


def test_what_is_told() -> None:
    lines = render_gguf(FRONT, "m.gguf", 9, header=False).splitlines()
    assert lines[:6] == [
        "file: m.gguf", "size: 9 bytes", "gguf version: 3", "name: A\\x1b[31mB", "architecture: llama",
        "context length: 512",
    ]  # fmt: skip
    assert "tokens: 7" in lines
    assert lines[-1].startswith("chat template: x\\nx\\n")
    assert lines[-1].endswith("...")


def test_the_whole_header() -> None:
    text = render_gguf(FRONT, "m.gguf", 9, header=True)
    assert "metadata llama.context_length: 512\n" in text
    assert "metadata tokenizer.ggml.tokens: 7 values\n" in text
