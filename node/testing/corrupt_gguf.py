"""Model files that are broken in the ways that happen: none of them may hurt a node."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

Corruption: TypeAlias = Literal[
    "empty",
    "html",
    "bad_magic",
    "old_version",
    "truncated_header",
    "truncated_metadata",
    "truncated_data",
    "wild_counts",
]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)

FOUND_BY_HEADER: frozenset[Corruption] = frozenset(
    {"empty", "html", "bad_magic", "old_version", "truncated_header", "wild_counts"}
)
"""Those that a look at the first bytes finds; the others only the engine can find."""


def write_corrupt_gguf(path: Path, corruption: Corruption, whole: bytes) -> Path:
    """Write a damaged copy of the model file ``whole`` to ``path``; the path comes back."""
    path.write_bytes(_damaged(corruption, whole))
    return path


def _damaged(corruption: Corruption, whole: bytes) -> bytes:
    damaged: dict[Corruption, bytes] = {
        "empty": b"",
        "html": b"<!DOCTYPE html><html><body>Please log in</body></html>",
        "bad_magic": b"GGML" + whole[4:],
        "old_version": whole[:4] + (1).to_bytes(4, "little") + whole[8:],
        "truncated_header": whole[:13],
        "truncated_metadata": whole[:1500],
        "truncated_data": whole[: len(whole) * 2 // 3],
        "wild_counts": whole[:8] + b"\xff" * 8 + whole[16:],
    }
    return damaged[corruption]
