"""What a GGUF file says of itself, for people (pure)."""

from __future__ import annotations

from localai.node.sources.gguf_metadata import GgufFront, Scalar

_SHOWN_CHARS = 200


def render_gguf(front: GgufFront, name: str, file_bytes: int, *, header: bool) -> str:
    """Lines of ``key: value``: the file, the model, the tokenizer; with ``header`` every entry of the metadata."""
    kind = front.architecture
    told: dict[str, Scalar | None] = {
        "file": name,
        "size": f"{file_bytes} bytes",
        "gguf version": front.version,
        "name": front.metadata.get("general.name"),
        "architecture": kind,
        "context length": front.metadata.get(f"{kind}.context_length"),
        "layers": front.metadata.get(f"{kind}.block_count"),
        "embedding length": front.metadata.get(f"{kind}.embedding_length"),
        "tensors": len(front.tensors),
        "tokenizer": front.metadata.get("tokenizer.ggml.model"),
        "tokens": front.array_lengths.get("tokenizer.ggml.tokens"),
        "bos token": front.metadata.get("tokenizer.ggml.bos_token_id"),
        "eos token": front.metadata.get("tokenizer.ggml.eos_token_id"),
        "chat template": front.metadata.get("tokenizer.chat_template"),
    }
    lines = [f"{key}: {_shown(value)}" for key, value in told.items() if value not in (None, "")]
    if header:
        lines += [f"metadata {_shown(key)}: {_shown(value)}" for key, value in sorted(front.metadata.items())]
        lines += [f"metadata {_shown(key)}: {count} values" for key, count in sorted(front.array_lengths.items())]
    return "\n".join(lines) + "\n"


def _shown(value: Scalar | None) -> str:
    """One line without control characters, so that a file cannot write to the terminal as it likes."""
    text = str(value)
    plain = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" if char != "\n" else "\\n" for char in text)
    return plain if len(plain) <= _SHOWN_CHARS else f"{plain[:_SHOWN_CHARS]}..."
