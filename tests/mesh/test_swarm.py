"""Several swarms in one loop, on loopback. The whole, with its processes, is in ``test_link.py``."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from localai.mesh import swarm as swarm_module
from localai.mesh.addresses import BadMultiaddr
from localai.mesh.control import (
    CONTROL_VERSION,
    Configure,
    Counted,
    Dial,
    Expose,
    Exposed,
    FromMesh,
    Inbound,
    Joined,
    KnownPeer,
    Left,
    Publish,
    Ready,
    RecordChanged,
    RecordExpired,
    inbound_codec,
)
from localai.mesh.errors import SetupError, Unavailable
from localai.mesh.host import patches
from localai.mesh.host.rendezvous import Rendezvous
from localai.mesh.identity import identity_from_private_key
from localai.mesh.ids import NetworkId, PeerId
from localai.mesh.ledger import DEFAULT_TTL_S
from localai.mesh.network_token import ALPHABET, NetworkToken, new_network_token
from localai.mesh.records import MAX_BODY_BYTES, records_key, seal, sign_record
from localai.mesh.swarm import PUBLISH_S, Swarm
from localai.mesh.testing.hosts import LOOPBACK, LoopbackHost, loopback_hosts, read_exactly, wait_until
from localai.mesh.wire import FrameDecoder

PROTOCOL = "/test/swarm/1"
MIN_PUBLISH_S = 0.2
T = TypeVar("T", bound=msgspec.Struct)


def make_token(seed: int) -> NetworkToken:
    draw = random.Random(seed)
    return new_network_token(lambda size: "".join(draw.choices(ALPHABET, k=size)))


TOKEN, OTHER_TOKEN = make_token(1), make_token(2)


@pytest.fixture
def anyio_backend() -> str:
    """libp2p runs on trio."""
    return "trio"


@pytest.fixture(autouse=True)
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the mesh process, but in more of a hurry."""
    patches.apply()
    monkeypatch.setattr(swarm_module, "MIN_PUBLISH_S", MIN_PUBLISH_S)
    monkeypatch.setattr(swarm_module, "SEND_AWAY_S", 0.1)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Unix sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="swarm-") as path:
        yield Path(path)


@dataclass(slots=True, eq=False)
class Node:
    """A swarm, and what it told its node."""

    swarm: Swarm
    configure: Configure
    told: list[FromMesh]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def peer(self) -> PeerId:
        return identity_from_private_key(self.configure.private_key).peer_id

    def of(self, kind: type[T]) -> list[T]:
        """Everything of one kind that it told."""
        return [frame for frame in self.told if isinstance(frame, kind)]

    @property
    def known(self) -> KnownPeer:
        return KnownPeer(self.peer, self.of(Ready)[0].addresses)

    @property
    def counts(self) -> Counter[str]:
        """What it will report within a second."""
        return self.swarm._counts + self.swarm._members.counts

    def record_of(self, other: Node) -> bytes | None:
        records = [frame.body for frame in self.of(RecordChanged) if frame.author == other.peer]
        return records[-1] if records else None

    async def expose(self, peer: PeerId, protocol: str = PROTOCOL) -> Exposed:
        before = len(self.of(Exposed))
        self.swarm.take(Expose(peer, protocol))
        await wait_until(lambda: len(self.of(Exposed)) > before)
        return self.of(Exposed)[-1]


class Nodes:
    """Starts nodes."""

    def __init__(self, nursery: trio.Nursery, folder: Path) -> None:
        self._nursery = nursery
        self._folder = folder

    async def start(self, seed: int, *known: Node, **changes: object) -> Node:
        """A node that knows others."""
        own_folder = self._folder / str(seed)
        own_folder.mkdir(exist_ok=True)
        configure = msgspec.structs.replace(
            Configure(
                version=CONTROL_VERSION,
                private_key=bytes([seed]) * 32,
                token=TOKEN.text.reveal(),
                network_id="",
                listen=(LOOPBACK,),
                protocols=(PROTOCOL,),
                inbound_path=str(own_folder / "in"),
                folder=str(own_folder),
                known=tuple(node.known for node in known),
                mdns=False,
            ),
            **changes,
        )
        told: list[FromMesh] = []
        node = Node(Swarm(configure, told.append), configure, told)
        self._nursery.start_soon(self._run, node)
        await wait_until(lambda: bool(node.of(Ready)))
        return node

    @staticmethod
    async def _run(node: Node) -> None:
        with node.scope:
            await node.swarm.run()


@asynccontextmanager
async def nodes(folder: Path) -> AsyncIterator[Nodes]:
    async with trio.open_nursery() as nursery:
        yield Nodes(nursery, folder)
        nursery.cancel_scope.cancel()


async def wait_joined(one: Node, other: Node) -> None:
    await wait_until(lambda: bool(one.of(Joined)) and bool(other.of(Joined)))


@asynccontextmanager
async def two_members(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    async with nodes(folder) as start:
        one = await start.start(1)
        other = await start.start(2, one)
        await wait_joined(one, other)
        yield one, other


# Members and records


async def test_who_knows_an_address_finds_the_member_and_hears_its_record(folder: Path) -> None:
    async with nodes(folder) as start:
        one = await start.start(1)
        one.swarm.take(Publish(b"said before anybody came"))
        other = await start.start(2, one)
        other.swarm.take(Publish(b"hello"))
        await wait_joined(one, other)
        assert one.of(Joined) == [Joined(other.peer, other.of(Ready)[0].addresses)]
        await wait_until(lambda: other.record_of(one) == b"said before anybody came")
        await wait_until(lambda: one.record_of(other) == b"hello")
        assert one.of(Ready) == [Ready(one.peer, one.swarm.addresses(), one.swarm.addresses())]


async def test_records_that_change_are_sent_at_once_and_the_newest_wins(folder: Path) -> None:
    async with two_members(folder) as (one, other):
        for number in range(4):
            one.swarm.take(Publish(b"state %d" % number))
        await wait_until(lambda: other.record_of(one) == b"state 3")
        began = trio.current_time()
        one.swarm.take(Publish(b"later"))
        await wait_until(lambda: other.record_of(one) == b"later")
        assert trio.current_time() - began < PUBLISH_S / 2, "it did not wait for its turn"
        bodies = [frame.body for frame in other.of(RecordChanged)]
        assert len(bodies) <= 4, "limited in rate"


async def test_a_record_that_is_too_long_is_not_sent_in_part(folder: Path) -> None:
    async with two_members(folder) as (one, other):
        with capture_logs() as lines:
            one.swarm.take(Publish(bytes(MAX_BODY_BYTES + 1)))
        assert [line["event"] for line in lines] == ["record_too_long"]
        one.swarm.take(Publish(bytes(MAX_BODY_BYTES)))
        await wait_until(lambda: other.record_of(one) == bytes(MAX_BODY_BYTES))
        assert len(other.of(RecordChanged)) == 1


async def test_a_member_that_is_told_later_is_dialled(folder: Path) -> None:
    async with nodes(folder) as start:
        one, other = await start.start(1), await start.start(2)
        one.swarm.take(Dial(KnownPeer(other.peer, ("/ip4/127.0.0.1/tcp/1",), given=True)))
        one.swarm.take(Dial(other.known))
        await wait_joined(one, other)


async def test_a_lost_member_is_found_again(folder: Path) -> None:
    async with two_members(folder) as (one, other):
        await one.swarm._host.disconnect(other.peer)
        await wait_until(lambda: len(one.of(Joined)) == len(other.of(Joined)) == 2)
        kinds = [type(frame) for frame in one.told if isinstance(frame, Joined | Left)]
        assert kinds == [Joined, Left, Joined]


def test_leaving_is_told_and_the_record_expires_later(folder: Path) -> None:
    clock = trio.testing.MockClock(rate=1.0)

    async def main() -> None:
        async with two_members(folder) as (one, other):
            other.swarm.take(Publish(b"hello"))
            await wait_until(lambda: one.record_of(other) == b"hello")
            await other.swarm.leave()
            other.scope.cancel()
            await wait_until(lambda: bool(one.of(Left)))
            assert one.of(Left) == [Left(other.peer, "left: the node stops")]
            clock.jump(DEFAULT_TTL_S)
            await wait_until(lambda: one.of(RecordExpired) == [RecordExpired(other.peer)])

    trio.run(main, clock=clock)


@pytest.mark.parametrize(
    "changes", [{"token": OTHER_TOKEN.text.reveal()}, {"network_id": "elsewhere"}], ids=["token", "network id"]
)
async def test_strangers_with_the_right_address_get_nothing(folder: Path, changes: dict[str, object]) -> None:
    async with nodes(folder) as start:
        one = await start.start(1)
        one.swarm.take(Publish(b"a secret"))
        other = await start.start(2, one, **changes)
        other.swarm.take(Publish(b"another secret"))
        for node in (one, other):
            await wait_until(lambda node=node: node.counts["strangers_refused"] == 1)  # type: ignore[misc]
        await wait_until(lambda: not one.swarm._host.connected() and not other.swarm._host.connected())
        for node in (one, other):
            assert not node.of(Joined)
            assert not node.of(RecordChanged)
        stranger = await other.expose(one.peer)
        assert await says_nothing(stranger.path)


async def test_garbage_instead_of_records_is_counted(folder: Path) -> None:
    async with two_members(folder) as (one, other):
        await other.swarm._gossip.publish(b"garbage")
        other.swarm._members.send_record(b"more garbage")
        await wait_until(lambda: one.counts["records_unreadable"] == 2)
        await wait_until(lambda: bool(one.of(Counted)) and one.of(Counted)[-1].counts.get("records_unreadable") == 2)
        assert one.of(Counted)[-1].counts["broken_handlers"] == 0


async def test_a_record_of_ours_that_is_newer_than_ours_is_overtaken(folder: Path) -> None:
    """Our clock has been set back since our earlier run, whose record lives on at others."""
    async with two_members(folder) as (one, other):
        one.swarm.take(Publish(b"of now"))
        await wait_until(lambda: other.record_of(one) == b"of now")
        identity = identity_from_private_key(one.configure.private_key)
        late = one.swarm._epoch + 3_600_000
        record = sign_record(one.peer, late, 7, b"of an earlier run", NetworkId(""), identity.sign)
        sealed = seal(record, records_key(TOKEN, NetworkId(""), time.time()), bytes(12))
        other.swarm._members.send_record(sealed)
        other.swarm._record_arrived("test", sealed)
        assert other.record_of(one) == b"of an earlier run"
        await wait_until(lambda: other.record_of(one) == b"of now")
        assert one.swarm._epoch > late


# Streams


async def serve_inbound(node: Node, answer: bytes, nursery: trio.Nursery) -> list[Inbound]:
    """Be the node: take streams, read a question of five bytes, answer."""
    preambles: list[Inbound] = []
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await listener.bind(node.configure.inbound_path)
    listener.listen(16)

    async def handle(stream: trio.SocketStream) -> None:
        decoder = FrameDecoder()
        payloads: list[bytes] = []
        while not payloads:
            payloads = decoder.feed(await stream.receive_some(1))
        preambles.append(inbound_codec().decode(payloads[0]))
        assert await receive(stream, 5) == b"hello"
        await stream.send_all(answer)
        await stream.aclose()

    nursery.start_soon(partial(trio.serve_listeners, handle, [trio.SocketListener(listener)]))
    return preambles


async def receive(stream: trio.SocketStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (chunk := await stream.receive_some(65_536)):
        data += chunk
    return bytes(data)


async def says_nothing(path: str) -> bool:
    """True when a connection there ends at once."""
    with trio.fail_after(5):
        async with await trio.open_unix_socket(path) as stream:
            try:
                return await stream.receive_some(1) == b""
            except trio.BrokenResourceError:
                return True


async def test_a_stream_leads_from_one_node_to_the_other(folder: Path) -> None:
    async with two_members(folder) as (one, other), trio.open_nursery() as nursery:
        preambles = await serve_inbound(other, b"and hello to you", nursery)
        exposed = await one.expose(other.peer)
        assert exposed == Exposed(other.peer, PROTOCOL, exposed.path)
        for _ in range(2):
            async with await trio.open_unix_socket(exposed.path) as stream:
                await stream.send_all(b"hello")
                assert await receive(stream, 100) == b"and hello to you"
        assert preambles == [Inbound(one.peer, PROTOCOL)] * 2
        nursery.cancel_scope.cancel()


async def test_paths_asked_for_at_once_do_not_meet(folder: Path) -> None:
    async with two_members(folder) as (one, other):
        protocols = [f"/test/{number}" for number in range(8)]
        for protocol in (*protocols, *protocols):
            one.swarm.take(Expose(other.peer, protocol))
        await wait_until(lambda: len(one.of(Exposed)) == 16)
        assert [exposed.problem for exposed in one.of(Exposed)] == [""] * 16
        again = {protocol: (await one.expose(other.peer, protocol)).path for protocol in protocols}
        assert len(set(again.values())) == len(protocols)


async def test_a_stream_to_nobody_ends_at_once(folder: Path) -> None:
    async with nodes(folder) as start:
        one = await start.start(1)
        exposed = await one.expose(identity_from_private_key(bytes([7]) * 32).peer_id)
        assert await says_nothing(exposed.path)
        await wait_until(lambda: one.counts["streams_not_opened"] == 1)


async def test_a_stream_for_a_protocol_that_is_not_served_ends_at_once(folder: Path) -> None:
    async with two_members(folder) as (one, other):
        assert await says_nothing((await one.expose(other.peer, "/test/unknown")).path)


async def test_a_stream_to_a_node_that_does_not_accept_ends_at_once(folder: Path) -> None:
    async with two_members(folder) as (one, other):
        with capture_logs() as lines:
            assert await says_nothing((await one.expose(other.peer)).path)
        assert "node_does_not_accept" in [line["event"] for line in lines]


async def test_streams_of_strangers_are_refused(folder: Path) -> None:
    opener, acceptor = sorted((1, 2), key=lambda seed: identity_from_private_key(bytes([seed]) * 32).peer_id)
    async with nodes(folder) as start, loopback_hosts(opener) as (stranger,):
        one = await start.start(acceptor)
        await stranger.host.dial(one.peer, one.known.addresses)
        with suppress(Unavailable):
            stream = await stranger.host.open_stream(one.peer, PROTOCOL)
            assert await read_exactly(stream, 1) == b""
        await wait_until(lambda: one.counts["streams_refused"] == 1)


async def test_what_cannot_be_exposed_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nodes(folder) as start:
        peer = identity_from_private_key(bytes([7]) * 32).peer_id
        one = await start.start(1, folder=str(folder / ("x" * 200)))
        assert (await one.expose(peer)).problem == "the folder's path is too long"
        other = await start.start(2, folder=str(folder / "missing"))
        exposed = await other.expose(peer)
        assert exposed.path == ""
        assert "FileNotFoundError" in exposed.problem
        monkeypatch.setattr(swarm_module, "MAX_EXPOSED", 1)
        third = await start.start(3)
        assert (await third.expose(peer, "/test/1")).path
        assert (await third.expose(peer, "/test/2")).problem == "too many peers"


# Settings


async def test_settings_that_cannot_work_are_refused(folder: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with nodes(folder) as start:
            await start.start(1, listen=("/ip4/192.0.2.1/tcp/4001",))
    assert caught.group_contains(SetupError, match="cannot listen")
    with pytest.raises(ExceptionGroup) as caught:
        async with nodes(folder) as start:
            await start.start(1, bootstrap=("/ip4/192.0.2.1/tcp/4001",))
    assert caught.group_contains(BadMultiaddr, match="does not end in /p2p/")


async def test_members_that_know_only_a_node_of_the_dht_find_each_other(folder: Path) -> None:
    @asynccontextmanager
    async def serving(running: LoopbackHost) -> AsyncIterator[None]:
        async with Rendezvous(running.host, [], server=True).run():
            yield

    async with loopback_hosts(9, inside=serving) as (server,), nodes(folder) as start:
        bootstrap = (f"{server.host.listening()[0]}/p2p/{server.host.peer_id}",)
        one = await start.start(1, bootstrap=bootstrap)
        await wait_until(lambda: one.counts["dht_rounds"] == 1)
        other = await start.start(2, bootstrap=bootstrap)
        await wait_joined(one, other)
        assert one.counts["dht_rounds_without_bootstrap"] == 0
        assert server.host.peer_id in one.swarm._host.connected(), "a stranger, but of use"
