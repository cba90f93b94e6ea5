from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from localai.mesh.errors import Unavailable
from localai.mesh.host import patches
from localai.mesh.testing import hosts as hosts_module
from localai.mesh.testing.hosts import echo, loopback_hosts, read_exactly, wait_until, wire_to


@pytest.fixture
def anyio_backend() -> str:
    """libp2p runs on trio."""
    return "trio"


@pytest.fixture(autouse=True)
def patched() -> None:
    """As in the mesh process."""
    patches.apply()


async def test_a_wire_carries_freezes_thaws_and_is_cut() -> None:
    async with loopback_hosts(1, 2) as (one, other), wire_to(other) as wire:
        other.host.serve("/echo", echo)
        await one.host.dial(other.host.peer_id, [wire.address])
        stream = await one.host.open_stream(other.host.peer_id, "/echo")
        await stream.write(b"hello")
        assert await read_exactly(stream, 5) == b"hello"
        wire.freeze()
        await stream.write(b"frozen")
        with trio.move_on_after(0.05) as scope:
            await read_exactly(stream, 6)
        assert scope.cancelled_caught
        wire.thaw()
        assert await read_exactly(stream, 6) == b"frozen"
        await wire.cut()
        with suppress(Unavailable):
            assert await read_exactly(stream, 1) == b""
        for running, peer in ((one, other.host.peer_id), (other, one.host.peer_id)):
            await wait_until(lambda running=running: len(running.changes) == 2)  # type: ignore[misc]  # bound at once
            assert running.changes == [("connected", peer), ("disconnected", peer)]


async def test_waiting_in_vain_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "TIMEOUT_S", 0.02)
    with pytest.raises(trio.TooSlowError):
        await wait_until(lambda: False)
