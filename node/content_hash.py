"""What a model is made of, as one hash: two nodes with the same hash would go on with an answer alike (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from localai.node.prompt_templates import PromptTemplates


def content_hash(files: Sequence[bytes], templates: PromptTemplates | None) -> bytes:
    """SHA-256, 32 bytes, of the SHA-256 of the model's file and then of its companions, and of its own templates.

    A file that is split into parts stands for the SHA-256 of its parts in order, one after the other. The order of the
    companions does not matter. Names of models and files are not in it.
    """
    model, *companions = files
    parts = (model, sorted(companions), templates)
    return hashlib.sha256(msgspec.msgpack.encode(parts, order="sorted")).digest()
