"""Real hosts on loopback; the first one serves the DHT, the others know only it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from localai.mesh.host import patches
from localai.mesh.host import rendezvous as rendezvous_module
from localai.mesh.host.rendezvous import Rendezvous, key_of
from localai.mesh.ids import PeerId
from localai.mesh.testing.hosts import LoopbackHost, loopback_hosts

NAME, OTHER_NAME = "a name of this hour", "a name of another hour"
Found = dict[PeerId, tuple[str, ...]]


@pytest.fixture
def anyio_backend() -> str:
    """libp2p runs on trio."""
    return "trio"


@pytest.fixture(autouse=True)
def patched() -> None:
    """As in the mesh process."""
    patches.apply()


@dataclass(slots=True, eq=False)
class Seeker:
    """A host with its DHT."""

    running: LoopbackHost
    rendezvous: Rendezvous

    async def meet(self, names: list[str], own_names: list[str]) -> Found:
        """One round."""
        found: Found = {}
        with trio.fail_after(20):
            assert await self.rendezvous.meet(names, own_names, found.__setitem__) == 1
        found.pop(self.running.host.peer_id, None)
        return found


@asynccontextmanager
async def seekers(*seeds: int) -> AsyncIterator[tuple[Seeker, ...]]:
    """Members that know one node of the DHT, which knows nobody."""
    found: list[Seeker] = []
    server: list[str] = []

    @asynccontextmanager
    async def with_dht(running: LoopbackHost) -> AsyncIterator[None]:
        seeker = Seeker(running, Rendezvous(running.host, server, server=not server))
        async with seeker.rendezvous.run():
            if server:
                found.append(seeker)
            else:
                server.append(f"{running.host.listening()[0]}/p2p/{running.host.peer_id}")
            yield

    async with loopback_hosts(9, *seeds, inside=with_dht):
        yield tuple(found)


async def test_two_that_know_only_the_server_find_each_other_by_name_and_by_no_other() -> None:
    async with seekers(1, 2) as (one, other):
        assert await one.meet([NAME], [NAME]) == {}
        assert await other.meet([OTHER_NAME], [OTHER_NAME]) == {}
        found = await other.meet([NAME, OTHER_NAME], [NAME])
        assert found == {one.running.host.peer_id: one.running.host.listening()}
        assert await one.meet([NAME], [NAME]) == {other.running.host.peer_id: other.running.host.listening()}


async def test_a_server_that_is_down_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous_module, "LOOKUP_TIMEOUT_S", 0.5)
    async with loopback_hosts(1, 9) as (one, server):
        address = f"{server.host.listening()[0]}/p2p/{server.host.peer_id}"
        server.scope.cancel()
        rendezvous = Rendezvous(one.host, [address], server=False)
        async with rendezvous.run():
            with trio.fail_after(20):
                for _ in range(2):
                    assert await rendezvous.meet([NAME], [NAME], lambda peer, addresses: None) == 0


def test_the_key_is_the_multihash_of_the_name() -> None:
    """Source: ``echo -n hello | sha256sum``."""
    assert key_of("hello").hex() == "12202cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
