"""Bodies of ``/api/settings`` (pure). The names of what can change are LocalAI's."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class OptionBody(msgspec.Struct, frozen=True):
    """One option of this node."""

    name: str
    flag: str
    value: Any
    """Of a secret only whether there is one: ``***`` or null."""
    source: str
    """``flag``, ``env``, ``file`` (an ``.env`` file), ``default``, or ``api``: changed since the start."""
    changeable: bool


class SettingsBody(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /api/settings``: what can change while the node runs, then all options. Times are written ``900s``."""

    watchdog_idle_enabled: bool | UnsetType = UNSET
    watchdog_busy_enabled: bool | UnsetType = UNSET
    watchdog_idle_timeout: str | UnsetType = UNSET
    watchdog_busy_timeout: str | UnsetType = UNSET
    watchdog_interval: str | UnsetType = UNSET
    single_backend: bool | UnsetType = UNSET
    max_active_backends: int | UnsetType = UNSET
    memory_reclaimer_enabled: bool | UnsetType = UNSET
    memory_reclaimer_threshold: float | UnsetType = UNSET
    force_eviction_when_busy: bool | UnsetType = UNSET
    size_aware_eviction: bool | UnsetType = UNSET
    lru_eviction_max_retries: int | UnsetType = UNSET
    lru_eviction_retry_interval: str | UnsetType = UNSET
    options: list[OptionBody]


class SettingsUpdate(msgspec.Struct, frozen=True, omit_defaults=True):
    """``POST /api/settings``: what shall change; the rest stays. Lasts until the node ends."""

    watchdog_idle_enabled: bool | UnsetType = UNSET
    watchdog_busy_enabled: bool | UnsetType = UNSET
    watchdog_idle_timeout: str | UnsetType = UNSET
    watchdog_busy_timeout: str | UnsetType = UNSET
    watchdog_interval: str | UnsetType = UNSET
    single_backend: bool | UnsetType = UNSET
    max_active_backends: int | UnsetType = UNSET
    memory_reclaimer_enabled: bool | UnsetType = UNSET
    memory_reclaimer_threshold: float | UnsetType = UNSET
    force_eviction_when_busy: bool | UnsetType = UNSET
    size_aware_eviction: bool | UnsetType = UNSET
    lru_eviction_max_retries: int | UnsetType = UNSET
    lru_eviction_retry_interval: str | UnsetType = UNSET


class SettingsUpdated(msgspec.Struct, frozen=True):
    """What LocalAI says to a change."""

    success: bool = True
    message: str = "Settings updated successfully"
