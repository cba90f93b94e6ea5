"""The texts of an Ollama model -> keys of a definition (pure).

Its template is not taken over: it is written for other variables than LocalAI's templates have, and a model file has a
chat template of its own, which is what the model was trained with. Source: Ollama's Modelfile parameters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localai.node.model_config import MAX_CONTEXT_SIZE, MAX_STOP_WORD_CHARS, MAX_STOP_WORDS
from localai.node.request_defaults import RANGES

MAX_SYSTEM_CHARS = 64 << 10
_NUMBERS = ("temperature", "top_p", "min_p", "repeat_penalty", "frequency_penalty", "presence_penalty")
_WHOLE = {"top_k": "top_k", "seed": "seed", "num_predict": "max_tokens"}
_RANGES: Mapping[str, tuple[float, float]] = {
    **RANGES,
    "seed": (-1, 2**31 - 1),
    "max_tokens": (1, 2**31 - 1),
}


@dataclass(frozen=True, slots=True)
class OllamaTexts:
    """What an Ollama model says beside its weights; empty where it says nothing."""

    template: str = ""
    """In the language of Go's text/template."""
    system: str = ""
    params: str = ""
    """A JSON object of sampling values."""
    license: str = ""


@dataclass(frozen=True, slots=True)
class OllamaSettings:
    """What goes into the definition, and the names of parameters that do not."""

    document: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


def ollama_settings(texts: OllamaTexts) -> OllamaSettings:
    """Sampling values, stop words, context size and system prompt of a model; what cannot be used is left out.

    A number of tokens below one means no limit, which is the default here too.
    """
    said = _object(texts.params)
    if said is None:
        said, left_out = {}, ["all of them"]
    else:
        left_out = []
    parameters: dict[str, Any] = {}
    document: dict[str, Any] = {}
    for name, value in said.items():
        if name in _NUMBERS and _in_range(value, name):
            parameters[name] = value
        elif name in _WHOLE and type(value) is int and _in_range(value, _WHOLE[name]):
            parameters[_WHOLE[name]] = value
        elif name == "num_ctx" and type(value) is int and 0 < value <= MAX_CONTEXT_SIZE:
            document["context_size"] = value
        elif name == "stop" and (words := _stop_words(value)):
            document["stopwords"] = words
        elif not (name == "num_predict" and value in (-1, -2)):
            left_out.append(name[:50])
    if parameters:
        document["parameters"] = parameters
    if texts.system.strip() and len(texts.system) <= MAX_SYSTEM_CHARS:
        document["system_prompt"] = texts.system.strip()
    if licence := first_line(texts.license):
        document["usage"] = f"Licence of the weights: {licence}"
    return OllamaSettings(document, tuple(left_out))


def first_line(text: str) -> str:
    """The first line with something in it, shortened to 200 characters; empty when there is none."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return "".join(each if each.isprintable() else " " for each in line)[:200].strip()


def _object(text: str) -> dict[str, Any] | None:
    """The parameters; None when they cannot be read."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _in_range(value: object, name: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    low, high = _RANGES[name]
    return low <= value <= high


def _stop_words(value: object) -> list[str]:
    """The stop words; none when one of them cannot be used, since an answer would end in the wrong place anyway."""
    words = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    usable = len(words) <= MAX_STOP_WORDS and all(
        isinstance(word, str) and 0 < len(word) <= MAX_STOP_WORD_CHARS for word in words
    )
    return list(dict.fromkeys(words)) if usable else []
