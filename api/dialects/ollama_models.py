"""Models as Ollama lists and shows them (pure). Source: Ollama's API reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localai.api.dialects.ollama_answer import render_time
from localai.api.schemas.ollama import DetailsBody, LoadedBody, ModelBody, ShowResponse
from localai.node.catalog import serves
from localai.node.features import BACKEND_FEATURES, Feature
from localai.node.inference import Sampling
from localai.node.model_config import ModelConfig
from localai.node.model_details import ModelDetails

LATEST = ":latest"
"""The tag that a name without one has in Ollama. Models here have no tags."""
OLLAMA_VERSION = "0.9.0"
"""The version whose API this is, for clients that ask for one before they use something."""
_DEFAULTS = Sampling()
_UNKNOWN = ModelDetails()
_PARAMETERS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
    "seed",
)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """What is known of a model. Only ``name`` is, for one that other nodes have; ``modified_s`` since 1970."""

    name: str
    config: ModelConfig | None = None
    size_bytes: int = 0
    modified_s: float = 0.0
    content: bytes = b""
    """The hash of what it is made of; empty while it is not known."""
    details: ModelDetails = _UNKNOWN

    @property
    def tagged_name(self) -> str:
        """Its name as Ollama's clients expect one."""
        return self.name if ":" in self.name else self.name + LATEST

    @property
    def digest(self) -> str:
        """The hash in hexadecimal, else the one that its definition says, else nothing."""
        return self.content.hex() or (self.config.sha256 if self.config is not None else None) or ""


def render_model(model: KnownModel) -> ModelBody:
    """A model in the list of all."""
    return ModelBody(
        name=model.tagged_name,
        model=model.tagged_name,
        modified_at=render_time(model.modified_s),
        size=model.size_bytes,
        digest=model.digest,
        details=render_details(model),
        capabilities=capabilities(model.config),
    )


def render_loaded(model: KnownModel, context_size: int, expires_s: float) -> LoadedBody:
    """A model in the list of those in memory. ``expires_s`` is when it may go, in seconds since 1970."""
    return LoadedBody(
        name=model.tagged_name,
        model=model.tagged_name,
        size=model.size_bytes,
        digest=model.digest,
        details=render_details(model),
        expires_at=render_time(expires_s),
        size_vram=0,
        context_length=context_size,
    )


def render_shown(model: KnownModel) -> ShowResponse:
    """All about one model."""
    config = model.config
    lines = _parameter_lines(config) if config is not None else []
    modelfile = [f"FROM {model.name}", *(f"PARAMETER {line}" for line in lines)]
    details = model.details
    info: dict[str, Any] = dict(details.metadata)
    if details.parameters:
        info["general.parameter_count"] = details.parameters
    return ShowResponse(
        modelfile="\n".join(modelfile) + "\n",
        parameters="\n".join(lines),
        template=(config.templates.chat if config and config.templates else "") or details.chat_template,
        details=render_details(model),
        model_info=info,
        capabilities=capabilities(config),
        modified_at=render_time(model.modified_s),
    )


def render_details(model: KnownModel) -> DetailsBody:
    """What a model is."""
    details = model.details
    return DetailsBody(
        format="gguf" if details.family else "",
        family=details.family,
        families=[details.family] if details.family else [],
        parameter_size=details.size_words,
        quantization_level=details.precision,
    )


def capabilities(config: ModelConfig | None) -> list[str]:
    """What a model can be asked for, in Ollama's words; of a model of others only that it generates text."""
    if config is None:
        return ["completion"]
    features = BACKEND_FEATURES.get(config.backend, frozenset())
    is_for_text = serves(config, "chat") or serves(config, "completion")
    found = {
        "completion": is_for_text,
        "embedding": serves(config, "embeddings"),
        "tools": is_for_text and Feature.TOOLS in features,
        "vision": Feature.MEDIA in features and bool(config.companion_files),
    }
    return [word for word, is_true in found.items() if is_true]


def _parameter_lines(config: ModelConfig) -> list[str]:
    """What a request gets that does not say otherwise, where the definition differs from the program's defaults."""
    defaults = config.defaults
    said = {
        name: value for name in _PARAMETERS if (value := getattr(defaults.sampling, name)) != getattr(_DEFAULTS, name)
    }
    if defaults.max_tokens is not None:
        said["num_predict"] = defaults.max_tokens
    if config.context_size is not None and config.context_size > 0:
        said["num_ctx"] = config.context_size
    return [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in said.items()] + [
        f'stop "{word}"' for word in config.stopwords
    ]
