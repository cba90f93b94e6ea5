"""The wrapper of ``llama_*`` calls, on the tiny model in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from localai.mesh.errors import InvalidRequest, ModelLoadFailed
from localai.node.inference import Sampling
from localai.node.testing.corrupt_gguf import write_corrupt_gguf
from localai.node.workers.frames import Load
from localai.node.workers.llama.model import DEFAULT_CONTEXT_SIZE, EngineError, LlamaModel, choose_context_size
from localai.node.workers.llama.schedule import STEP_TOKENS, Chunk, Ids

pytestmark = pytest.mark.e2e

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LlamaModel:
    return LlamaModel(Load(str(tiny_model), 1024, 3, 1), lambda _fraction: None)


@pytest.fixture(autouse=True)
def empty_cache(model: LlamaModel) -> Iterator[None]:
    model.clear()
    yield
    model.clear()


def ids(*values: int) -> Ids:
    return np.array(values, np.int32)


def next_token(model: LlamaModel, chunks: list[Chunk], slot: int, sampling: Sampling = GREEDY) -> int:
    sampler = model.new_sampler(sampling)
    try:
        return model.sample(sampler, model.decode(chunks)[slot])
    finally:
        model.free_sampler(sampler)


def test_facts(model: LlamaModel) -> None:
    facts = model.facts
    assert (facts.context_size, facts.slots, facts.trained_context_size) == (1024, 3, 4096)
    assert facts.vocabulary_size > 256
    assert facts.has_chat_template
    assert facts.description


def test_progress_is_reported_and_a_size_is_chosen(tiny_model: Path) -> None:
    seen: list[float] = []
    model = LlamaModel(Load(str(tiny_model), 0, 1, 1), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert model.facts.context_size == DEFAULT_CONTEXT_SIZE


@pytest.mark.parametrize(
    ("wanted", "trained", "size"),
    [(100, 4096, 100), (0, 2048, 2048), (0, 131_072, 4096), (0, 0, 4096), (-1, 131_072, 131_072), (-1, 0, 4096)],
)
def test_the_context_that_is_chosen(wanted: int, trained: int, size: int) -> None:
    assert choose_context_size(wanted, trained) == size


@pytest.mark.parametrize("text", ["hello", "naïve 日本 🎉", "", "<|user|>x", "\0\n\t"])
def test_text_survives_the_vocabulary(model: LlamaModel, text: str) -> None:
    tokens = model.tokenize(text, add_special=False)
    assert b"".join(model.piece(int(token)) for token in tokens).decode() == text


def test_ids_from_outside_are_checked(model: LlamaModel) -> None:
    assert list(model.check_ids([0, 5])) == [0, 5]
    for bad in (-1, model.facts.vocabulary_size, 2**40):
        with pytest.raises(InvalidRequest, match="vocabulary"):
            model.check_ids([bad])


def test_the_end_of_a_turn_is_known(model: LlamaModel) -> None:
    (end,) = model.tokenize(model.eos, add_special=False)
    assert model.is_end(int(end))
    assert not model.is_end(int(end) + 1)
    assert isinstance(model.bos, str)


def test_a_prompt_in_pieces_gives_the_same_token_as_in_one(model: LlamaModel) -> None:
    prompt = model.tokenize("the quick brown fox jumps", add_special=False)
    whole = next_token(model, [Chunk(0, prompt, 0, True)], 0)
    model.decode([Chunk(1, prompt[:7], 0, False)])
    assert next_token(model, [Chunk(1, prompt[7:], 7, True)], 1) == whole


def test_slots_do_not_see_each_other(model: LlamaModel) -> None:
    a, b = (model.tokenize(text, add_special=False) for text in ("one text here", "another, longer text here"))
    alone = next_token(model, [Chunk(0, a, 0, True)], 0)
    model.clear()
    assert next_token(model, [Chunk(2, b, 0, True), Chunk(0, a, 0, True)], 0) == alone


def test_a_kept_beginning_gives_the_same_token(model: LlamaModel) -> None:
    prompt = model.tokenize("once upon a time there was", add_special=False)
    whole = next_token(model, [Chunk(0, prompt, 0, True)], 0)
    assert model.trim(0, 5) == 5
    assert next_token(model, [Chunk(0, prompt[5:], 5, True)], 0) == whole
    assert model.trim(0, 0) == 0


def test_the_same_seed_draws_the_same_tokens(model: LlamaModel) -> None:
    prompt = model.tokenize("seeds", add_special=False)

    def draw(seed: int | None) -> list[int]:
        sampler = model.new_sampler(Sampling(temperature=1.5, top_p=1.0, top_k=0, seed=seed))
        drawn = []
        for _ in range(20):
            model.trim(0, 0)
            drawn.append(model.sample(sampler, model.decode([Chunk(0, prompt, 0, True)])[0]))
        model.free_sampler(sampler)
        return drawn

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    assert draw(None) != draw(None)


def test_every_sampling_setting_is_taken(model: LlamaModel) -> None:
    sampling = Sampling(0.7, 0.9, 20, 0.05, 1.1, 0.2, 0.3, 1)
    token = next_token(model, [Chunk(0, ids(7, 8, 9), 0, True)], 0, sampling)
    assert 0 <= token < model.facts.vocabulary_size


def test_a_batch_over_the_limit_is_an_error_and_not_an_abort(model: LlamaModel) -> None:
    with pytest.raises(EngineError):
        model.decode([Chunk(0, ids(*[7] * (STEP_TOKENS + 1)), 0, True)])


def test_a_full_slot_is_an_error_and_the_model_goes_on(model: LlamaModel) -> None:
    for start in (0, 512):
        model.decode([Chunk(0, ids(*[7] * 512), start, False)])
    with pytest.raises(EngineError):
        model.decode([Chunk(0, ids(7), 1024, True)])
    model.clear()
    assert next_token(model, [Chunk(0, ids(7), 0, True)], 0) >= 0


def test_what_cannot_be_loaded(tmp_path: Path, tiny_model: Path) -> None:
    bad = write_corrupt_gguf(tmp_path / "bad.gguf", "truncated_data", tiny_model.read_bytes())
    with pytest.raises(ModelLoadFailed, match=r"bad\.gguf"):
        LlamaModel(Load(str(bad), 512, 1, 1), lambda _fraction: None)
    with pytest.raises(ModelLoadFailed, match="--context-size"):
        LlamaModel(Load(str(tiny_model), 2**30, 1, 1), lambda _fraction: None)
