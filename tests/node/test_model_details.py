from __future__ import annotations

import gguf
import pytest

from localai.node.model_details import _PRECISIONS, ModelDetails, details_from_front
from localai.node.sources.gguf_metadata import GgufFront, Scalar, Tensor


def front(metadata: dict[str, Scalar], *shapes: tuple[int, ...]) -> GgufFront:
    tensors = tuple(Tensor(f"t{place}", shape, 0, 0, None) for place, shape in enumerate(shapes))
    return GgufFront(3, metadata, {}, tensors, 0)


def test_what_a_file_says() -> None:
    metadata: dict[str, Scalar] = {
        "general.architecture": "llama",
        "general.file_type": 15,
        "llama.block_count": 2,
        "tokenizer.chat_template": "{{ x }}",
        "tokenizer.chat_template.tool_use": "{{ y }}",
    }
    details = details_from_front(front(metadata, (4, 8), (3,)))
    assert (details.family, details.parameters, details.precision, details.chat_template) == (
        "llama",
        35,
        "Q4_K_M",
        "{{ x }}",
    )
    assert sorted(details.metadata) == ["general.architecture", "general.file_type", "llama.block_count"]


@pytest.mark.parametrize("kind", ["text", 12345])
def test_a_file_that_says_nothing_or_nonsense(kind: Scalar) -> None:
    assert details_from_front(front({})) == ModelDetails()
    details = details_from_front(front({"general.file_type": kind, "tokenizer.chat_template": 7}))
    assert (details.precision, details.chat_template) == ("", "")


def test_names_of_precisions_are_those_of_llama_cpp() -> None:
    theirs = {kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in gguf.LlamaFileType}
    assert {kind: theirs[kind] for kind in _PRECISIONS} == _PRECISIONS


@pytest.mark.parametrize(
    ("parameters", "words"),
    [(0, ""), (999, "999"), (1500, "1.50K"), (134_515_008, "134.52M"), (7_248_023_552, "7.2B")],
)
def test_the_number_of_parameters_for_people(parameters: int, words: str) -> None:
    assert ModelDetails(parameters=parameters).size_words == words
