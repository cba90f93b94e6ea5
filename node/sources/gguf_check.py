"""What may be wrong with a GGUF file that can be read (pure): architecture, sizes, chat templates."""

from __future__ import annotations

import re
from collections.abc import Collection

from localai.mesh.errors import ModelLoadFailed
from localai.node.sources.gguf_metadata import GgufFront, parse_gguf_front
from localai.node.sources.safety import Finding
from localai.node.sources.template_check import template_findings

_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.IGNORECASE)
_TEMPLATE_KEY = "tokenizer.chat_template"
_MOST = {
    "block_count": 4096,
    "context_length": 1 << 27,
    "embedding_length": 1 << 20,
    "feed_forward_length": 1 << 24,
    "attention.head_count": 1 << 16,
    "attention.head_count_kv": 1 << 16,
    "expert_count": 1 << 16,
    "vocab_size": 1 << 24,
}
"""Metadata of an architecture and the most that any model could have; an engine takes memory by these numbers."""
_NO_WEIGHTS = frozenset({"adapter", "imatrix", "vocab"})


def check_gguf(
    data: bytes, file_bytes: int, name: str, architectures: Collection[str] | None = None
) -> tuple[Finding, ...]:
    """Findings of a GGUF file that begins with ``data`` and is ``file_bytes`` long.

    ``architectures`` are those an engine can run; None to accept all.
    """
    try:
        front = parse_gguf_front(data, file_bytes, name)
    except ModelLoadFailed as error:
        return (Finding("refuse", error.message),)
    return (*_front_findings(front, name, architectures), *_template_findings(front, name))


def _front_findings(front: GgufFront, name: str, architectures: Collection[str] | None) -> list[Finding]:
    findings = []
    if not _ARCHITECTURE.fullmatch(front.architecture):
        findings.append(Finding("refuse", f"The model file '{name}' does not say which architecture it has."))
    elif architectures is not None and front.architecture not in architectures:
        sentence = f"The model file '{name}' has the architecture {front.architecture}, which no engine here can run."
        findings.append(Finding("warn", sentence))
    if not front.tensors and front.metadata.get("general.type") not in _NO_WEIGHTS:
        findings.append(Finding("refuse", f"The model file '{name}' has no weights in it."))
    for key, most in _MOST.items():
        value = front.metadata.get(f"{front.architecture}.{key}", 1)
        if type(value) is not int or not 0 <= value <= most:
            sentence = f"The model file '{name}' claims the absurd {key} {str(value)[:50]}."
            findings.append(Finding("refuse", sentence))
    unknown = {tensor.type for tensor in front.tensors if tensor.size is None}
    if unknown:
        kinds = ", ".join(str(kind) for kind in sorted(unknown)[:8])
        sentence = f"The model file '{name}' has tensors of the unknown types {kinds}; their sizes were not checked."
        findings.append(Finding("warn", sentence))
    return findings


def _template_findings(front: GgufFront, name: str) -> list[Finding]:
    return [
        finding
        for key, value in front.metadata.items()
        if key == _TEMPLATE_KEY or key.startswith(f"{_TEMPLATE_KEY}.")
        for finding in template_findings(str(value), f"chat template of '{name}'")
    ]
