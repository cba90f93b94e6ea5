"""Members on real hosts; strangers are hosts that speak the membership protocol by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from localai.mesh import members as members_module
from localai.mesh.errors import Unavailable
from localai.mesh.host import host as host_module
from localai.mesh.host import patches
from localai.mesh.host.host import Host, HostStream
from localai.mesh.identity import identity_from_private_key
from localai.mesh.ids import PeerId
from localai.mesh.members import MAX_ADDRESS_CHARS, MAX_ADDRESSES, MemberEvents, Members, OwnSide, Proofs, Timing
from localai.mesh.membership_frames import (
    MEMBERSHIP_VERSION,
    PROTOCOL,
    Greeting,
    Leaving,
    MembershipFrame,
    Ping,
    Pong,
    Record,
    membership_codec,
)
from localai.mesh.testing.hosts import LoopbackHost, loopback_hosts, wait_until, wire_to
from localai.mesh.wire import FrameDecoder

QUICK = Timing(greeting_s=0.2, ping_s=0.05, silence_s=0.4, reopen_s=0.05)
PATIENT = Timing(greeting_s=5.0, ping_s=0.1, silence_s=10.0, reopen_s=0.05)
SMALL, GREAT = sorted((1, 2), key=lambda seed: identity_from_private_key(bytes([seed]) * 32).peer_id)
"""Seeds of two hosts; the first one opens the stream."""


@pytest.fixture
def anyio_backend() -> str:
    """libp2p runs on trio."""
    return "trio"


@pytest.fixture(autouse=True)
def patched() -> None:
    """As in the mesh process."""
    patches.apply()


@dataclass(slots=True, eq=False)
class Side:
    """One node with its members, and what it was told."""

    running: LoopbackHost
    timing: Timing
    secret: bytes = b"token"
    own_records: list[bytes] = field(default_factory=list)
    events: list[tuple[str, ...]] = field(default_factory=list)
    addresses: dict[PeerId, tuple[str, ...]] = field(default_factory=dict)
    records: list[bytes] = field(default_factory=list)
    strangers: list[PeerId] = field(default_factory=list)
    nursery: trio.Nursery | None = None
    members: Members = field(init=False)

    def __post_init__(self) -> None:
        self.members = Members(
            self.host,
            Proofs(
                lambda peer: proof(self.secret, self.host.peer_id, peer),
                lambda peer, shown: shown == proof(self.secret, peer, self.host.peer_id),
            ),
            MemberEvents(self._joined, self._left, self.strangers.append, self.records.append),
            OwnSide(self.host.listening, lambda: self.own_records),
            self.timing,
        )

    @property
    def host(self) -> Host:
        return self.running.host

    def _joined(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        self.addresses[peer] = addresses
        self.events.append(("joined", peer))

    def _left(self, peer: PeerId, reason: str) -> None:
        self.events.append(("left", peer, reason))


def proof(secret: bytes, prover: PeerId, verifier: PeerId) -> bytes:
    return secret + f"{prover} {verifier}".encode()


@asynccontextmanager
async def sides(timing: Timing = PATIENT) -> AsyncIterator[tuple[Side, Side]]:
    """The one that opens, and the one that accepts. Connections are told to the members as the swarm does."""
    async with loopback_hosts(SMALL, GREAT) as pair, trio.open_nursery() as nursery:
        small, great = (Side(running, timing, nursery=nursery) for running in pair)
        nursery.start_soon(tell_connections, small)
        nursery.start_soon(tell_connections, great)
        yield small, great
        nursery.cancel_scope.cancel()


async def tell_connections(side: Side) -> None:
    told = 0
    assert side.nursery is not None
    while True:
        while len(side.running.changes) == told:  # noqa: ASYNC110  # nobody could set an event
            await trio.sleep(0.005)
        kind, peer = side.running.changes[told]
        told += 1
        if kind == "connected":
            side.nursery.start_soon(side.members.connected, peer)


async def dial(one: Side, other: Side) -> None:
    await one.host.dial(other.host.peer_id, other.host.listening())


async def meet(one: Side, other: Side) -> None:
    await dial(one, other)
    await wait_until(lambda: other.host.peer_id in one.members and one.host.peer_id in other.members)


class ByHand:
    """One end of a membership stream, driven by a test."""

    def __init__(self, stream: HostStream) -> None:
        self.stream = stream
        self._decoder = FrameDecoder()
        self._frames: list[MembershipFrame] = []

    async def send(self, *frames: MembershipFrame) -> None:
        await self.stream.write(b"".join(membership_codec().encode(frame) for frame in frames))

    async def receive(self) -> MembershipFrame | None:
        """The next frame; None at the end."""
        with trio.fail_after(5):
            while not self._frames:
                try:
                    data = await self.stream.read()
                except Unavailable:
                    data = b""
                if not data:
                    return None
                self._frames += map(membership_codec().decode, self._decoder.feed(data))
        return self._frames.pop(0)


@dataclass(slots=True)
class Stranger:
    """A host without members, and the node that it talks to."""

    host: Host
    node: Side

    def greeting(self, **changes: object) -> Greeting:
        """As a member says it, but for what is given."""
        good = proof(self.node.secret, self.host.peer_id, self.node.host.peer_id)
        values: dict[str, object] = {"version": MEMBERSHIP_VERSION, "proof": good, "addresses": (), **changes}
        return Greeting(**values)  # type: ignore[arg-type]  # as named

    async def open(self) -> ByHand:
        await self.host.dial(self.node.host.peer_id, self.node.host.listening())
        return ByHand(await self.host.open_stream(self.node.host.peer_id, PROTOCOL))

    async def join(self) -> ByHand:
        hand = await self.open()
        await hand.send(self.greeting())
        assert isinstance(await hand.receive(), Greeting)
        return hand


@asynccontextmanager
async def stranger(timing: Timing = PATIENT) -> AsyncIterator[Stranger]:
    """A stranger that opens, and a node that accepts."""
    async with loopback_hosts(SMALL, GREAT) as (small, great), trio.open_nursery() as nursery:
        node = Side(great, timing, nursery=nursery)
        nursery.start_soon(tell_connections, node)
        yield Stranger(small.host, node)
        nursery.cancel_scope.cancel()


# Joining


@pytest.mark.parametrize("dialler", [0, 1], ids=["opener dials", "acceptor dials"])
async def test_two_with_the_same_secret_join_and_tell_each_other_everything(dialler: int) -> None:
    async with sides() as both:
        small, great = both
        small.own_records += [b"one", b"two"]
        great.own_records += [b"three"]
        await meet(both[dialler], both[1 - dialler])
        await wait_until(lambda: great.records == [b"one", b"two"] and small.records == [b"three"])
        assert small.events == [("joined", great.host.peer_id)]
        assert great.events == [("joined", small.host.peer_id)]
        assert small.addresses[great.host.peer_id] == great.host.listening()
        assert great.addresses[small.host.peer_id] == small.host.listening()
        assert small.members.peers() == (great.host.peer_id,)
        small.members.send_record(b"news")
        await wait_until(lambda: great.records[-1] == b"news")
        assert not small.members.counts
        assert not great.strangers


async def test_pings_keep_quiet_members_together() -> None:
    async with sides(QUICK) as (small, great):
        await meet(small, great)
        await trio.sleep(1.5 * QUICK.silence_s)  # the subject: that nothing happens in it
        assert [event[0] for event in small.events + great.events] == ["joined", "joined"]


async def test_a_ping_is_answered_and_odd_frames_are_let_pass() -> None:
    async with stranger() as s:
        hand = await s.join()
        await hand.send(Ping(7), Pong(1), s.greeting(), Record(b"r"), Ping(8))
        numbers: list[int] = []
        while len(numbers) < 2:
            frame = await hand.receive()
            if isinstance(frame, Pong):
                numbers.append(frame.number)
        assert numbers == [7, 8]
        assert s.node.records == [b"r"]
        assert len(s.node.events) == 1


async def test_a_member_cannot_flood_with_addresses() -> None:
    async with stranger() as s:
        hand = await s.open()
        addresses = ("/ip4/192.0.2.1/tcp/" + "1" * MAX_ADDRESS_CHARS, *(f"/ip4/192.0.2.1/tcp/{n}" for n in range(900)))
        await hand.send(s.greeting(addresses=addresses))
        await wait_until(lambda: bool(s.node.addresses))
        assert s.node.addresses[s.host.peer_id] == addresses[1 : MAX_ADDRESSES + 1]


async def test_frames_sent_along_with_the_greeting_count() -> None:
    async with stranger() as s:
        hand = await s.open()
        await hand.send(s.greeting(), Record(b"early"))
        await wait_until(lambda: s.node.records == [b"early"])


# Strangers


async def test_two_secrets_do_not_mix() -> None:
    async with sides() as (small, great):
        great.secret = b"another token"
        small.own_records.append(b"secret")
        await dial(small, great)
        await wait_until(lambda: bool(small.strangers and great.strangers))
        assert small.members.counts["strangers_refused"] == great.members.counts["strangers_refused"] == 1
        assert small.events == great.events == []
        assert not great.records


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x02hi",
        b"\x7f\xff\xff\xff",
        membership_codec().encode(Record(b"no greeting first")),
        membership_codec().encode(Greeting(MEMBERSHIP_VERSION, b"")),
    ],
    ids=["http", "no frame", "endless frame", "no greeting", "no proof"],
)
async def test_nonsense_is_refused_without_an_answer(data: bytes) -> None:
    async with stranger() as s:
        s.node.own_records.append(b"secret")
        hand = await s.open()
        await hand.stream.write(data)
        assert await hand.receive() is None
        await wait_refused(s)


async def wait_refused(s: Stranger) -> None:
    await wait_until(lambda: s.node.strangers == [s.host.peer_id])
    assert s.node.members.counts["strangers_refused"] == 1
    assert s.node.events == []
    assert s.node.members.peers() == ()


@pytest.mark.parametrize(
    "changes", [{"proof": b"wrong"}, {"version": MEMBERSHIP_VERSION + 1}], ids=["wrong proof", "another version"]
)
async def test_a_greeting_that_does_not_fit_is_refused(changes: dict[str, object]) -> None:
    async with stranger() as s:
        hand = await s.open()
        await hand.send(s.greeting(**changes))
        assert await hand.receive() is None
        await wait_refused(s)


async def test_a_proof_for_another_node_is_worth_nothing() -> None:
    async with stranger() as s:
        hand = await s.open()
        await hand.send(s.greeting(proof=proof(s.node.secret, s.node.host.peer_id, s.host.peer_id)))
        assert await hand.receive() is None
        await wait_refused(s)


async def test_silence_is_refused() -> None:
    async with stranger(QUICK) as s:
        hand = await s.open()
        assert await hand.receive() is None
        await wait_refused(s)


async def test_ending_the_stream_at_once_is_refused() -> None:
    async with stranger() as s:
        hand = await s.open()
        await hand.stream.write(b"\x00")  # so that the protocol has been agreed on
        await hand.stream.close()
        await wait_refused(s)


async def test_a_connection_that_breaks_says_nothing_about_the_peer() -> None:
    async with stranger() as s:
        hand = await s.open()
        await hand.stream.write(b"\x00")
        await trio.testing.wait_all_tasks_blocked()
        await s.host.disconnect(s.node.host.peer_id)
        await wait_until(lambda: s.node.running.changes[-1][0] == "disconnected")
        await trio.testing.wait_all_tasks_blocked()
        assert s.node.strangers == []


async def test_who_connects_and_never_greets_is_refused() -> None:
    async with stranger(QUICK) as s:
        await s.host.dial(s.node.host.peer_id, s.node.host.listening())
        await wait_refused(s)


async def test_who_left_before_it_was_to_greet_is_nobodys_business() -> None:
    async with stranger(QUICK) as s:
        await s.host.dial(s.node.host.peer_id, s.node.host.listening())
        await s.host.disconnect(s.node.host.peer_id)
        await wait_until(lambda: len(s.node.running.changes) == 2)
        await trio.sleep(2.5 * QUICK.greeting_s)  # the subject: that nothing happens in it
        assert s.node.strangers == []


async def test_who_comes_back_gets_all_its_time_to_greet() -> None:
    async with stranger(PATIENT) as s:
        members = Members(
            s.node.host,
            s.node.members._proofs,
            s.node.members._events,
            s.node.members._own,
            QUICK,
        )
        await s.host.dial(s.node.host.peer_id, s.node.host.listening())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(members.connected, s.host.peer_id)
            await trio.sleep(QUICK.greeting_s)
            nursery.start_soon(members.connected, s.host.peer_id)
            await trio.sleep(1.5 * QUICK.greeting_s)
            assert s.node.strangers == []
        assert s.node.strangers == [s.host.peer_id]


async def test_a_node_of_another_program_is_refused_once() -> None:
    """The opener's side: the peer does not even know the protocol."""
    async with loopback_hosts(SMALL, GREAT) as (small, great), trio.open_nursery() as nursery:
        node = Side(small, QUICK, nursery=nursery)
        await node.host.dial(great.host.peer_id, great.host.listening())
        with trio.fail_after(5):
            await node.members.connected(great.host.peer_id)
        assert node.strangers == [great.host.peer_id]
        assert node.members.counts["strangers_refused"] == 1


async def test_an_acceptor_without_proof_is_refused_by_the_opener() -> None:
    async with loopback_hosts(SMALL, GREAT) as (small, great), trio.open_nursery() as nursery:
        node = Side(small, PATIENT, nursery=nursery)

        async def pretend(peer: PeerId, stream: HostStream) -> None:
            hand = ByHand(stream)
            assert isinstance(await hand.receive(), Greeting)
            await hand.send(Greeting(MEMBERSHIP_VERSION, b"guessed"), Record(b"poison"))
            await hand.receive()

        great.host.serve(PROTOCOL, pretend)
        await node.host.dial(great.host.peer_id, great.host.listening())
        with trio.fail_after(5):
            await node.members.connected(great.host.peer_id)
        assert node.strangers == [great.host.peer_id]
        assert node.events == []
        assert node.records == []


# Leaving and coming back


async def test_leaving_is_told_with_its_reason() -> None:
    async with sides() as (small, great):
        await meet(small, great)
        await small.members.leave("the node stops")
        small.running.scope.cancel()
        await wait_until(lambda: len(great.events) == 2)
        assert great.events[-1] == ("left", small.host.peer_id, "left: the node stops")


async def test_leaving_without_a_reason_is_leaving_too() -> None:
    async with stranger() as s:
        hand = await s.join()
        await hand.send(Leaving())
        await hand.stream.close()
        await wait_until(lambda: len(s.node.events) == 2)
        assert s.node.events[-1] == ("left", s.host.peer_id, "left")


async def test_a_lost_connection_is_told_on_both_sides() -> None:
    async with sides() as (small, great):
        await meet(small, great)
        await small.host.disconnect(great.host.peer_id)
        await wait_until(lambda: len(small.events) == len(great.events) == 2)
        assert small.events[-1] == ("left", great.host.peer_id, "connection lost")
        assert great.events[-1] == ("left", small.host.peer_id, "connection lost")
        assert small.members.peers() == great.members.peers() == ()
        await meet(great, small)
        await wait_until(lambda: len(small.events) == len(great.events) == 3)


async def test_a_silent_member_is_disconnected() -> None:
    async with sides(QUICK) as (small, great), wire_to(great.running) as wire:
        await small.host.dial(great.host.peer_id, [wire.address])
        await wait_until(lambda: bool(small.events and great.events))
        wire.freeze()
        await wait_until(lambda: len(small.events) == len(great.events) == 2)
        assert small.events[-1] == ("left", great.host.peer_id, "silent for 0.4 s")
        assert great.events[-1] == ("left", small.host.peer_id, "silent for 0.4 s")
        assert not small.host.is_connected(great.host.peer_id)


async def test_a_member_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one that goes on talking."""
    monkeypatch.setattr(members_module, "MAX_UNSENT_FRAMES", 50)
    async with stranger() as s:
        hand = await s.join()
        with suppress(Unavailable):
            while len(s.node.events) < 2:
                s.node.members.send_record(bytes(60_000))
                await hand.send(Ping(1))
                await trio.sleep(0.001)
        await wait_until(lambda: len(s.node.events) == 2)
        assert s.node.events[-1] == ("left", s.host.peer_id, "does not read")


async def test_garbage_from_a_member_ends_the_membership() -> None:
    async with stranger() as s:
        hand = await s.join()
        await hand.stream.write(b"\x00\x00\x00\x02hi")
        await wait_until(lambda: len(s.node.events) == 2)
        assert s.node.events[-1][0] == "left"
        assert s.node.strangers == []


async def test_a_member_that_greets_anew_takes_its_own_place() -> None:
    async with stranger(QUICK) as s:
        first = await s.join()
        second = await s.join()
        peer = s.host.peer_id
        await wait_until(lambda: len(s.node.events) == 3)
        assert s.node.events == [("joined", peer), ("left", peer, "came back"), ("joined", peer)]
        while await first.receive() is not None:
            pass
        end = trio.current_time() + 1.5 * QUICK.silence_s  # the first stream's silence would show now
        while trio.current_time() < end:
            await second.send(Ping(1))
            assert await second.receive() is not None
        assert len(s.node.events) == 3
        assert peer in s.node.members


async def test_a_member_that_greets_on_a_new_connection_has_lost_the_one_before() -> None:
    async with stranger() as s, wire_to(s.node.running) as wire:
        await s.host.dial(s.node.host.peer_id, [wire.address])
        first = await s.join()
        wire.freeze()
        await s.host.disconnect(s.node.host.peer_id)  # the goodbye does not arrive
        assert len(s.node.running.changes) == 1
        second = await s.join()
        await wait_until(lambda: len(s.node.host._network.get_connections()) == 1)
        assert s.node.events[-1] == ("joined", s.host.peer_id)
        await second.send(Ping(1))
        assert await second.receive() is not None
        assert first.stream.connection_lost


async def test_the_opener_tries_again_while_there_is_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sides() as (small, great), wire_to(great.running) as wire:
        await small.host.dial(great.host.peer_id, [wire.address])
        wire.freeze()
        monkeypatch.setattr(host_module, "OPEN_TIMEOUT_S", 0.1)
        with capture_logs() as lines:
            await wait_until(lambda: [line["event"] for line in lines].count("membership_not_opened") == 2)
        monkeypatch.undo()
        await small.members.connected(great.host.peer_id)  # a second connection: one opener is enough
        wire.thaw()
        await wait_until(lambda: bool(small.events and great.events))
        assert small.strangers == great.strangers == []


async def test_a_connection_on_which_nothing_can_be_opened_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sides() as (small, great), wire_to(great.running) as wire:
        await small.host.dial(great.host.peer_id, [wire.address])
        wire.freeze()
        monkeypatch.setattr(host_module, "OPEN_TIMEOUT_S", 0.01)
        await wait_until(lambda: small.running.changes[-1][0] == "disconnected")
        assert small.strangers == []


async def test_a_greeting_that_cannot_be_sent_is_tried_again() -> None:
    async with loopback_hosts(SMALL, GREAT) as (small, great), trio.open_nursery() as nursery:
        node = Side(small, PATIENT, nursery=nursery)

        async def break_off(peer: PeerId, stream: HostStream) -> None:
            await ByHand(stream).receive()
            nursery.start_soon(great.host.disconnect, peer)
            await trio.sleep_forever()

        great.host.serve(PROTOCOL, break_off)
        await node.host.dial(great.host.peer_id, great.host.listening())
        with capture_logs() as lines, trio.fail_after(5):
            await node.members.connected(great.host.peer_id)
        assert "membership_failed" in [line["event"] for line in lines]
        assert node.strangers == []


async def test_leaving_takes_a_bounded_time_when_somebody_does_not_read() -> None:
    async with stranger() as s:
        await s.join()
        for _ in range(20):
            s.node.members.send_record(bytes(60_000))
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            await s.node.members.leave("the node stops")
