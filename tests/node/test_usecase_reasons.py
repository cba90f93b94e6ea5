from __future__ import annotations

import pytest

from localai.node.model_config import ModelConfig
from localai.node.sources.gguf_metadata import GgufFront, Scalar
from localai.node.usecase_reasons import _OF_BACKENDS, file_remark, usecase_reasons
from localai.node.usecases import USECASES

BARE = ModelConfig("m", "m.gguf")
EMBEDS = "Its file makes embeddings, not text."


def front(**metadata: Scalar) -> GgufFront:
    named = {key.replace("__", "."): value for key, value in metadata.items()}
    return GgufFront(
        version=3,
        metadata={"general.architecture": "bert", **named},
        array_lengths={},
        tensors=(),
        data_start=0,
    )


@pytest.mark.parametrize(
    ("config", "usecases", "why"),
    [
        (BARE, ["chat", "completion", "edit"], "models of llama-cpp are taken to be for text"),
        (ModelConfig("m", "m", embeddings=True), ["embeddings"], "embeddings: true"),
        (ModelConfig("m", "m", reranking=True), ["rerank"], "reranking: true"),
        (
            ModelConfig("m", "m", embeddings=True, usecases=frozenset({"tts", "chat"})),
            ["chat", "tts"],
            "known_usecases",
        ),
        (ModelConfig("m", "m", backend="whisper"), ["transcript"], "the backend whisper is for it"),
        (ModelConfig("m", "m", backend="whisper", usecases=frozenset({"vad"})), ["vad"], "known_usecases"),
    ],
)
def test_the_definition_counts_before_the_backend(config: ModelConfig, usecases: list[str], why: str) -> None:
    reasons = usecase_reasons(config)
    assert list(reasons) == usecases
    assert all(why in reason for reason in reasons.values())


def test_backends_are_for_known_things() -> None:
    assert all(set(usecases) <= USECASES for usecases in _OF_BACKENDS.values())


@pytest.mark.parametrize(
    ("config", "file", "says"),
    [
        (BARE, front(), "Its file has no chat template: it goes on with a text rather than answering."),
        (BARE, front(tokenizer__chat_template="x"), "Its file has a chat template."),
        (
            BARE,
            front(bert__pooling_type=1),
            f"{EMBEDS} If it is to be used so, add 'embeddings: true' in a definition of it.",
        ),
        (
            ModelConfig("m", "m.gguf", source="m.yaml", usecases=frozenset({"chat"})),
            front(bert__attention__causal=False),
            f"{EMBEDS} If it is to be used so, add 'embeddings' to the known_usecases in m.yaml.",
        ),
        (ModelConfig("m", "m.gguf", embeddings=True), front(bert__pooling_type=2), EMBEDS),
        (ModelConfig("m", "m.gguf", reranking=True), front(bert__pooling_type=4), "Its file is a reranker."),
    ],
)  # fmt: skip
def test_what_a_file_says(config: ModelConfig, file: GgufFront, says: str) -> None:
    assert file_remark(config, file) == says
