"""Real mesh processes. What a link promises is in ``check_link``; here are the process's life and its secrets."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from localai.mesh.control import Joined, KnownPeer, Left, Ready, RecordChanged, RecordExpired
from localai.mesh.errors import SetupError, Unavailable
from localai.mesh.identity import Identity, identity_from_private_key
from localai.mesh.ids import NetworkId
from localai.mesh.link import Link, LinkEvent, MeshLink, MeshSettings, start_mesh
from localai.mesh.network_token import ALPHABET, new_network_token
from localai.mesh.testing.check_link import PROTOCOL, Watcher, check_link, connect

pytestmark = pytest.mark.e2e

TOKEN = new_network_token(lambda size: "".join(random.Random(size).choices(ALPHABET, k=size)))
LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)


def identity(seed: int) -> Identity:
    return identity_from_private_key(bytes([seed]) * 32)


def settings(seed: int, *known: MeshLink, **changes: object) -> MeshSettings:
    values: dict[str, object] = {
        "identity": identity(seed),
        "token": TOKEN,
        "network_id": NetworkId(""),
        "protocols": (PROTOCOL,),
        "listen": LOOPBACK,
        "known": tuple(KnownPeer(link.peer_id, link.statistics().addresses) for link in known),
        "mdns": False,
        **changes,
    }
    return MeshSettings(**values)  # type: ignore[arg-type]  # as named


async def test_it_keeps_what_links_promise() -> None:
    started: list[MeshLink] = []

    async def join(seed: int) -> Link:
        started.append(await start_mesh(settings(seed, *started)))
        return started[-1]

    async with asyncio.timeout(60):
        await check_link(join)
    for link in started:
        assert not link._folder.exists()


@dataclass(slots=True)
class Recorder(Watcher):
    """Keeps all events of a link in order."""

    seen: list[LinkEvent] = field(default_factory=list)

    def _take(self, event: LinkEvent) -> None:
        self.seen.append(event)
        Watcher._take(self, event)


async def test_a_killed_mesh_process_comes_back_and_tells_no_secrets() -> None:
    with capture_logs() as lines:
        one = await start_mesh(settings(1, log_level="debug"))
        other = await start_mesh(settings(2, one, log_level="debug"))
        watchers = [Recorder(one), Recorder(other)]
        readers = [asyncio.create_task(watcher.run()) for watcher in watchers]
        try:
            await kill_one(one, other, *watchers)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(one.aclose(), other.aclose())
    shown = "\n".join(str(line.get("line")) for line in lines if line["event"] == "child_output")
    assert "member_joined" in shown
    for secret in secrets_of(one):
        assert secret not in shown


async def kill_one(one: MeshLink, other: MeshLink, first: Recorder, second: Recorder) -> None:
    one.publish(b"I am the first")
    other.publish(b"I am the second")
    await first.wait(lambda: first.records.get(other.peer_id) == b"I am the second", "a record")
    await second.wait(lambda: second.records.get(one.peer_id) == b"I am the first", "a record")
    near, far = await connect(one, other)
    before, pid = one.statistics(), one.statistics().pid
    assert_no_secrets(pid, one)
    await refuse_nonsense(one)
    first.seen.clear()
    second.seen.clear()

    os.kill(pid, signal.SIGKILL)
    for stream in (near, far):
        assert await ended(stream.reader)
        stream.writer.close()
    await first.wait(lambda: RecordChanged(other.peer_id, b"I am the second") in first.seen, "the record again")
    left, expired, ready, joined, record = first.seen[:5]
    assert left == Left(other.peer_id, "the mesh process of this node ended")
    assert expired == RecordExpired(other.peer_id)
    assert isinstance(ready, Ready)
    assert ready.listen == before.listen
    assert isinstance(joined, Joined)
    assert isinstance(record, RecordChanged)
    assert one.statistics().restarts == 1
    assert one.statistics().pid != pid
    assert not Path(f"/proc/{pid}").exists()
    await second.wait(lambda: kinds(second.seen)[:2] == [Left, Joined], "coming back")
    again, back = await connect(other, one)
    again.writer.write(b"hello")
    assert await back.reader.readexactly(5) == b"hello"
    again.writer.close()
    back.writer.close()


def kinds(events: list[LinkEvent]) -> list[type[LinkEvent]]:
    return [type(event) for event in events if isinstance(event, Joined | Left)]


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(10):
            return await reader.read() == b""
    except ConnectionError:
        return True


def secrets_of(link: MeshLink) -> list[str]:
    token = link._settings.token
    return [
        token.text.reveal(),
        token.room.reveal(),
        token.mdns.reveal(),
        token.rendezvous.reveal(),
        token.dht.key.reveal(),
        token.crypto.key.reveal(),
        link._settings.identity.private_key.reveal().hex(),
    ]


def assert_no_secrets(pid: int, link: MeshLink) -> None:
    """Everybody on the machine can read these."""
    for name in ("cmdline", "environ"):
        content = Path(f"/proc/{pid}/{name}").read_bytes()
        assert b"localai.mesh.process" in content or name == "environ"
        for secret in secrets_of(link):
            assert secret.encode() not in content
    assert link._folder.stat().st_mode & 0o077 == 0


async def refuse_nonsense(link: MeshLink) -> None:
    """Other programs of this user can reach the socket for inbound streams."""
    for garbage in (b"\xff\xff\xff\xff" + bytes(5000), b"\x00\x00\x00\x02hi", b"\x00"):
        reader, writer = await asyncio.open_unix_connection(link._inbound_path)
        writer.write(garbage)
        writer.write_eof()
        assert await ended(reader)
        writer.close()
    with pytest.raises(Unavailable, match="not connected"):
        await link.open(identity(9).peer_id, PROTOCOL)


async def test_an_address_that_cannot_be_had_is_told_or_replaced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken = (f"/ip4/127.0.0.1/tcp/{busy.getsockname()[1]}",)
        refused, replaced = await asyncio.gather(
            start_mesh(settings(1, listen=taken)),
            start_mesh(settings(2, listen=taken, fallback_listen=LOOPBACK)),
            return_exceptions=True,
        )
    assert isinstance(refused, SetupError)
    assert f"cannot listen on {taken[0]}" in refused.message
    assert "--p2p-listen" in refused.message
    assert isinstance(replaced, MeshLink)
    assert replaced.statistics().listen[0] != taken[0]
    await replaced.aclose()


async def test_closing_while_it_restarts() -> None:
    """Whatever moment of the restart it is: the end does not hang, and nothing is left."""
    for turns in range(4):
        link = await start_mesh(settings(1))
        os.kill(link.statistics().pid, signal.SIGKILL)
        reading = asyncio.create_task(link.receive())  # the end of the first process may be told here, or later
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await link.aclose()
        reading.cancel()
        assert link.statistics().pid == 0
