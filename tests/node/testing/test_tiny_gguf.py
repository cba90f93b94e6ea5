"""The tiny model: the same every time, and good enough for llama.cpp."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from localai.node.gguf_header import GGUF_HEADER_BYTES, parse_gguf_header
from localai.node.testing.tiny_gguf import CONTEXT_LENGTH, SPECIAL_TOKENS, tokens, write_tiny_gguf


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    first, again, other = (
        write_tiny_gguf(tmp_path / name, seed=seed).read_bytes() for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again
    assert first != other
    assert len(first) < 1_000_000
    assert parse_gguf_header(first[:GGUF_HEADER_BYTES], len(first), "a").version == 3


def test_its_metadata(tiny_model: Path) -> None:
    fields = gguf.GGUFReader(tiny_model).fields
    assert fields["general.architecture"].contents() == "llama"
    assert fields["llama.context_length"].contents() == CONTEXT_LENGTH
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 0


def test_every_token_is_there_once() -> None:
    words = tokens()
    assert len(words) == len(set(words)) == len(SPECIAL_TOKENS) + 256 + 4


_ENGINE = r"""
import ctypes, sys
import numpy as np
from localai.node.workers.llama.library import import_llama_cpp

lib = import_llama_cpp()

path, steps = sys.argv[1].encode(), int(sys.argv[2])
quiet = lib.llama_log_callback(lambda level, text, data: None)
lib.llama_log_set(quiet, None)
lib.llama_backend_init()
model = lib.llama_model_load_from_file(path, lib.llama_model_default_params())
settings = lib.llama_context_default_params()
settings.n_ctx = settings.n_batch = 1024
settings.n_threads = settings.n_threads_batch = 1
context = lib.llama_init_from_model(model, settings)
vocab = lib.llama_model_get_vocab(model)
size = lib.llama_vocab_n_tokens(vocab)
piece_buffer = ctypes.create_string_buffer(64)

def tokenize(data, special):
    ids = (lib.llama_token * (len(data) + 8))()
    return ids[: lib.llama_tokenize(vocab, data, len(data), ids, len(ids), False, special)]

def piece(token):
    count = lib.llama_token_to_piece(vocab, token, piece_buffer, 64, 0, True)
    return piece_buffer.raw[:count]

random = np.random.default_rng(0)
for _ in range(300):
    text = "".join(chr(c) for c in random.choice([*range(127), *range(0xA0, 0x800), *range(0x1F300, 0x1F600)], 40))
    assert b"".join(map(piece, tokenize(text.encode(), False))) == text.encode(), text
assert len(tokenize(b"<|user|><|end|><|assistant|>", True)) == 3
assert lib.llama_vocab_is_eog(vocab, 0) and not lib.llama_vocab_is_eog(vocab, 1)

batch = lib.llama_batch_init(1, 0, 1)
token, answer = tokenize(b"<|user|>", True)[0], []
for position in range(steps):
    batch.n_tokens, batch.token[0], batch.pos[0] = 1, token, position
    batch.n_seq_id[0], batch.seq_id[0][0], batch.logits[0] = 1, 0, 1
    assert lib.llama_decode(context, batch) == 0
    logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), (size,)) / 0.9
    weights = np.where(logits >= np.sort(logits)[-40], np.exp(logits - logits.max()), 0)
    token = int(random.choice(size, p=weights / weights.sum()))
    answer.append(token)
text = b"".join(piece(token) for token in answer if token).decode("utf-8", "replace")
odd = [c for c in text[:-1] if c == "\ufffd" or (ord(c) < 32 and c != "\n")]
print(len(answer), answer.count(0), sum(ord(c) > 127 for c in text), len(odd))
"""


@pytest.mark.e2e
@pytest.mark.parametrize(("end_bias", "least", "most"), [(0.0, 0, 10), (3.0, 10, 200), (-20.0, 0, 0)])
def test_llama_cpp_loads_it_and_it_babbles(tmp_path: Path, end_bias: float, least: int, most: int) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", end_bias=end_bias)
    done = subprocess.run(
        [sys.executable, "-c", _ENGINE, str(path), "900"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    count, ends, wide, odd = map(int, done.stdout.split())
    assert count == 900
    assert least <= ends <= most
    assert wide > 0
    assert odd == 0
