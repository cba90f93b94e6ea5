"""What a model is for, and why (pure): its definition first, then its backend.

Source: LocalAI guesses from the backend in the same way. Unlike there, a definition that says something is the last
word: nothing is guessed on top of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from localai.node.model_config import ModelConfig
from localai.node.sources.gguf_metadata import GgufFront
from localai.node.usecases import TEXT_USECASES

_OF_BACKENDS: Mapping[str, tuple[str, ...]] = {
    "ace-step": ("sound_generation",),
    "acestep-cpp": ("sound_generation",),
    "diffusers": ("image", "video"),
    "kokoro": ("tts",),
    "piper": ("tts",),
    "rerankers": ("rerank",),
    "rfdetr": ("detection",),
    "silero-vad": ("vad",),
    "stablediffusion": ("image", "video"),
    "stablediffusion-ggml": ("image",),
    "transformers-musicgen": ("tts", "sound_generation"),
    "whisper": ("transcript",),
}
"""Backends that are for something else than text."""
_KEYS = {"embeddings": "embeddings: true", "rerank": "reranking: true"}
_RANK = 4
_CHAT_TEMPLATE = "tokenizer.chat_template"


def usecase_reasons(config: ModelConfig) -> dict[str, str]:
    """Use-case -> why the node thinks that the model is for it, sorted by name."""
    if config.usecases:
        return dict.fromkeys(sorted(config.usecases), "its known_usecases say so")
    if config.embeddings:
        return {"embeddings": "its definition says 'embeddings: true'"}
    if config.reranking:
        return {"rerank": "its definition says 'reranking: true'"}
    if usecases := _OF_BACKENDS.get(config.backend):
        return dict.fromkeys(sorted(usecases), f"the backend {config.backend} is for it")
    return dict.fromkeys(sorted(TEXT_USECASES), f"models of {config.backend} are taken to be for text")


def file_remark(config: ModelConfig, front: GgufFront) -> str:
    """What the model's file says it is for, with advice where the node would not notice: one or two sentences."""
    usecase, said = _made_for(front)
    key = _KEYS.get(usecase)
    if key is None or usecase in usecase_reasons(config):
        return said
    added = f"'{usecase}' to the known_usecases" if config.usecases else f"'{key}'"
    return f"{said} If it is to be used so, add {added} in {config.source or 'a definition of it'}."


def _made_for(front: GgufFront) -> tuple[str, str]:
    pooling = front.metadata.get(f"{front.architecture}.pooling_type", 0)
    if pooling == _RANK:
        return "rerank", "Its file is a reranker."
    if pooling or front.metadata.get(f"{front.architecture}.attention.causal") is False:
        return "embeddings", "Its file makes embeddings, not text."
    if front.metadata.get(_CHAT_TEMPLATE):
        return "chat", "Its file has a chat template."
    return "completion", "Its file has no chat template: it goes on with a text rather than answering."
