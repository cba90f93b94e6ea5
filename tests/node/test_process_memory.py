from __future__ import annotations

import os
from types import SimpleNamespace

import psutil
import pytest

from localai.node.process_memory import ProcessMemory, read_process_memory


def test_the_parts_add_up() -> None:
    memory = read_process_memory(os.getpid())
    assert memory is not None
    assert memory.total_bytes > 1 << 20
    assert sum(memory.parts.values()) == memory.total_bytes


@pytest.mark.parametrize("pid", [-1, 2**31 - 1])
def test_a_process_that_is_gone_has_none(pid: int) -> None:
    assert read_process_memory(pid) is None


def test_where_the_machine_does_not_tell_parts_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil.Process, "memory_info", lambda _: SimpleNamespace(rss=7))
    assert read_process_memory(os.getpid()) == ProcessMemory(7, {"resident": 7})
