"""What ``/system`` and the probes say (pure). Source: LocalAI's reference, with our own fields beside its."""

from __future__ import annotations

import msgspec


class LoadedModel(msgspec.Struct, frozen=True):
    """A model in memory."""

    id: str
    backend: str


class ModelState(msgspec.Struct, frozen=True, kw_only=True):
    """One model and its worker."""

    id: str
    backend: str
    description: str
    state: str
    """See the states of a worker in docs/architecture.md; ``idle`` where none was needed yet."""
    load_per_mille: int = 0
    active: int = 0
    waiting: int = 0
    slots: int = 0
    context_size: int = 0
    prompt_tokens_total: int = 0
    completion_tokens_total: int = 0
    problem: str = ""


class SystemBody(msgspec.Struct, frozen=True):
    """``GET /system``."""

    backends: list[str]
    loaded_models: list[LoadedModel]
    version: str
    phase: str
    models: list[ModelState]


class VersionBody(msgspec.Struct, frozen=True):
    """``GET /version``."""

    version: str


class NotReady(msgspec.Struct, frozen=True):
    """``GET /readyz`` while requests are not taken."""

    status: str
    reason: str
