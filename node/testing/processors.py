"""Processors for processes: so that what is measured does not depend on who shares one with whom."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path


def usable_processors() -> tuple[int, ...]:
    """Numbers of the processors that this process may use, sorted."""
    return tuple(sorted(os.sched_getaffinity(0)))


def keep_to(pid: int, processors: Collection[int]) -> None:
    """Let all threads of a process and of its children run on these only, and what they start from now on."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), processors)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        keep_to(int(child), processors)
