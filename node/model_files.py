"""Size, age and contents of model files, for lists of models (shell). A file is read again only when it changes."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from localai.mesh.errors import ModelLoadFailed
from localai.node.model_config import ModelConfig
from localai.node.model_details import ModelDetails, details_from_front
from localai.node.sources.gguf_metadata import MAX_FRONT_BYTES, parse_gguf_front

MAX_KNOWN = 1000
"""Files whose contents are kept in mind."""
_READS = (1 << 22, 1 << 24, MAX_FRONT_BYTES)
"""How much of a file is read; more only when that was too little."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's file as it is now. ``modified_s`` is in seconds since 1970."""

    size_bytes: int
    modified_s: float
    details: ModelDetails


class ModelFiles:
    """The files of a models folder."""

    def __init__(self, models_path: Path) -> None:
        self._models_path = models_path
        self._known: dict[Path, tuple[tuple[int, int], ModelFile]] = {}

    async def look_at(self, config: ModelConfig) -> ModelFile | None:
        """The file of a model; None when it is not there. Without details when it is no GGUF file."""
        return await asyncio.to_thread(self._look_at, self._models_path / config.model_file)

    def _look_at(self, path: Path) -> ModelFile | None:
        try:
            with open(path, "rb", opener=_open_at_once) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return None
                version = status.st_size, status.st_mtime_ns
                known = self._known.get(path)
                if known is not None and known[0] == version:
                    return known[1]
                found = ModelFile(status.st_size, status.st_mtime, _details(file.fileno(), status.st_size, path.name))
        except OSError:
            return None
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[path] = version, found
        return found


def _open_at_once(path: str, flags: int) -> int:
    """A pipe without a writer must not hold up the list of models."""
    return os.open(path, flags | os.O_NONBLOCK)


def _details(descriptor: int, file_bytes: int, name: str) -> ModelDetails:
    for count in _READS:
        try:
            return details_from_front(parse_gguf_front(os.pread(descriptor, count, 0), file_bytes, name))
        except ModelLoadFailed:
            if count >= file_bytes:
                break
    return ModelDetails()
