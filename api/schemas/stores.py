"""Bodies of ``/stores/...``, as LocalAI has them (pure). Keys are vectors, values their texts."""

from __future__ import annotations

import msgspec


class StoreBody(msgspec.Struct, frozen=True, kw_only=True):
    """What all of them say. ``store`` is the name of the store."""

    store: str = ""
    backend: str = ""


class SetBody(StoreBody, frozen=True, kw_only=True):
    """``POST /stores/set``."""

    keys: list[list[float]] = []
    values: list[str] = []


class KeysBody(StoreBody, frozen=True, kw_only=True):
    """``POST /stores/get`` and ``/stores/delete``."""

    keys: list[list[float]] = []


class FindBody(StoreBody, frozen=True, kw_only=True):
    """``POST /stores/find``."""

    key: list[float] = []
    topk: int


class EntriesResponse(msgspec.Struct, frozen=True):
    """What was got: key i belongs to value i."""

    keys: list[tuple[float, ...]]
    values: list[str]


class MatchesResponse(msgspec.Struct, frozen=True):
    """What was found, best first."""

    keys: list[tuple[float, ...]]
    values: list[str]
    similarities: list[float]
