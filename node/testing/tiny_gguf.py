"""A tiny chat model with random weights, for tests that need volume rather than sense (needs the ``gguf`` package).

llama architecture, two layers, one token per byte: any text tokenizes and comes back unchanged. It babbles printable
ASCII with some two- and three-byte UTF-8 characters, each split over several tokens, and ends its turn now and then.

How random weights are made to babble well: the first hidden dimensions are written by the token embedding only and
never touched by the layers. Dimension 0 is the same for every token, so the output weights on it act as a bias;
dimensions 1 and 2 say that the previous token began a character, so the output weights on them force its rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import gguf
import numpy as np
import numpy.typing as npt

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT_LENGTH = 4096
SPECIAL_TOKENS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
"""Ids 0 to 4; the first ends a turn."""
MERGES = ("t h", "th e", "i n", "Ġ a")
"""Pairs that make tokens of more than one byte, so that the tokenizer's merging is used too."""

_WIDTH = 64
_HEADS = 2
_FEED_FORWARD = 128
_LAYERS = 2
_RESERVED = 3
_BIAS, _EXPECT_MIDDLE, _EXPECT_LAST = range(_RESERVED)
_FORCE = 8.0
_NEVER = -16.0

Array: TypeAlias = npt.NDArray[np.float32]


def write_tiny_gguf(
    path: Path,
    *,
    seed: int = 0,
    end_bias: float = 0.0,
    layers: int = _LAYERS,
    chat_template: str | None = CHAT_TEMPLATE,
) -> Path:
    """Write the model to ``path``, about 0.5 MB; the same arguments give the same bytes. The path comes back.

    ``end_bias`` moves how often it ends its turn: with LocalAI's default sampling, 0 is about once in 700 tokens,
    3 once in 25, -20 never. One thread is fastest.
    """
    writer = gguf.GGUFWriter(path, "llama")
    try:
        _add_shape(writer, seed, layers)
        _add_vocabulary(writer)
        if chat_template is not None:
            writer.add_chat_template(chat_template)
        for name, values in _tensors(np.random.default_rng(seed), end_bias, layers):
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return path


def tokens() -> list[str]:
    """The vocabulary by id, bytes in the spelling of GPT-2: the special tokens, 256 bytes, the merged pairs."""
    return [*SPECIAL_TOKENS, *_byte_spellings(), *(pair.replace(" ", "") for pair in MERGES)]


def _byte_spellings() -> list[str]:
    """One printable character per byte: itself where it is printable, otherwise one from 256 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(rest)) for byte in range(256)]


def _add_shape(writer: gguf.GGUFWriter, seed: int, layers: int) -> None:
    writer.add_name(f"tiny random {seed}")
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    words = tokens()
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL_TOKENS)
    kinds += [gguf.TokenType.NORMAL] * (len(words) - len(SPECIAL_TOKENS))
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)


def _tensors(random: np.random.Generator, end_bias: float, layers: int) -> list[tuple[str, Array]]:
    """Every weight by name, rows are outputs."""

    def matrix(rows: int, columns: int) -> Array:
        weights: Array = (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)
        return weights

    def into_stream(columns: int) -> Array:
        weights = matrix(_WIDTH, columns)
        weights[:_RESERVED] = 0
        return weights

    ones = np.ones(_WIDTH, np.float32)
    tensors = [("token_embd.weight", _embedding(random)), ("output_norm.weight", ones)]
    tensors.append(("output.weight", _output(random, end_bias)))
    for layer in range(layers):
        block = {f"attn_{name}": matrix(_WIDTH, _WIDTH) for name in "qkv"}
        block |= {"attn_output": into_stream(_WIDTH), "attn_norm": ones, "ffn_norm": ones}
        block |= {"ffn_gate": matrix(_FEED_FORWARD, _WIDTH), "ffn_up": matrix(_FEED_FORWARD, _WIDTH)}
        block["ffn_down"] = into_stream(_FEED_FORWARD)
        tensors += [(f"blk.{layer}.{name}.weight", values) for name, values in block.items()]
    return tensors


def _embedding(random: np.random.Generator) -> Array:
    """One row per token."""
    rows = random.standard_normal((len(tokens()), _WIDTH)).astype(np.float32)
    rows[:, :_RESERVED] = 0
    rows[:, _BIAS] = 4.0
    rows[_byte_ids([0xE2]), _EXPECT_MIDDLE] = _FORCE
    rows[_byte_ids([0xC3, *range(0x80, 0xA0)]), _EXPECT_LAST] = _FORCE
    return rows


def _output(random: np.random.Generator, end_bias: float) -> Array:
    """One row per token: how much it wants to come next."""
    rows = (random.standard_normal((len(tokens()), _WIDTH)) * 0.15).astype(np.float32)
    bias = np.full(len(tokens()), _NEVER)
    bias[_byte_ids(range(0x20, 0x7F))] = 0
    bias[_byte_ids(b"etaoinshrdlu \n")] = 1.5
    bias[_byte_ids([0xC3, 0xE2])] = 1.5
    bias[len(SPECIAL_TOKENS) + 256 :] = 0.5
    bias[0] = end_bias
    rows[:, :_RESERVED] = 0
    rows[:, _BIAS] = bias / 3.5  # what dimension 0 is after normalisation
    rows[_byte_ids(range(0x80, 0xA0)), _EXPECT_MIDDLE] = _FORCE
    rows[_byte_ids(range(0xA0, 0xC0)), _EXPECT_LAST] = _FORCE
    return rows


def _byte_ids(values: bytes | range | list[int]) -> list[int]:
    return [len(SPECIAL_TOKENS) + value for value in values]
