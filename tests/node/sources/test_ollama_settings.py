"""Texts of Ollama models in the words of a definition."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from localai.node.model_config import parse_definitions
from localai.node.sources.ollama_settings import OllamaSettings, OllamaTexts, ollama_settings


def test_everything_that_has_a_key() -> None:
    params = {
        "temperature": 0.6, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1, "seed": 7,
        "num_ctx": 8192, "num_predict": 128, "stop": ["<|end|>", "<|user|>", "<|end|>"], "frequency_penalty": 0,
    }  # fmt: skip
    texts = OllamaTexts("{{ .Prompt }}", " Be kind.\n", json.dumps(params), "\n MIT License\nmore")
    assert ollama_settings(texts) == OllamaSettings(
        {
            "parameters": {
                "temperature": 0.6, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1, "seed": 7,
                "max_tokens": 128, "frequency_penalty": 0,
            },
            "context_size": 8192,
            "stopwords": ["<|end|>", "<|user|>"],
            "system_prompt": "Be kind.",
            "usage": "Licence of the weights: MIT License",
        }
    )  # fmt: skip


def test_nothing_said_is_nothing_set() -> None:
    assert ollama_settings(OllamaTexts()) == OllamaSettings({})
    assert ollama_settings(OllamaTexts(params='{"num_predict": -1}')) == OllamaSettings({})
    assert ollama_settings(OllamaTexts(params='{"stop": "x"}')).document == {"stopwords": ["x"]}


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_parameters_that_cannot_be_read(text: str) -> None:
    assert ollama_settings(OllamaTexts(params=text)) == OllamaSettings({}, ("all of them",))


@pytest.mark.parametrize(
    "params",
    [{"temperature": 9}, {"temperature": True}, {"top_p": "1"}, {"top_k": 1.5}, {"seed": 2**40}, {"num_ctx": 0},
     {"num_ctx": True}, {"stop": [""]}, {"stop": 3}, {"stop": ["x"] * 65}, {"stop": ["x" * 1001]}, {"num_gpu": 1},
     {"num_predict": 0}, {"min_p": float("nan")}],
)  # fmt: skip
def test_values_that_cannot_be_used_are_left_out(params: dict[str, Any]) -> None:
    found = ollama_settings(OllamaTexts(params=json.dumps(params)))
    assert found == OllamaSettings({}, tuple(params))


def test_long_texts() -> None:
    assert ollama_settings(OllamaTexts(system="x" * 70_000, license="y\x07" * 300)).document == {
        "usage": "Licence of the weights: " + ("y " * 100).strip()
    }


_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=3))
_NAMES = ["temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "num_ctx", "num_predict", "stop",
          "presence_penalty"]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(_NAMES), _VALUES), st.text(max_size=20))
def test_whatever_it_says_makes_a_usable_definition(params: dict[str, Any], text: str) -> None:
    found = ollama_settings(OllamaTexts(text, text, json.dumps(params), text))
    document = {"name": "m", **found.document, "parameters": {"model": "m", **found.document.get("parameters", {})}}
    assert parse_definitions(yaml.safe_dump(document), "m.yaml").problems == ()
