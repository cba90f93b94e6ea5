"""How a model is loaded: its definition first, then the node's settings, then what suits the machine (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from localai.mesh.errors import Unsupported
from localai.node.model_config import ModelConfig
from localai.node.settings import Settings
from localai.node.workers.frames import Load

START_S = 0.3
"""A worker's start, without its model."""
READ_BYTES_PER_S = 1e9
"""What a model file is taken to be read at before it was ever read: a modern disk, or memory that has it already."""


def expected_load_s(model_bytes: int) -> float:
    """Seconds that a first load will take, roughly; measured ones are better."""
    return START_S + model_bytes / READ_BYTES_PER_S


def default_threads(cores: int) -> int:
    """Threads for a machine with this many usable cores: one core stays free for the node and the user."""
    return max(1, cores - 1)


def load_frame(config: ModelConfig, settings: Settings, cores: int) -> Load:
    """The frame that tells a worker what to load."""
    return Load(
        model_path=str(Path(settings.models_path, config.model_file)),
        context_size=max(-1, config.context_size or settings.context_size),
        slots=config.slots or settings.slots,
        threads=config.threads or settings.threads or default_threads(cores),
    )


def missing_backends(wanted: Iterable[str], available: frozenset[str]) -> tuple[str, ...]:
    """Those of the wanted backends that are not here. ``gallery@name`` means the backend ``name``."""
    names = {text: text.lower() if "/" in text else text.lower().rpartition("@")[2] for text in wanted}
    return tuple(text for text, name in names.items() if name not in available)


def check_backend(config: ModelConfig, available: frozenset[str]) -> None:
    """Make sure that something here can run the model.

    Raises:
        Unsupported: it names a backend that is not installed.
    """
    if config.backend not in available:
        raise Unsupported(
            f"Model '{config.name}' needs the backend '{config.backend}', which this version does not have. "
            f"It has: {', '.join(sorted(available))}.",
            code="backend_not_installed",
            param="model",
        )
