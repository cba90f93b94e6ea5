"""The memory of a process of this machine (shell)."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Bytes in memory, and what they are: the parts add up to the total."""

    total_bytes: int
    parts: dict[str, int]
    """``files``: pages of files such as the model's, which the machine can drop when it needs room; ``own``: the rest.
    Where the machine does not tell them apart: ``resident``."""


def read_process_memory(pid: int) -> ProcessMemory | None:
    """The memory of a process now; None when it is gone or not ours to look at. Reads files: not for the event loop."""
    try:
        memory = psutil.Process(pid).memory_info()
    except (psutil.Error, ValueError):
        return None
    files: int | None = getattr(memory, "shared", None)
    if files is None:
        return ProcessMemory(memory.rss, {"resident": memory.rss})
    files = min(files, memory.rss)
    return ProcessMemory(memory.rss, {"own": memory.rss - files, "files": files})
