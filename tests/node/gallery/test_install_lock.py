"""One installation at a time, also over processes and their children."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from localai.node.gallery.install_lock import install_lock


def _not_waiting() -> None:
    pytest.fail("waited")


async def test_it_is_free_again_and_leaves_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        async with install_lock(tmp_path / "l", _not_waiting):
            assert os.listdir(tmp_path) == ["l"]
        assert os.listdir(tmp_path) == []


async def test_five_holders_one_after_the_other(tmp_path: Path) -> None:
    inside = 0
    waits = []

    async def hold(number: int) -> None:
        nonlocal inside
        async with install_lock(tmp_path / "l", lambda: waits.append(number)):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*map(hold, range(5)))
    assert len(waits) == len(set(waits)) == 4


async def test_a_child_that_outlives_us_keeps_it(tmp_path: Path) -> None:
    waiting = asyncio.Event()
    async with install_lock(tmp_path / "l", _not_waiting) as descriptor:
        child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, pass_fds=[descriptor])  # short
        (tmp_path / "l").rename(tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / "l")

    async def enter() -> None:
        async with install_lock(tmp_path / "l", waiting.set):
            pass

    with child:
        entering = asyncio.ensure_future(enter())
        await waiting.wait()
        assert not entering.done()
        child.communicate()
        await entering


async def test_waiting_can_be_cancelled(tmp_path: Path) -> None:
    waiting = asyncio.Event()
    async with install_lock(tmp_path / "l", _not_waiting):

        async def enter() -> None:
            async with install_lock(tmp_path / "l", waiting.set):
                pytest.fail("entered")

        entering = asyncio.ensure_future(enter())
        await waiting.wait()
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering


async def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with install_lock(tmp_path / "none" / "l", _not_waiting):
            pytest.fail("entered")
