"""Which models stay in memory: making room for a new one, and what the watchdog does (pure).

A *resident* is a model whose worker runs. Making room is asked before a load: it evicts idle residents, least recently
used first, until the limit holds and no resident shares a concurrency group with the new one. A busy resident is waited
for, unless the rules force it; a pinned one, and one that is still loading, is never evicted. After enough waits the
load goes on over the limit, as LocalAI has it, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class ResidencyRules:
    """What limits residents.

    ``max_active`` 0 is no limit. ``idle_s`` and ``busy_s`` None switch their watchdog off. ``memory_threshold``, 0 to
    1, is the share of memory in use from which idle residents are unloaded; None never does. ``largest_first`` evicts
    by size before age.
    """

    max_active: int = 0
    idle_s: float | None = None
    busy_s: float | None = None
    memory_threshold: float | None = None
    force_when_busy: bool = False
    largest_first: bool = False
    max_retries: int = 30
    retry_interval_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Resident:
    """One model with a worker."""

    model: str
    last_used: float
    """When a request of it last began or ended, or it was loaded."""
    oldest_request: float | None = None
    """When the longest running request began; None when it is idle."""
    is_loading: bool = False
    is_pinned: bool = False
    groups: frozenset[str] = frozenset()
    memory_bytes: int = 0

    @property
    def is_busy(self) -> bool:
        """A request is in it."""
        return self.oldest_request is not None


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A model that is about to be loaded."""

    model: str
    groups: frozenset[str] = frozenset()
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """There is room. ``over_limit`` when that is not true and waiting has not helped."""

    over_limit: bool = False


@dataclass(frozen=True, slots=True)
class Evict:
    """Unload these first, then ask again."""

    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """All that could go is in use: ask again after a while."""

    seconds: float


Room: TypeAlias = Load | Evict | Wait


@dataclass(frozen=True, slots=True)
class Unload:
    """End the worker of a resident. ``force`` when a request hangs in it, which then fails."""

    model: str
    reason: str
    force: bool = False


def make_room(
    newcomer: Newcomer,
    residents: Sequence[Resident],
    rules: ResidencyRules,
    retries: int,
    free_bytes: int | None = None,
) -> Room:
    """What to do before ``newcomer`` is loaded; ``retries`` counts the waits so far.

    ``free_bytes`` is the memory that nobody uses. Idle residents give way to a newcomer that needs more; it is not
    waited for, since a model whose file is mapped needs less than its size, and its worker checks what it takes.
    """
    others = [resident for resident in residents if resident.model != newcomer.model]
    rivals = [resident for resident in others if resident.groups & newcomer.groups]
    surplus = len(others) + 1 - rules.max_active if rules.max_active > 0 else 0
    evictable = [resident for resident in _by_worth(others, rules) if _may_go(resident, rules)]
    chosen = [resident for resident in evictable if resident in rivals]
    rest = [resident for resident in evictable if resident not in chosen]
    more = max(0, surplus - len(chosen))
    chosen, rest = chosen + rest[:more], rest[more:]
    shortage = 0 if free_bytes is None else newcomer.memory_bytes - free_bytes
    shortage -= sum(resident.memory_bytes for resident in chosen)
    for resident in rest:
        if shortage > 0 and not resident.is_busy:
            chosen.append(resident)
            shortage -= resident.memory_bytes
    if chosen:
        return Evict(tuple(resident.model for resident in chosen))
    if not rivals and surplus <= 0:
        return Load()
    if retries < rules.max_retries:
        return Wait(rules.retry_interval_s)
    return Load(over_limit=True)


def watch(residents: Sequence[Resident], rules: ResidencyRules, memory_share: float, now: float) -> list[Unload]:
    """What the watchdog does now. ``memory_share``, 0 to 1, is how much of the memory is in use."""
    unloads: list[Unload] = []
    for resident in residents:
        if resident.oldest_request is not None:
            if rules.busy_s is not None and now - resident.oldest_request > rules.busy_s:
                reason = f"a request has been running for more than {rules.busy_s:g} s"
                unloads.append(Unload(resident.model, reason, force=True))
        elif rules.idle_s is not None and now - resident.last_used > rules.idle_s and not _stays(resident):
            unloads.append(Unload(resident.model, f"not used for {rules.idle_s:g} s"))
    if rules.memory_threshold is not None and memory_share > rules.memory_threshold and not unloads:
        idle = [resident for resident in _by_worth(residents, rules) if _may_go(resident, rules)]
        unloads += [Unload(resident.model, f"memory is {memory_share:.0%} full") for resident in idle[:1]]
    return unloads


def _stays(resident: Resident) -> bool:
    return resident.is_loading or resident.is_pinned


def _may_go(resident: Resident, rules: ResidencyRules) -> bool:
    return not _stays(resident) and (rules.force_when_busy or not resident.is_busy)


def _by_worth(residents: Sequence[Resident], rules: ResidencyRules) -> list[Resident]:
    """Those to part with first, first: idle before busy, then by size if asked, then by age; names settle ties."""
    return sorted(
        residents,
        key=lambda resident: (
            resident.is_busy,
            -resident.memory_bytes if rules.largest_first else 0,
            resident.last_used,
            resident.model,
        ),
    )
