from __future__ import annotations

import msgspec
import pytest

from localai.api.dialects.ollama_models import (
    KnownModel,
    capabilities,
    render_loaded,
    render_model,
    render_shown,
)
from localai.node.features import Feature
from localai.node.inference import Sampling
from localai.node.model_config import ModelConfig
from localai.node.model_details import ModelDetails
from localai.node.prompt_templates import PromptTemplates
from localai.node.request_defaults import RequestDefaults

DETAILS = ModelDetails("llama", 134_515_008, "Q4_K_M", {"llama.block_count": 30}, "{{ messages }}")
CONFIG = ModelConfig("m", "m.gguf", sha256="ab" * 32)
KNOWN = KnownModel("m", CONFIG, 1000, 1_700_000_000.0, b"\x01\x02", DETAILS)
SHOWN_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "134.52M",
    "quantization_level": "Q4_K_M",
}


def test_a_model_of_this_machine() -> None:
    assert msgspec.to_builtins(render_model(KNOWN)) == {
        "name": "m:latest",
        "model": "m:latest",
        "modified_at": "2023-11-14T22:13:20Z",
        "size": 1000,
        "digest": "0102",
        "details": SHOWN_DETAILS,
        "capabilities": ["completion"],
    }


def test_a_model_of_others_has_a_name_and_little_else() -> None:
    body = render_model(KnownModel("theirs:7b"))
    assert (body.name, body.size, body.digest, body.capabilities) == ("theirs:7b", 0, "", ["completion"])
    assert body.details.families == []


def test_a_hash_that_the_definition_says() -> None:
    assert KnownModel("m", CONFIG).digest == "ab" * 32
    assert KnownModel("m", ModelConfig("m", "m.gguf")).digest == ""


def test_a_loaded_model() -> None:
    body = msgspec.to_builtins(render_loaded(KNOWN, 4096, 1_700_000_060))
    assert body == {
        "name": "m:latest",
        "model": "m:latest",
        "size": 1000,
        "digest": "0102",
        "details": SHOWN_DETAILS,
        "expires_at": "2023-11-14T22:14:20Z",
        "size_vram": 0,
        "context_length": 4096,
    }


def test_all_about_a_model() -> None:
    config = ModelConfig(
        "m",
        "m.gguf",
        context_size=4096,
        defaults=RequestDefaults(Sampling(temperature=0.5, top_k=7, seed=3), max_tokens=99),
        stopwords=("###",),
        templates=PromptTemplates(chat="{{ .Input }}"),
    )
    shown = render_shown(KnownModel("m", config, details=DETAILS))
    assert shown.parameters.splitlines() == [
        "temperature 0.5",
        "top_k 7",
        "seed 3",
        "num_predict 99",
        "num_ctx 4096",
        'stop "###"',
    ]
    assert shown.modelfile.splitlines()[:2] == ["FROM m", "PARAMETER temperature 0.5"]
    assert shown.template == "{{ .Input }}"
    assert shown.model_info == {"llama.block_count": 30, "general.parameter_count": 134_515_008}
    plain = render_shown(KNOWN)
    assert (plain.template, plain.parameters) == ("{{ messages }}", "")
    nothing = render_shown(KnownModel("theirs"))
    assert (nothing.template, nothing.parameters, nothing.model_info) == ("", "", {})
    assert nothing.modelfile == "FROM theirs\n"


def test_what_models_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert capabilities(ModelConfig("e", "e.gguf", embeddings=True)) == ["embedding"]
    assert capabilities(ModelConfig("w", "w.bin", backend="whisper")) == []
    able = {"able": frozenset({Feature.TOOLS, Feature.MEDIA})}
    monkeypatch.setattr("localai.api.dialects.ollama_models.BACKEND_FEATURES", able)
    seeing = ModelConfig("v", "v.gguf", backend="able", companion_files=("mmproj.gguf",))
    assert capabilities(seeing) == ["completion", "tools", "vision"]
