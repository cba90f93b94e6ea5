"""How far an installation is (pure)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Phase: TypeAlias = Literal["waiting", "downloading", "retrying", "unpacking", "checking", "done"]
"""``waiting`` is for another process that installs the same entry, ``retrying`` for a server."""


@dataclass(frozen=True, slots=True)
class InstallProgress:
    """Where one installation is, in bytes of the current file. ``total_bytes`` is 0 when unknown."""

    model: str
    phase: Phase
    filename: str = ""
    done_bytes: int = 0
    total_bytes: int = 0


OnProgress: TypeAlias = Callable[[InstallProgress], None]
"""Called on the event loop's thread, often; must be quick."""
