"""Bodies of ``/backend/...``, as LocalAI has them (pure)."""

from __future__ import annotations

import msgspec


class NamedModel(msgspec.Struct, frozen=True):
    """Which model."""

    model: str = ""


class MemoryUsage(msgspec.Struct, frozen=True):
    """Bytes of a worker's process; the parts of ``breakdown`` add up to ``total``."""

    total: int
    breakdown: dict[str, int]


class BackendStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """``GET /backend/monitor``."""

    state: int = 0
    """0 is being loaded (left out), 1 answers, 2 is ready, -1 has failed."""
    memory: MemoryUsage | None = None
    problem: str = ""
    """Why it has failed."""


class BackendLoaded(msgspec.Struct, frozen=True):
    """``POST /backend/load``."""

    loaded: list[str]
    message: str = "model loaded"


class BackendStopped(msgspec.Struct, frozen=True):
    """``POST /backend/shutdown``."""

    message: str = "model stopped"
